"""Small pictures of cases for the audit page: slices with the label's outline, as PNG."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from PIL import Image

from lunet.data.geometry import spacing_of

HEIGHT = 120
# Okabe and Ito's colours, which colour-blind readers can distinguish, too.
COLOURS = np.array(
    [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167)],
    dtype=np.uint8,
)


def thumbnail(
    channel: NDArray[Any], label: NDArray[np.uint8] | None, affine: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Axial slice with the most foreground (or the middle one) as RGB, (HEIGHT, width, 3).

    Anterior is up and the subject's right is on the left; voxels are drawn in their true
    proportions. Foreground is outlined in a colour per class.
    """
    if channel.ndim == 2:
        picture, classes = channel.T, label.T if label is not None else None
        aspect = 1.0
    else:
        turn = io_orientation(affine)
        volume = apply_orientation(channel, turn)
        marked = apply_orientation(label, turn) if label is not None else None
        z = volume.shape[2] // 2
        if marked is not None and marked.any():
            z = int((marked > 0).sum(axis=(0, 1)).argmax())
        picture = volume[::-1, ::-1, z].T
        classes = marked[::-1, ::-1, z].T if marked is not None else None
        places = [int(axis) for axis in turn[:, 0]]
        spacing = [spacing_of(affine)[places.index(axis)] for axis in range(3)]
        aspect = spacing[1] / spacing[0]
    return _draw(picture, classes, aspect)


def _draw(
    picture: NDArray[Any], classes: NDArray[np.uint8] | None, aspect: float
) -> NDArray[np.uint8]:
    finite = np.nan_to_num(picture.astype(np.float32), nan=0, posinf=0, neginf=0)
    low, high = np.percentile(finite, (1, 99))
    grey = np.clip((finite - low) / max(float(high - low), 1e-12), 0, 1) * 255
    rows, columns = grey.shape
    width = int(np.clip(round(HEIGHT * columns / (rows * aspect)), 8, 4 * HEIGHT))
    scaled = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize((width, HEIGHT)))
    rgb = np.repeat(scaled[..., None], 3, axis=2)
    if classes is not None and classes.any():
        nearest = Image.Resampling.NEAREST
        marked = np.asarray(Image.fromarray(classes).resize((width, HEIGHT), nearest))
        edge = _outline(marked)
        rgb[edge] = COLOURS[(marked[edge].astype(int) - 1) % len(COLOURS)]
    return rgb


def _outline(classes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Foreground pixels with a neighbour of another class."""
    padded = np.pad(classes, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.zeros(classes.shape, dtype=bool)
    for neighbour in around:
        differs |= neighbour != centre
    return differs & (centre > 0)


def data_uri(rgb: NDArray[np.uint8]) -> str:
    """A picture as a ``data:`` address, to embed in a page."""
    stream = io.BytesIO()
    Image.fromarray(rgb).quantize(64).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
