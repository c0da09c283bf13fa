"""The one normalisation and geometry of training data, validation, and prediction of new scans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.geometry import Geometry, place, plan_geometry
from lunet.data.scan import Scan, read_image
from lunet.data.settings import PreprocessSettings
from lunet.errors import ConfigError, DataError

CUBIC, LINEAR = 3, 1


def prepare_image(
    source: Scan | str | Path | Sequence[str | Path],
    settings: PreprocessSettings,
    *,
    channels: int | None = None,
    name: str | None = None,
) -> tuple[NDArray[np.float32], Geometry]:
    """Bring an image into the orientation, spacing, intensities and size that a network sees.

    Parameters
    ----------
    source
        A :class:`Scan` (array (channel, x, y, z) and affine), a file, or a file per channel.
    settings
        Orientation, spacing, clipping, normalisation, size.
    channels
        Number of channels that is expected.
    name
        What messages call the image; else its first file.

    Returns
    -------
    array
        float32 (channel, x, y, z), C-contiguous.
    geometry
        The way back, for :func:`to_native`.

    Raises
    ------
    DataError
        If a file cannot be read, voxels are not finite, or a channel is constant.
    """
    if isinstance(source, str | Path):
        source = (source,)
    where = name or ("image" if isinstance(source, Scan) else str(source[0]))
    scan = source if isinstance(source, Scan) else read_image(source, channels=channels)
    if channels is not None and len(scan.array) != channels:
        raise DataError(where, f"{len(scan.array)} channel(s)", f"{channels} are expected")
    geometry = plan_geometry(
        scan.array.shape[1:],
        scan.affine,
        orientation=settings.orientation,
        spacing=settings.spacing,
        size=settings.size,
    )
    result = np.zeros((len(scan.array), *geometry.shape), dtype=np.float32)
    for index, channel in enumerate(scan.array):
        title = where if len(scan.array) == 1 else f"{where}, channel {index}"
        require_finite(channel, title)
        moved = geometry.forward(channel, order=CUBIC)
        inside = _inside(channel, geometry, settings)
        values = normalise(moved, settings, inside=inside, where=title)
        result[index] = place(values, geometry.offset, geometry.shape)
    return result, geometry


def _inside(
    channel: NDArray[np.float32], geometry: Geometry, settings: PreprocessSettings
) -> NDArray[np.bool_] | None:
    """Where the raw channel is not zero: splines leave no exact zero, so it is asked before."""
    if settings.normalise != "zscore_nonzero":
        return None
    return geometry.forward((channel != 0).astype(np.float32), order=LINEAR) > 0.5


def require_finite(array: NDArray[Any], where: str) -> None:
    """Raise :class:`DataError` if a voxel is NaN or infinite."""
    broken = array.size - int(np.isfinite(array).sum())
    if broken:
        raise DataError(
            where,
            f"{broken} of {array.size} voxels are NaN or infinite",
            "finite intensities are needed",
            "Run `lunet repair --fill-non-finite`, or take the case out",
        )


def normalise(
    channel: NDArray[Any],
    settings: PreprocessSettings,
    *,
    inside: NDArray[np.bool_] | None = None,
    where: str = "image",
) -> NDArray[np.float32]:
    """Clip (or window) and normalise the intensities of one channel.

    ``zscore`` takes mean and standard deviation of all voxels; ``zscore_nonzero`` of those
    ``inside`` (by default: that are not zero), the others become zero; ``minmax`` maps to 0..1
    the range of the image, or the fixed window if one is set: equal Hounsfield units stay equal.

    Raises
    ------
    DataError
        If all voxels have one value, so that there is nothing to normalise by.
    """
    values = channel.astype(np.float32)
    if settings.normalise == "zscore_nonzero" and inside is None:
        inside = values != 0
    _clip(values, inside, settings)
    if settings.normalise == "none":
        return values
    if settings.normalise == "minmax" and settings.window is not None:
        low, high = settings.window
        return (values - np.float32(low)) / np.float32(high - low)
    chosen = values if inside is None else values[inside]
    if chosen.size == 0 or chosen.min() == chosen.max():
        raise DataError(
            where,
            "all voxels have one value (after clipping)",
            "an image with contrast is needed",
            "Check the file, or preprocess.clip and preprocess.window",
        )
    if settings.normalise == "minmax":
        low, high = float(chosen.min()), float(chosen.max())
        return (values - np.float32(low)) / np.float32(high - low)
    mean = float(chosen.mean(dtype=np.float64))
    deviation = float(chosen.std(dtype=np.float64))
    values -= np.float32(mean)
    values /= np.float32(deviation)
    if inside is not None:
        values[~inside] = 0
    return values


def _clip(
    values: NDArray[np.float32], inside: NDArray[np.bool_] | None, settings: PreprocessSettings
) -> None:
    """Clip in place, to the fixed window or to percentiles."""
    if settings.window is not None:
        low, high = settings.window
        if not low < high:
            raise ConfigError("preprocess.window", f"{settings.window}", "low < high is needed")
    elif settings.clip is not None:
        if not 0 <= settings.clip[0] < settings.clip[1] <= 100:
            raise ConfigError("preprocess.clip", f"{settings.clip}", "0 <= low < high <= 100")
        chosen = values if inside is None or not inside.any() else values[inside]
        low, high = np.percentile(chosen, settings.clip)
    else:
        return
    np.clip(values, low, high, out=values)


def prepare_label(label: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Bring a label (x, y, z) of class indices onto the prepared grid; uint8.

    Resampling is linear per class, then the strongest class wins: nearest-neighbour sampling
    would shrink thin structures.

    Raises
    ------
    DataError
        If its shape is not that of the image.
    """
    moved = resample_label(label, geometry)
    return np.ascontiguousarray(place(moved, geometry.offset, geometry.shape))


def resample_label(label: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """The label on the resampled grid, before crop and pad."""
    if tuple(label.shape) != geometry.native_shape:
        raise DataError(
            "label", f"shape {tuple(label.shape)}", f"the image has {geometry.native_shape}"
        )
    if not geometry.resamples:
        return geometry.forward(label, order=0)
    scores = (
        (int(index), geometry.forward((label == index).astype(np.float32), order=LINEAR))
        for index in np.unique(label)
    )
    return _strongest(scores, geometry.resampled)


def _strongest(
    scores: Iterable[tuple[int, NDArray[np.float32]]], shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Class of the highest score per voxel, holding only one class's scores at a time."""
    best = np.full(shape, -np.inf, dtype=np.float32)
    winner = np.zeros(shape, dtype=np.uint8)
    for index, score in scores:
        higher = score > best
        winner[higher] = index
        best[higher] = score[higher]
    return winner


def to_native(
    array: NDArray[Any], geometry: Geometry, *, fill: float | Sequence[float] = 0
) -> NDArray[Any]:
    """Bring a prediction back to the voxels of the raw image.

    Parameters
    ----------
    array
        Class indices (x, y, z) of an integer dtype, or probabilities (class, x, y, z).
    geometry
        From :func:`prepare_image`.
    fill
        Value of raw voxels that were cropped away; for probabilities one per class is possible.

    Returns
    -------
    Class indices (x, y, z) of the same dtype, or probabilities (class, x, y, z) float32, on
    exactly the raw shape. Without resampling no value changes.
    """
    ndim = len(geometry.shape)
    if array.ndim == ndim + 1:
        fills = [fill] * len(array) if isinstance(fill, int | float) else list(fill)
        channels = zip(array, fills, strict=True)
        return np.stack([geometry.backward(channel, fill=value) for channel, value in channels])
    if tuple(array.shape) != geometry.shape:
        raise DataError("prediction", f"shape {array.shape}", f"{geometry.shape} was prepared")
    if not isinstance(fill, int | float):
        raise DataError("prediction", "several fill values", "class indices take one")
    if not geometry.resamples:
        return geometry.backward(array, fill=fill)
    classes = np.union1d(np.unique(array), [int(fill)])
    scores = (
        (int(c), geometry.backward((array == c).astype(np.float32), fill=float(c == fill)))
        for c in classes
    )
    return _strongest(scores, geometry.native_shape).astype(array.dtype)
