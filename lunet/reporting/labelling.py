"""Names beside points that neither cover each other, nor a point, nor leave the axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

_SIZE = 6.0
_CLEAR = 2.6  # half the side, in points, of the square that a marker keeps free
_LINE = 0.8  # the same for a point of a line


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
    """Put each label at the nearest free place around its point, with a thin leader if far.

    Greedy: the points with the most neighbours first, sixteen directions, growing distance. The
    limits of the axes must be final. ``obstacles`` are further points (x, y) to be kept clear,
    in data coordinates.
    """
    canvas = FigureCanvasAgg(axes.figure.figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    scale = axes.figure.dpi / 72
    spots = [tuple(axes.transData.transform((label.x, label.y))) for label in labels]
    others = [tuple(axes.transData.transform(point)) for point in obstacles]
    taken = [_square(spot, _CLEAR * scale) for spot in spots]
    taken += [_square(spot, _LINE * scale) for spot in others]
    frame = axes.get_window_extent(renderer)
    for index in sorted(range(len(labels)), key=lambda i: (-_crowd(spots, i, 30 * scale), i)):
        label, (x, y) = labels[index], spots[index]
        width, height = _extent(axes, renderer, label.text)
        box = _free_box((x, y), (width, height), taken, frame, scale)
        taken.append(box)
        _write(axes, label, (x, y), box, scale)


def _square(centre: tuple[float, float], half: float) -> Bbox:
    x, y = centre
    return Bbox.from_extents(x - half, y - half, x + half, y + half)


def _crowd(spots: Sequence[tuple[float, float]], index: int, radius: float) -> int:
    return sum(math.dist(spots[index], spot) < radius for spot in spots)


def _extent(axes: Axes, renderer: object, text: str) -> tuple[float, float]:
    probe = axes.text(0, 0, text, fontsize=_SIZE)
    box = probe.get_window_extent(renderer)  # type: ignore[arg-type]
    probe.remove()
    return box.width, box.height


def _candidates(
    spot: tuple[float, float], size: tuple[float, float], scale: float
) -> Iterator[Bbox]:
    """Boxes around a point, the nearest first; right and left before above and below."""
    width, height = size
    for gap in (4, 6, 9, 13, 18, 24, 31, 39, 48, 60):
        for step in (0, 8, 2, 14, 6, 10, 1, 15, 7, 9, 4, 12, 3, 13, 5, 11):
            angle = step * math.pi / 8
            dx, dy = math.cos(angle), math.sin(angle)
            x = spot[0] + dx * (gap * scale + width / 2) - width / 2
            y = spot[1] + dy * (gap * scale + height / 2) - height / 2
            yield Bbox.from_bounds(x, y, width, height)


def _free_box(
    spot: tuple[float, float],
    size: tuple[float, float],
    taken: Sequence[Bbox],
    frame: Bbox,
    scale: float,
) -> Bbox:
    """The first free candidate; where none is free, the one that is covered least."""
    boxes = list(_candidates(spot, size, scale))
    costs = [_cost(box, taken, frame) for box in boxes]
    return boxes[costs.index(min(costs))]


def _cost(box: Bbox, taken: Sequence[Bbox], frame: Bbox) -> float:
    inside = Bbox.intersection(box, frame)
    area = box.width * box.height
    outside = area - (inside.width * inside.height if inside else 0)
    padded = box.padded(0.8)
    covered = sum(
        part.width * part.height for other in taken if (part := Bbox.intersection(padded, other))
    )
    return round(covered + 3 * outside, 6)


def _write(axes: Axes, label: Label, spot: tuple[float, float], box: Bbox, scale: float) -> None:
    place = axes.transData.inverted().transform((box.x0 + box.width / 2, box.y0 + box.height / 2))
    nearest = (min(max(spot[0], box.x0), box.x1), min(max(spot[1], box.y0), box.y1))
    if math.dist(nearest, spot) > 7 * scale:
        end = axes.transData.inverted().transform(nearest)
        axes.plot([label.x, end[0]], [label.y, end[1]], color=label.colour, lw=0.4, zorder=2)
    axes.text(
        *place, label.text, fontsize=_SIZE, color=label.colour, ha="center", va="center", zorder=5
    )
