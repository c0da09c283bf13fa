"""Pictures of an image with its segmentation: one slice, or a montage of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import nn

from lunet.data.geometry import spacing_of
from lunet.data.io.images import Scan, read_image, read_label, require_grid
from lunet.errors import ConfigError, DataError
from lunet.files import atomic
from lunet.inference.description import description_of
from lunet.inference.predict import Image as Input
from lunet.inference.predict import predict_native, source_of
from lunet.inference.settings import PredictSettings

Picture = NDArray[np.uint8]
# Okabe and Ito's colours, which colour-blind readers can distinguish too
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
_OPACITY = 0.35
_SIDE = 384  # pixels of a tile's longer side, about
_GAP = 4


def show(
    image: Input,
    segmentation: str | Path | NDArray[np.integer[Any]] | None = None,
    *,
    model: nn.Module | None = None,
    axis: int = 2,
    slices: int = 4,
    channel: int = 0,
    labels: Mapping[str, int] | None = None,
    spacing: Sequence[float] | None = None,
    affine: ArrayLike | None = None,
) -> Image.Image:
    """Draw an image with a segmentation, or with what a network finds in it.

    Parameters
    ----------
    image, spacing, affine
        As for :func:`lunet.predict`.
    segmentation
        A label file on the image's grid, or an array of class indices of its spatial shape.
    model
        A network from :func:`lunet.load_model` that segments the image, instead of
        ``segmentation``.
    axis
        0 sagittal, 1 coronal, 2 axial.
    slices
        1 draws one slice, more draw a montage.
    channel
        Channel of the image to show.
    labels
        Label name -> class index, for the legend; a network brings its own.

    Returns
    -------
    A picture that notebooks display; ``.save("scan.png")`` writes it.

    Raises
    ------
    ConfigError
        If both or none of ``segmentation`` and ``model`` are given, or there is no such axis or
        channel.
    DataError
        If a file cannot be read, or the segmentation is on another grid.
    """
    if (segmentation is None) == (model is None):
        raise ConfigError(
            where="segmentation, model", found="none or both", expected="give one of them"
        )
    source = source_of(image, spacing, affine)
    scan = source if isinstance(source, Scan) else read_image(source)
    if not 0 <= channel < len(scan.array):
        raise ConfigError(
            where="channel",
            found=str(channel),
            expected=f"the image has {len(scan.array)} channel(s)",
        )
    mask, names = _segmented(source, scan, segmentation, model)
    picture = montage(
        scan.array[channel],
        mask,
        scan.affine,
        axis=axis,
        slices=slices,
        names=names | dict(labels or {}),
    )
    return Image.fromarray(picture)


def _segmented(
    source: Scan | Sequence[str | Path],
    scan: Scan,
    segmentation: str | Path | NDArray[np.integer[Any]] | None,
    model: nn.Module | None,
) -> tuple[NDArray[np.integer[Any]], dict[str, int]]:
    """Class indices on the image's grid, and the names that the network knows."""
    if model is not None:
        mask = predict_native([model], scan, settings=PredictSettings())[0]
        return mask, dict(description_of(model).task.labels)
    if not isinstance(segmentation, str | Path):
        return np.asarray(segmentation), {}
    mask, affine = read_label(segmentation)
    where = "image" if isinstance(source, Scan) else source[0]
    require_grid(segmentation, mask.shape, affine, where, scan.array.shape[1:], scan.affine)
    return mask, {}


def montage(
    image: NDArray[Any],
    mask: NDArray[np.integer[Any]],
    affine: NDArray[np.float64],
    *,
    axis: int = 2,
    slices: int = 4,
    names: Mapping[str, int] | None = None,
) -> Picture:
    """Slices with coloured, outlined labels, side by side, in anatomical orientation.

    Parameters
    ----------
    image
        (x, y, z) intensities; shown between their 0.5 and 99.5 percentiles. A picture (x, y) is
        one slice and shown unchanged.
    mask
        Class indices of the same shape.
    affine
        4 x 4 matrix, voxel to mm. Volumes are turned to RAS: the patient's right is at the left of
        an axial or coronal slice, anterior or superior is up. Voxels keep their proportions.
    axis
        0 sagittal, 1 coronal, 2 axial.
    slices
        Number of slices, spread evenly over the labelled part (over all if nothing is labelled).
    names
        Label name -> class index, for the legend.

    Returns
    -------
    (height, width, 3) uint8.

    Raises
    ------
    DataError
        If image and mask differ in shape.
    ConfigError
        If there is no such axis, or no slice is requested.
    """
    if image.shape != mask.shape:
        raise DataError(
            where="segmentation",
            found=f"shape {mask.shape}",
            expected=f"the image has {image.shape}",
        )
    if axis not in (0, 1, 2) or slices < 1:
        raise ConfigError(
            where="--axis, --slices",
            found=f"{axis}, {slices}",
            expected="axis 0 to 2, at least 1 slice",
        )
    grey = _window(image)
    if image.ndim == 2:
        tiles = [_tile(grey.T, mask.T, (1.0, 1.0))]
    else:
        turned, labels, spacing = _canonical(grey, mask, affine)
        planes = [np.take(a, _chosen(labels, axis, slices), axis) for a in (turned, labels)]
        steps = tuple(np.delete(spacing, axis)[::-1])
        tiles = [
            _tile(_upright(planes[0], axis, i), _upright(planes[1], axis, i), steps)
            for i in range(planes[0].shape[axis])
        ]
    return _with_legend(_side_by_side(tiles), names or {}, mask)


def write_picture(path: str | Path, picture: Picture) -> None:
    """Write (height, width, 3) uint8 as PNG, atomically."""
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(where="--out", found=str(path), expected="a .png file is written")
    with atomic(path) as part:
        Image.fromarray(picture).save(part, format="PNG")


def _window(image: NDArray[Any]) -> NDArray[np.float32]:
    values = np.nan_to_num(image.astype(np.float32))
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)


def _canonical(
    grey: NDArray[Any], mask: NDArray[Any], affine: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Both arrays with the axes right, anterior, superior, and the spacing along them."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt("RAS"))
    spacing = np.empty(3)
    spacing[turn[:, 0].astype(int)] = spacing_of(affine)
    return apply_orientation(grey, turn), apply_orientation(mask, turn), spacing


def _chosen(mask: NDArray[Any], axis: int, count: int) -> list[int]:
    others = tuple(a for a in range(3) if a != axis)
    labelled = np.flatnonzero((mask > 0).any(axis=others))
    low, high = (labelled[0], labelled[-1]) if len(labelled) else (0, mask.shape[axis] - 1)
    # centres of equally long stretches, since the first and the last labelled slice show little
    spots = low + (np.arange(count) + 0.5) * (high + 1 - low) / count
    return sorted({int(spot) for spot in spots})


def _upright(volume: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """A slice (rows, columns): superior or anterior up; the patient's right at the left."""
    plane = np.take(volume, index, axis).T[::-1]
    return plane[:, ::-1] if axis != 0 else plane


def _tile(grey: NDArray[Any], mask: NDArray[Any], spacing: Sequence[float]) -> Picture:
    """Grey slice (rows, columns) in colour, enlarged; ``spacing`` of its rows and columns."""
    extent = np.array(grey.shape) * np.array(spacing)
    height, width = (max(1, round(value)) for value in extent * _SIDE / extent.max())
    smooth, nearest = Image.Resampling.BICUBIC, Image.Resampling.NEAREST
    base = Image.fromarray((255 * grey).astype(np.uint8)).resize((width, height), smooth)
    labels = Image.fromarray(mask.astype(np.uint8)).resize((width, height), nearest)
    rgb = np.repeat(np.asarray(base, np.float32)[..., None], 3, axis=2)
    indices = np.asarray(labels)
    for index in np.unique(indices[indices > 0]):
        here, colour = indices == index, np.array(_colour(int(index)), np.float32)
        rgb[here] = (1 - _OPACITY) * rgb[here] + _OPACITY * colour
        rgb[here & ~ndimage.binary_erosion(here, iterations=2)] = colour
    return rgb.astype(np.uint8)


def _colour(index: int) -> tuple[int, int, int]:
    return COLOURS[(index - 1) % len(COLOURS)]


def _side_by_side(tiles: Sequence[Picture]) -> Picture:
    """Up to four tiles in a row, black gaps between them."""
    columns = min(4, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = tiles[0].shape[:2]
    size = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3)
    canvas = np.zeros(size, np.uint8)
    for number, tile in enumerate(tiles):
        top = (number // columns) * (height + _GAP)
        left = (number % columns) * (width + _GAP)
        canvas[top : top + height, left : left + width] = tile
    return canvas


def _with_legend(picture: Picture, names: Mapping[str, int], mask: NDArray[Any]) -> Picture:
    """The picture over a strip with the labels in the mask; unnamed ones appear by their index."""
    by_index = {index: name for name, index in names.items()}
    present = [int(i) for i in np.unique(mask) if i > 0]
    font = ImageFont.load_default(size=16)
    words = [by_index.get(index, f"label {index}") for index in present] or ["nothing labelled"]
    colours = [_colour(index) for index in present] or [(200, 200, 200)]
    strip = Image.new("RGB", (picture.shape[1], 28))
    draw, left = ImageDraw.Draw(strip), 8.0
    for word, colour in zip(words, colours, strict=True):
        draw.rectangle((left, 8, left + 12, 20), fill=colour)
        draw.text((left + 18, 14), word, fill=(255, 255, 255), font=font, anchor="lm")
        left += 38 + draw.textlength(word, font=font)
    return np.concatenate([picture, np.asarray(strip)])


_OVERLAY_OPACITY = 0.4


def write_overlay(
    path: str | Path,
    files: Sequence[str | Path],
    mask: NDArray[np.uint8],
    *,
    names: Mapping[str, int],
) -> None:
    """Write the first channel of an image with its mask as PNG.

    Parameters
    ----------
    path
        PNG file to write.
    files
        The raw image: a file, or one per channel.
    mask
        Class indices on the image's grid. A picture (x, y) keeps every pixel; of a volume, four
        slices through the labelled part are shown.
    names
        Label name -> class index, for the legend of a volume.
    """
    scan = read_image(files)
    if mask.ndim == 2:
        write_picture(path, picture_overlay(scan, mask))
    else:
        write_picture(path, montage(scan.array[0], mask, scan.affine, names=names))


def picture_overlay(scan: Scan, mask: NDArray[np.uint8]) -> Picture:
    """(y, x, 3) uint8: the grey picture with the labels in colour over it, opacity 0.4."""
    grey = scan.array[0].T.astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    rgb = np.repeat((255 * (grey - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    for index in np.unique(mask[mask > 0]):
        colour = np.array(COLOURS[(int(index) - 1) % len(COLOURS)], np.float32)
        here = index == mask.T
        rgb[here] = (1 - _OVERLAY_OPACITY) * rgb[here] + _OPACITY * colour
    return np.rint(rgb).astype(np.uint8)
