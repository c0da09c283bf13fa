"""Writes a mask in the format of its image, where that format can hold labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.data.io.images import ITK, LOSSY, NIFTI, suffix_of
from lunet.data.io.itk import write_itk
from lunet.data.io.nifti import axes_of
from lunet.data.io.write import write_nifti, write_picture

# a mask is one file, so that of a header with a separate data file is not
_DETACHED = {".nhdr": ".nrrd", ".mhd": ".mha"}


def mask_suffix(image: str | Path) -> str:
    """Suffix of the mask of an image: the image's own, but ``.png`` for JPEG, which is lossy."""
    suffix = suffix_of(image)
    return ".png" if suffix in LOSSY else _DETACHED.get(suffix, suffix)


def write_mask(
    path: str | Path, mask: NDArray[np.uint8], affine: ArrayLike, *, like: str | Path
) -> None:
    """Write class indices atomically, in the format of the suffix of ``path``.

    Parameters
    ----------
    mask
        (x, y, z), or (x, y) for a picture.
    affine
        4 x 4 matrix, voxel indices to mm (RAS+); pictures cannot hold it.
    like
        The image; the mask of a NIfTI file of one slice has as many axes as the file.
    """
    suffix = suffix_of(path)
    if suffix in ITK:
        write_itk(path, mask, affine)
    elif suffix in NIFTI:
        is_flat = mask.shape[-1] == 1 and suffix_of(like) in NIFTI and axes_of(Path(like)) == 2
        write_nifti(path, mask[..., 0] if is_flat else mask, affine)
    else:
        write_picture(path, mask)
