"""Reads NIfTI files as arrays, large ones without a second copy."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lunet.errors import DataError


def read_nifti(path: str | Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Array of a NIfTI file with its own dtype, or float64 where values are scaled; and affine.

    Raises
    ------
    OSError, EOFError, ValueError, zlib.error
        If the file is damaged.
    """
    with _opened(path) as image:
        return np.asanyarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)


_CHUNK = 1 << 20


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    """Open a NIfTI file; a compressed one is read to the checksum at its end on leaving."""
    image: Any = nib.load(path, keep_file_open=True)  # type: ignore[call-arg]
    if not str(path).lower().endswith(".gz") or list(image.file_map) != ["image"]:
        yield image
        return
    # nibabel stops at the last voxel, before the checksum that reveals a flipped byte
    with gzip.open(path) as stream:
        yield type(image).from_file_map(type(image).make_file_map({"image": stream}))
        while stream.read(_CHUNK):
            continue


def axes_of(path: str | Path) -> int:
    """How many axes a NIfTI file declares; 3 for any other file."""
    if not str(path).lower().endswith((".nii", ".nii.gz")):
        return 3
    image: Any = nib.load(path)
    return len(image.shape)


def read_nifti_values(path: str | Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Scaled values of a NIfTI file as float32 in C order, and its affine.

    The file is decompressed once, from its first plane to its last. Besides the result only one
    slab is in memory, whatever the dtype on disk (nibabel would scale a whole volume as float64).

    Raises
    ------
    DataError
        If voxels are not single real numbers.
    OSError, EOFError, ValueError, zlib.error
        If the file is damaged.
    """
    with _opened(path) as image:
        kind = image.get_data_dtype()
        if kind.names is not None or kind.kind == "c":
            what = "complex numbers" if kind.kind == "c" else "colours"
            action = "Store the magnitude, or each colour as a channel"
            raise DataError(
                where=path,
                found=f"its voxels are {what}",
                expected="one real number per voxel",
                action=action,
            )
        affine = np.asarray(image.affine, dtype=np.float64)
        values = np.empty(image.shape, np.float32)
        if not values.ndim:
            raise DataError(where=path, found="has no axes", expected="an image is expected")
        for part in slabs(values.shape[-1]):
            values[..., part] = image.dataobj[..., part]
        return values, affine


_PLANES = 16  # float32: a cache line along the last axis


def slabs(length: int) -> Iterator[slice]:
    """Slices of up to 16 planes that cover an axis of ``length`` voxels."""
    for first in range(0, length, _PLANES):
        yield slice(first, min(first + _PLANES, length))


def count_broken(array: NDArray[Any]) -> int:
    """Number of voxels that are NaN or infinite."""
    parts = (array[part] for part in slabs(len(array)))
    return sum(part.size - int(np.isfinite(part).sum()) for part in parts)
