"""The report's main figure: a value against cost, as SVG inside the page.

This module computes positions in the units of the view box. The style sheet sets the colours and
the font size, which is larger on a narrow screen. Labels are placed for the largest font size, so
they do not overlap on a phone either. A tooltip shows the numbers of a point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 16, 30, 40
LETTERS = 22.5
"""Font size on a phone in units of the view box; ``style.css`` has the same value."""
_LETTER = 0.6 * LETTERS  # mean width of a letter
_SYMBOL = 9.0
_SPACE = 0.08  # share of the range that is left free at each end


Box = tuple[float, float, float, float]
"""Left, top, right and bottom of an occupied area."""


@dataclass(frozen=True)
class Point:
    """A network: name, cost (above 0), value with its interval, state, and tooltip (``title``)."""

    name: str
    cost: float
    value: float
    low: float
    high: float
    state: str
    title: str
    filled: bool = True


@dataclass(frozen=True)
class Level:
    """A horizontal line of the kind ``zero``, ``margin`` or ``floor``; the text may be empty."""

    value: float
    text: str
    kind: str


@dataclass(frozen=True)
class Mark:
    """A point as it is drawn; ``text`` is empty if there was no room for a label."""

    point: Point
    x: float
    y: float
    low: float
    high: float
    text: str
    text_x: float
    text_y: float
    anchor: str

    @property
    def state(self) -> str:
        """The state as a class name of the style sheet."""
        return self.point.state.replace(" ", "-").replace(",", "")


@dataclass(frozen=True)
class Tick:
    """A position on an axis and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Line:
    """A level as it is drawn."""

    place: float
    text: str
    kind: str
    text_x: float
    text_y: float
    anchor: str


@dataclass(frozen=True)
class Chart:
    """Everything that the template draws; the titles of the axes are text of the page around it."""

    caption: str
    above: str
    below: str
    marks: Sequence[Mark]
    columns: Sequence[Tick]
    rows: Sequence[Tick]
    levels: Sequence[Line]
    note: str = ""
    kind: str = field(default="chart", init=False)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the plot."""
        return _LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the view box."""
        return WIDTH, HEIGHT


def chart(
    points: Sequence[Point],
    levels: Sequence[Level] = (),
    *,
    caption: str,
    above: str,
    below: str,
    sign: int = 1,
) -> Chart | None:
    """Lay out the figure; None if no point has a cost and a value.

    Parameters
    ----------
    points, levels
        What is drawn. A level of the kind ``floor`` that lies far below everything else is
        mentioned in the note instead.
    caption, above, below
        Caption, title of the vertical axis and title of the horizontal axis.
    sign
        1 if a higher value is better, -1 if a lower value is better; better is drawn further up.
    """
    points = [p for p in points if p.cost > 0 and math.isfinite(p.cost) and math.isfinite(p.value)]
    if not points:
        return None
    bottom, top = _range(points, [one for one in levels if one.kind != "floor"])
    near = [one for one in levels if _is_near(one, bottom, top)]
    far = [one for one in levels if one not in near]
    bottom, top = _range(points, near, around=(bottom, top))
    right_of, columns = _log_axis([point.cost for point in points])

    def above_of(value: float) -> float:
        share = (min(max(value, bottom), top) - bottom) / (top - bottom)
        share = share if sign > 0 else 1 - share
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    placed = [(point, right_of(point.cost), above_of(point.value)) for point in points]
    taken = [(x - _SYMBOL, y - _SYMBOL, x + _SYMBOL, y + _SYMBOL) for _, x, y in placed]
    for point, x, _ in placed:
        if math.isfinite(point.low) and math.isfinite(point.high):
            ends = sorted((above_of(point.low), above_of(point.high)))
            taken.append((x - 2, ends[0], x + 2, ends[1]))
    marks = _marks(placed, above_of, taken, [above_of(one.value) for one in near])
    return Chart(
        caption=caption,
        above=above,
        below=below,
        levels=[_line(one, above_of(one.value), taken) for one in near],
        marks=marks,
        columns=columns,
        rows=[Tick(above_of(value), text) for value, text in _linear_ticks(bottom, top)],
        note=" ".join(f"Outside the figure: {one.text} at {one.value:.3g}." for one in far),
    )


def _range(
    points: Sequence[Point], levels: Sequence[Level], around: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Ends of the vertical axis, which cut intervals that are much longer than the others."""
    values = [point.value for point in points] + [one.value for one in levels]
    spread = max(values) - min(values) or abs(values[0]) * 0.1 or 1.0
    ends = [end for p in points for end in (p.low, p.high) if math.isfinite(end)]
    low = max(min([*values, *ends]), min(values) - 2 * spread)
    high = min(max([*values, *ends]), max(values) + 2 * spread)
    if around is not None:
        return min(low, around[0]), max(high, around[1])
    space = _SPACE * ((high - low) or spread)
    return low - space, high + space


def _is_near(level: Level, bottom: float, top: float) -> bool:
    size = top - bottom
    return level.kind != "floor" or bottom - size / 2 <= level.value <= top + size / 2


def _log_axis(costs: Sequence[float]) -> tuple[Callable[[float], float], list[Tick]]:
    low, high = math.log10(min(costs)), math.log10(max(costs))
    space = _SPACE * (high - low) or 0.3
    low, high = low - space, high + space
    room = WIDTH - _LEFT - _RIGHT

    def place(cost: float) -> float:
        return _LEFT + room * (math.log10(cost) - low) / (high - low)

    steps = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9))
    for factors in steps:
        exponents = range(math.floor(low) - 1, math.ceil(high) + 1)
        values = [factor * 10.0**e for e in exponents for factor in factors]
        chosen = [value for value in values if low <= math.log10(value) <= high]
        if len(chosen) > 2:
            break
    # a text must not be cut by the edge, and two texts must not touch
    ticks: list[Tick] = []
    for value in chosen:
        text, x = _short(value), place(value)
        half = len(text) * _LETTER / 2
        is_free = not ticks or x - ticks[-1].place > (len(text) + len(ticks[-1].text)) * _LETTER / 2
        if is_free and x + half < WIDTH and x - half > 0:
            ticks.append(Tick(x, text))
    return place, ticks


def _short(value: float) -> str:
    """``500``, ``20k``, ``1.5M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [
        (index * step, f"{index * step:.{places}f}".replace("-", "−"))
        for index in range(first, last + 1)
    ]


def _line(level: Level, y: float, taken: list[Box]) -> Line:
    """A level with its text at its left or right end, above or below, where there is room."""
    width, rise = len(level.text) * _LETTER, LETTERS
    ends = (("end", WIDTH - _RIGHT - 4.0), ("start", _LEFT + 4.0))
    boxes = [
        (anchor, x, down, _box(anchor, x, y + down, width))
        for down in (
            (0.7 * rise, -0.7 * rise) if level.kind == "margin" else (-0.7 * rise, 0.7 * rise)
        )
        for anchor, x in ends
    ]
    free = [row for row in boxes if not any(_overlap(row[3], other) for other in taken)]
    anchor, x, down, box = (free or boxes)[0]
    if level.text:
        taken.append(box)
    return Line(y, level.text, level.kind, x, y + down + 0.35 * rise, anchor)


def _marks(
    placed: Sequence[tuple[Point, float, float]],
    above_of: Callable[[float], float],
    taken: list[Box],
    lines: Sequence[float],
) -> list[Mark]:
    crossed = [(_LEFT, y - 2, WIDTH, y + 2) for y in lines]
    marks = []
    for point, x, y in placed:
        text, text_x, text_y, anchor = _label(point.name, x, y, taken, crossed)
        low, high = (above_of(end) if math.isfinite(end) else y for end in (point.low, point.high))
        marks.append(Mark(point, x, y, low, high, text, text_x, text_y, anchor))
    return marks


def _label(
    name: str, x: float, y: float, taken: list[Box], lines: Sequence[Box]
) -> tuple[str, float, float, str]:
    """Place a label at the first free position next to its point, and mark the position as taken.

    A position on a line is used only if no other is free. If none is free at all, the returned
    text is empty.
    """
    width, rise = len(name) * _LETTER, LETTERS
    places = [
        (anchor, at, y + down)
        for down in (0.0, -0.7 * rise, 0.7 * rise, -1.5 * rise, 1.5 * rise)
        for anchor, at in (("start", x + 12), ("end", x - 12))
    ]
    for obstacles in ([*taken, *lines], taken):
        for anchor, at, middle in places:
            box = _box(anchor, at, middle, width)
            is_inside = box[0] >= _LEFT and box[2] <= WIDTH and box[1] >= 0
            is_inside = is_inside and box[3] <= HEIGHT - _BOTTOM
            if is_inside and not any(_overlap(box, other) for other in obstacles):
                taken.append(box)
                return name, at, middle + 0.35 * rise, anchor
    return "", x, y, "start"


def _box(anchor: str, x: float, y: float, width: float) -> Box:
    """The area of a text that starts or ends at ``x`` and is centred vertically at ``y``."""
    left = x if anchor == "start" else x - width
    return left, y - LETTERS / 2, left + width, y + LETTERS / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
