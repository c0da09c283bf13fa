"""Reads image and label files: NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF.

Arrays come in the order of the file's own axes, (x, y, z) with x fastest in NIfTI and ITK files;
pictures come as (x, y) with x to the right and y down. The affine maps voxel indices to mm in
RAS+ world space, as nibabel does. Pictures do not state the size of their pixels: their affine
holds the size that the caller knows, else it is the identity, in pixels.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.geometry import corner_shift, spacing_of
from lunet.data.io.itk import read_itk
from lunet.data.io.nifti import count_broken, read_nifti, read_nifti_values
from lunet.data.io.pictures import read_indices, read_intensities
from lunet.errors import DataError

NIFTI = (".nii.gz", ".nii")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
LOSSY = (".jpg", ".jpeg")
SUFFIXES = NIFTI + ITK + PICTURES
# Two grids count as equal if no corner of the volume moves by more than this share of a voxel.
GRID_TOLERANCE = 0.1
# Label values this close to whole numbers count as whole: saving them as floats may change them.
DRIFT = 1e-3
Raw = tuple[NDArray[Any], NDArray[np.float64]]  # array and affine
PixelSize = tuple[float, float]
"""Size of a picture's pixels in mm, along x and y."""
_OF_THE_SYSTEM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class RoundedLabels(UserWarning):
    """Label values that are a little off whole numbers were rounded."""


@dataclass(frozen=True)
class Scan:
    """An image in memory.

    Attributes
    ----------
    array
        (channel, x, y, z), or (channel, x, y) for a picture.
    affine
        (4, 4) float64, voxel index to mm (RAS+).
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class LabelRule:
    """How the values of label files become class indices.

    Attributes
    ----------
    remap
        Value in the file -> class index; values that are not listed stay.
    threshold
        For soft or lossy masks: values above it are 1, all others 0; applied before ``remap``.
    codes
        All values that files may hold, for published code books (BraTS, MM-WHS): another value
        is an error, even if it looks like a class index. None allows any.
    others
        Class index of the values that are not in ``remap``; None keeps them.
    """

    remap: Mapping[int, int] = field(default_factory=dict)
    threshold: float | None = None
    codes: frozenset[int] | None = None
    others: int | None = None

    def index(self, value: int) -> int:
        """The class index of a value, which may lie outside of 0 to 255 if nothing maps it."""
        return self.remap.get(value, value if self.others is None else self.others)


def code_book(labels: Mapping[str, int], remap: Mapping[int, int]) -> LabelRule:
    """The rule for a published code book: only its codes are allowed."""
    kept = set(labels.values()) - set(remap.values())
    return LabelRule(dict(remap), codes=frozenset({0, *kept, *remap}))


def unknown_codes(values: Iterable[int], rule: LabelRule, known: Iterable[int]) -> list[int]:
    """Values of a label file that ``rule`` maps to no class index in ``known`` (0 always is)."""
    allowed = {0, *known}
    return [
        value
        for value in values
        if rule.index(value) not in allowed or (rule.codes is not None and value not in rule.codes)
    ]


def suffix_of(path: str | Path) -> str:
    """The known suffix of a file (``.nii.gz`` counts as one), or an empty string."""
    name = Path(path).name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), "")


def stem_of(path: str | Path) -> str:
    """File name without its known suffix."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(name))]


def is_hidden(path: str | Path) -> bool:
    """Whether an operating system left the file (``._x``, ``.DS_Store``), so it is not data."""
    return Path(path).name.startswith(".") or Path(path).name in ("Thumbs.db", "__MACOSX")


def is_picture(path: str | Path) -> bool:
    """Whether the file is a picture, which states no physical size."""
    return suffix_of(path) in PICTURES


def read_raw(path: str | Path, *, pixel_mm: PixelSize | None = None) -> Raw:
    """Array with the file's own axes and dtype (channels last, if any), and the affine.

    ``pixel_mm`` is the size of the pixels, if the file is a picture and its size is known.

    Raises
    ------
    DataError
        If the file is missing, of an unknown format, truncated or otherwise unreadable.
    """
    return _read(path, read_nifti, read_indices, pixel_mm)


def _read(
    path: str | Path,
    nifti: Callable[[str | Path], Raw],
    picture: Callable[[str | Path], NDArray[Any]],
    pixel_mm: PixelSize | None,
) -> Raw:
    suffix = suffix_of(path)
    if not Path(path).exists():
        raise DataError(
            where=path,
            found="the file is missing" if suffix else "does not exist",
            expected="",
            action="Add it or correct the listing",
        )
    if not suffix:
        raise DataError(
            where=path, found="unknown format", expected=f"one of {', '.join(SUFFIXES)}"
        )
    try:
        if suffix in NIFTI:
            return nifti(path)
        if suffix in ITK:
            return read_itk(path)
        return picture(path), np.diag([*(pixel_mm or (1.0, 1.0)), 1.0, 1.0])
    except (MemoryError, DataError):
        raise
    except Exception as error:  # a format's library may raise any error for damaged bytes
        if isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        denied = isinstance(error, PermissionError)
        action = "Allow reading it" if denied else "Fetch the file again"
        raise DataError(
            where=path, found=f"cannot be read ({reason})", expected="", action=action
        ) from error


def read_image(
    paths: Sequence[str | Path],
    *,
    channels: int | None = None,
    pixel_mm: PixelSize | None = None,
) -> Scan:
    """Read one case's image: one file with all channels, or a file per channel.

    Parameters
    ----------
    paths
        The files, in channel order.
    channels
        Expected number of channels.
    pixel_mm
        Size of the pixels, if the files are pictures and it is known.

    Raises
    ------
    DataError
        Unreadable file, channels on different grids, wrong number of channels.
    """
    first, affine = _read_channels(paths[0], pixel_mm)
    arrays = [first]
    for path in paths[1:]:
        array, other = _read_channels(path, pixel_mm)
        require_grid(path, array.shape[1:], other, paths[0], first.shape[1:], affine)
        arrays.append(array)
    array = first if len(arrays) == 1 else np.concatenate(arrays)
    if channels is not None and len(array) != channels:
        raise DataError(
            where=paths[0], found=f"{len(array)} channel(s)", expected=f"{channels} are expected"
        )
    return Scan(array, affine)


def _read_channels(
    path: str | Path, pixel_mm: PixelSize | None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    raw, affine = _read(path, read_nifti_values, read_intensities, pixel_mm)
    spatial = 2 if suffix_of(path) in PICTURES else 3
    if raw.ndim == spatial:
        array = raw[None]
    elif raw.ndim == spatial + 1:
        array = np.moveaxis(raw, -1, 0)
    elif raw.ndim == 5 and raw.shape[3] == 1:  # NIfTI vector image
        array = np.moveaxis(raw[:, :, :, 0], -1, 0)
    elif raw.ndim == 2:  # a single slice in a volume format
        array = raw[None, :, :, None]
    else:
        raise DataError(
            where=path,
            found=f"an array of shape {raw.shape}",
            expected=f"{spatial} axes, and one for channels",
        )
    return np.ascontiguousarray(array, dtype=np.float32), affine


def require_finite(array: NDArray[Any], where: str) -> None:
    """Raise :class:`DataError` if a voxel is NaN or infinite."""
    broken = count_broken(array)
    if broken:
        raise DataError(
            where=where,
            found=f"{broken} of {array.size} voxels are NaN or infinite",
            expected="finite intensities are needed",
            action="Run `lunet repair --fill-non-finite`, or remove the case",
        )


def require_grid(
    path: str | Path,
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    other_path: str | Path,
    other_shape: tuple[int, ...],
    other_affine: NDArray[np.float64],
) -> None:
    """Raise :class:`DataError` unless two files have the same grid (within ``GRID_TOLERANCE``)."""
    if tuple(shape) != tuple(other_shape):
        raise DataError(
            where=path,
            found=f"shape {_text(shape)}",
            expected=f"{other_path} has {_text(other_shape)}",
        )
    shift = corner_shift(shape, affine, other_affine)
    if not shift <= GRID_TOLERANCE * min(spacing_of(other_affine)):
        raise DataError(
            where=path,
            found=f"its grid is {shift:.4g} mm away from the grid of {other_path}",
            expected=f"at most {GRID_TOLERANCE:g} voxel is tolerated",
            action="Run `lunet audit` for the fields that differ",
        )


def _text(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)


def read_label(
    path: str | Path, rule: LabelRule | None = None, *, pixel_mm: PixelSize | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a label file as class indices; ``pixel_mm`` as in :func:`read_raw`.

    Returns
    -------
    uint8 array (x, y, z), or (x, y) for a picture, and the affine.

    Raises
    ------
    DataError
        Unreadable file, more than one channel, values other than whole numbers from 0 to 255.
    """
    raw, affine = read_raw(path, pixel_mm=pixel_mm)
    spatial = 2 if suffix_of(path) in PICTURES else 3
    while raw.ndim > spatial and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim == 2 and spatial == 3:
        raw = raw[..., None]
    if raw.ndim != spatial:
        raise DataError(
            where=path,
            found=f"a label of shape {_text(raw.shape)}",
            expected=f"{spatial} axes",
        )
    return class_indices(raw, rule or LabelRule(), path), affine


def drift_of(values: NDArray[Any]) -> float:
    """Largest distance of a label's values from whole numbers; inf if one is not finite."""
    if values.dtype.kind != "f" or values.size == 0:
        return 0.0
    if not np.isfinite(values).all():
        return np.inf
    return float(np.abs(values - np.rint(values)).max())


def values_text(values: NDArray[Any], limit: int = 6) -> str:
    """Values with enough digits to distinguish them from whole numbers."""
    shown = ", ".join(f"{value:.9g}" for value in values[:limit].tolist())
    return shown + (", ..." if len(values) > limit else "")


def class_indices(raw: NDArray[Any], rule: LabelRule, where: str | Path) -> NDArray[np.uint8]:
    """Turn the values of a label file into uint8 class indices by ``rule``.

    Values within ``DRIFT`` of whole numbers are rounded, with a warning.
    """
    if rule.threshold is not None:
        raw = raw > rule.threshold
    values = np.unique(raw)
    whole = np.rint(values.astype(np.float64))
    drift = drift_of(values)
    if not drift <= DRIFT:
        raise DataError(
            where=where,
            found=f"label values {values_text(values)}",
            expected="whole numbers are expected",
            action="Set dataset.mask_threshold if this is a soft or lossy mask of one structure",
        )
    if drift:
        warnings.warn(
            f"label values up to {drift:.2g} off whole numbers are rounded; `lunet audit` names "
            "the files, `lunet repair` stores them as integers",
            RoundedLabels,
            stacklevel=2,
        )
    foreign = unknown_codes([int(value) for value in whole], rule, range(256))
    if foreign:
        raise DataError(
            where=where,
            found=f"label value(s) {foreign}",
            expected=f"the codes are {sorted(rule.codes)}"
            if rule.codes
            else "0 to 255 are allowed",
            action="Correct dataset.remap",
        )
    targets = np.array([rule.index(int(value)) for value in whole], dtype=np.int64)
    if raw.dtype == np.uint8 and (targets == values).all():
        return np.ascontiguousarray(raw)
    return targets.astype(np.uint8)[np.searchsorted(values, raw)]
