"""Place labels next to points so that they cover neither each other nor points, inside the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""Rectangles (n, 4) in pixels: left, bottom, right, top."""
_SIZE = 6.0
_CLEAR = 2.6  # half the side, in points, of the square that a marker keeps free
_LINE = 0.8  # the same for a point of a line
_GAPS = (4.5, 6.5, 9, 13, 18, 24, 31, 39, 48, 60)
_STEPS = (0, 8, 2, 14, 6, 10, 1, 15, 7, 9, 4, 12, 3, 13, 5, 11)


@dataclass(frozen=True)
class Label:
    """A text for the point (x, y), in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def place_labels(
    axes: Axes, labels: Sequence[Label], obstacles: Sequence[tuple[float, float]] = ()
) -> None:
    """Put each label at the nearest free place around its point, with a thin line if it is far.

    Greedy: the points with the most neighbours first, sixteen directions, growing distance. The
    limits of the axes must be final. ``obstacles`` are further points (x, y) to be kept clear,
    in data coordinates, as along a line.
    """
    canvas = FigureCanvasAgg(axes.figure.figure)
    canvas.draw()
    scale = axes.figure.dpi / 72
    spots = axes.transData.transform(np.array([(label.x, label.y) for label in labels]))
    others = axes.transData.transform(np.array(obstacles).reshape(-1, 2))
    taken = np.concatenate([_squares(spots, _CLEAR * scale), _squares(others, _LINE * scale)])
    frame = np.array(axes.get_window_extent(canvas.get_renderer()).extents)
    for index in sorted(range(len(labels)), key=lambda i: (-_crowd(spots, i, 30 * scale), i)):
        size = _extent(axes, canvas.get_renderer(), labels[index].text)
        boxes = _candidates(spots[index], size, scale)
        box = boxes[int(np.argmin(_costs(boxes, taken, frame)))]
        taken = np.concatenate([taken, box[None]])
        _write(axes, labels[index], spots[index], box, scale)


def _squares(centres: NDArray[np.float64], half: float) -> Boxes:
    return np.concatenate([centres - half, centres + half], axis=1)


def _crowd(spots: NDArray[np.float64], index: int, radius: float) -> int:
    return int((np.linalg.norm(spots - spots[index], axis=1) < radius).sum())


def _extent(axes: Axes, renderer: object, text: str) -> tuple[float, float]:
    probe = axes.text(0, 0, text, fontsize=_SIZE)
    box = probe.get_window_extent(renderer)  # type: ignore[arg-type]
    probe.remove()
    return box.width, box.height


def _candidates(spot: NDArray[np.float64], size: tuple[float, float], scale: float) -> Boxes:
    """Boxes around a point, the nearest first; right and left before above and below."""
    gaps, steps = np.meshgrid(_GAPS, _STEPS, indexing="ij")
    directions = np.stack([np.cos(steps * np.pi / 8), np.sin(steps * np.pi / 8)], axis=-1)
    half = np.array(size) / 2
    centres = spot + (directions * (gaps[..., None] * scale + half)).reshape(-1, 2)
    return np.concatenate([centres - half, centres + half], axis=1)


def _costs(boxes: Boxes, taken: Boxes, frame: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area in pixels of each box that is already taken, plus three times its area outside."""
    padded = boxes + np.array([-0.8, -0.8, 0.8, 0.8])
    covered = _overlaps(padded, taken).sum(axis=1)
    inside = _overlaps(boxes, frame[None])[:, 0]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.round(covered + 3 * (area - inside), 6)


def _overlaps(one: Boxes, other: Boxes) -> NDArray[np.float64]:
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=-1))


def _write(
    axes: Axes, label: Label, spot: NDArray[np.float64], box: NDArray[np.float64], scale: float
) -> None:
    back = axes.transData.inverted()
    nearest = np.clip(spot, box[:2], box[2:])
    if math.dist(nearest, spot) > 7 * scale:
        end = back.transform(nearest)
        axes.plot([label.x, end[0]], [label.y, end[1]], color=label.colour, lw=0.4, zorder=2)
    place = back.transform((box[:2] + box[2:]) / 2)
    axes.text(
        place[0],
        place[1],
        label.text,
        fontsize=_SIZE,
        color=label.colour,
        ha="center",
        va="center",
        zorder=5,
    )
