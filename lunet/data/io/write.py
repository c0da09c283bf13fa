"""Writes masks atomically; their bytes depend only on the content (no time stamp, no file name)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, Protocol

import nibabel
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.data.io.nifti import slabs
from lunet.files import atomic, write_bytes

_LEVEL = 4  # of compression
_OFFSET = 352  # of the voxels in a .nii file


class Maps(Protocol):
    """A sequence of arrays of one shape, which may be computed on access."""

    def __len__(self) -> int:
        """Number of arrays."""

    def __getitem__(self, number: int, /) -> NDArray[Any]:
        """The array with this number."""


def write_nifti(path: str | Path, array: NDArray[Any], affine: ArrayLike) -> None:
    """Write a volume as ``.nii`` or ``.nii.gz``, atomically and reproducibly.

    Parameters
    ----------
    path
        File to write; compressed if it ends in ``.gz``.
    array
        (x, y, z) or (x, y, z, channel); its dtype is the one on disk.
    affine
        4 x 4 matrix, voxel indices to mm, written as qform and sform (code 1, scanner).
    """
    content = nifti_image(array, affine).to_bytes()
    if str(path).endswith(".gz"):
        content = gzip.compress(content, compresslevel=_LEVEL, mtime=0)
    write_bytes(path, content)


def write_channels(path: str | Path, channels: Maps, affine: ArrayLike) -> None:
    """Write maps (x, y, z) as one ``.nii.gz`` (x, y, z, channel), float32, reproducibly.

    Each map is fetched only when it is written, and besides it only one slab is in memory.
    """
    shape = (*channels[0].shape, len(channels))
    header = nifti_image(np.broadcast_to(np.float32(0), shape), affine).header
    header.set_data_offset(_OFFSET)
    with (
        atomic(path) as part,
        open(part, "wb") as file,
        gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream,
    ):
        stream.write(header.binaryblock.ljust(_OFFSET, b"\0"))
        for number in range(len(channels)):
            values = channels[number]
            for piece in slabs(values.shape[-1]):
                block = np.asarray(values[..., piece], np.float32)
                stream.write(block.tobytes(order="F"))


def nifti_image(array: NDArray[Any], affine: ArrayLike) -> nibabel.Nifti1Image:
    """The volume with its affine as qform and sform (code 1, scanner) and mm as its unit."""
    matrix = np.asarray(affine, np.float64)
    # nibabel writes 64-bit integers only if their dtype is passed
    image = nibabel.Nifti1Image(array, matrix, dtype=array.dtype)
    image.set_sform(matrix, code=1)
    image.set_qform(matrix, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    return image


def write_picture(path: str | Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask (x, y) of class indices as a grey picture, x to the right, y down, atomically.

    The suffix of ``path`` (PNG, TIFF, BMP) names the format.
    """
    from PIL import Image  # only pictures need it

    kind = Image.registered_extensions()[Path(path).suffix.lower()]
    with atomic(path) as part:
        Image.fromarray(np.ascontiguousarray(mask.T)).save(part, format=kind)
