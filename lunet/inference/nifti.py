"""Masks whose bytes depend on their content alone (no time stamp, no file name), written whole."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.files import atomic, write_bytes


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
    matrix = np.asarray(affine, np.float64)
    image = nibabel.Nifti1Image(array, matrix)
    image.set_sform(matrix, code=1)
    image.set_qform(matrix, code=1, strip_shears=True)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    if str(path).endswith(".gz"):
        content = gzip.compress(content, compresslevel=4, mtime=0)
    write_bytes(path, content)


def write_png(path: str | Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask (x, y) of class indices as a grey PNG, x to the right, y down, atomically."""
    from PIL import Image  # only pictures need it

    with atomic(path) as part:
        Image.fromarray(np.ascontiguousarray(mask.T)).save(part, format="PNG")
