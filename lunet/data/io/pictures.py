"""Reads pictures (PNG, JPEG, TIFF, BMP) as arrays: x to the right, y down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.errors import DataError

_AS_THEY_ARE = ("1", "L", "LA", "RGB", "RGBA", "I", "F")  # and I;16 of either byte order


def read_indices(path: str | Path) -> NDArray[Any]:
    """A label picture (x, y), or (x, y, colour) if it has colours; a palette's indices are kept."""
    return _read(path, with_palette=False)


def read_intensities(path: str | Path) -> NDArray[Any]:
    """An image (x, y), or (x, y, colour) where its colours are not grey; palettes are resolved."""
    return _read(path, with_palette=True)


def _read(path: str | Path, *, with_palette: bool) -> NDArray[Any]:
    from PIL import Image  # only pictures need it

    with Image.open(path) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1:
            action = "Save each page as a picture, or the stack as a volume (NIfTI, NRRD)"
            raise DataError(
                where=path,
                found=f"{pages} pages",
                expected="a picture of one page",
                action=action,
            )
        plain = picture.mode in _AS_THEY_ARE or picture.mode.startswith("I;16")
        keep = plain or (picture.mode == "P" and not with_palette)
        array = np.asarray(picture if keep else picture.convert("RGB"))
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.ndim == 3:
        colours = array[..., :3] if array.shape[-1] in (3, 4) else array[..., :1]
        grey = (colours == colours[..., :1]).all()
        array = colours[..., 0] if grey else colours
    return np.swapaxes(array, 0, 1)
