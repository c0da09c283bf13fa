"""An overlay beside each predicted mask: what a reader looks at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lunet.data.scan import Scan, read_image
from lunet.inference.show import COLOURS, Picture, montage, write_picture

_OPACITY = 0.4


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
        PNG that is written.
    files
        The raw image: a file, or one per channel.
    mask
        Class indices on its grid. Of a picture (x, y) every pixel is kept; of a volume four slices
        through the labelled part are shown.
    names
        Label name -> class index, for the legend of a volume.
    """
    scan = read_image(files)
    if mask.ndim == 2:
        write_picture(path, picture_overlay(scan, mask))
    else:
        write_picture(path, montage(scan.array[0], mask, scan.affine, names=names))


def picture_overlay(scan: Scan, mask: NDArray[np.uint8]) -> Picture:
    """(y, x, 3) uint8: the grey picture, labels in colour over it with opacity 0.4."""
    grey = scan.array[0].T.astype(np.float32)
    low, high = float(grey.min()), float(grey.max())
    rgb = np.repeat((255 * (grey - low) / max(high - low, 1e-6))[..., None], 3, axis=2)
    for index in np.unique(mask[mask > 0]):
        colour = np.array(COLOURS[(int(index) - 1) % len(COLOURS)], np.float32)
        here = index == mask.T
        rgb[here] = (1 - _OPACITY) * rgb[here] + _OPACITY * colour
    return np.rint(rgb).astype(np.uint8)
