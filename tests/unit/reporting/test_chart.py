"""The main figure: everything inside its frame, better above, no label over another."""

from __future__ import annotations

import math

import pytest

from lunet.reporting.html.chart import LETTERS, Chart, Level, Mark, Point, chart

NAN = math.nan


def drawn(points: list[Point], levels: list[Level] | None = None, *, sign: int = 1) -> Chart:
    made = chart(points, levels or [], caption="c", above="a", below="b", sign=sign)
    assert made is not None
    return made


def point(name: str, cost: float, value: float, half: float = 0.01, **more: bool) -> Point:
    return Point(name, cost, value, value - half, value + half, "worse", name, **more)


MANY = [point(f"network_{k}f", 1000 * 1.4**k, 0.01 * math.sin(k)) for k in range(9)]
LEVELS = [Level(0.0, "", "zero"), Level(-0.01, "margin 0.01", "margin")]


def test_all_lies_within_the_frame() -> None:
    made = drawn(MANY, LEVELS)
    left, top, right, bottom = made.box
    for mark in made.marks:
        assert left <= mark.x <= right
        assert top <= min(mark.high, mark.low) <= mark.y <= max(mark.high, mark.low) <= bottom
    assert all(top <= line.place <= bottom for line in made.levels)
    assert all(left <= tick.place <= right for tick in made.columns)
    assert all(top <= tick.place <= bottom for tick in made.rows)
    assert len(made.rows) >= 3
    assert len(made.columns) >= 2


def test_cost_grows_to_the_right_and_better_is_up() -> None:
    marks = drawn(MANY).marks
    assert [mark.x for mark in marks] == sorted(mark.x for mark in marks)
    low, high = drawn([point("a", 10, 0.1), point("b", 20, 0.5)]).marks
    assert high.y < low.y
    low, high = drawn([point("a", 10, 0.1), point("b", 20, 0.5)], sign=-1).marks
    assert high.y > low.y


def text_box(mark: Mark) -> tuple[float, float, float, float]:
    width = len(mark.text) * LETTERS * 0.5
    left = mark.text_x if mark.anchor == "start" else mark.text_x - width
    return left, mark.text_y - 0.7 * LETTERS, left + width, mark.text_y


def test_labels_keep_apart_at_the_size_of_a_phone() -> None:
    made = drawn(MANY, LEVELS)
    boxes = [text_box(mark) for mark in made.marks if mark.text]
    assert len(boxes) >= 4
    for place, one in enumerate(boxes):
        for other in boxes[:place]:
            apart_x = one[2] <= other[0] or other[2] <= one[0]
            apart_y = one[3] <= other[1] or other[3] <= one[1]
            assert apart_x or apart_y
        assert one[0] >= made.box[0]
        assert one[2] <= made.size[0]


def test_a_far_floor_is_told_and_a_near_one_drawn() -> None:
    far = drawn(MANY, [*LEVELS, Level(-0.3, "floor: atlas prior", "floor")])
    assert [line.kind for line in far.levels] == ["zero", "margin"]
    assert far.note == "Outside the figure: floor: atlas prior at -0.3."
    near = drawn(MANY, [*LEVELS, Level(-0.025, "floor: atlas prior", "floor")])
    assert [line.kind for line in near.levels] == ["zero", "margin", "floor"]
    assert not near.note


def test_a_very_long_interval_does_not_hide_the_rest() -> None:
    """An early look has an interval of several times the differences: it is cut at the frame."""
    made = drawn([point("a", 10, -0.01, 5.0), point("b", 20, 0.0)], LEVELS)
    one, other = made.marks
    assert abs(one.y - other.y) > 30
    assert (one.high, one.low) == (made.box[1], made.box[3])


@pytest.mark.parametrize("value", [0.0, 0.87, -12.5])
def test_one_network_alone_is_drawn(value: float) -> None:
    made = drawn([Point("a", 88_807, value, NAN, NAN, "better", "a")])
    assert made.marks[0].low == made.marks[0].high == made.marks[0].y
    assert made.columns
    assert made.rows


def test_what_has_no_cost_or_value_is_not_drawn() -> None:
    points = [point("a", 10, 0.1), point("b", NAN, 0.1), point("c", 0, 0.1), point("d", 10, NAN)]
    assert [mark.point.name for mark in drawn(points).marks] == ["a"]
    assert chart(points[1:], caption="", above="", below="") is None


def test_costs_of_any_size_are_written_short() -> None:
    made = drawn([point("a", 2_000, 0), point("b", 30_000_000, 0)])
    assert [tick.text for tick in made.columns][:3] == ["1k", "10k", "100k"]
    made = drawn([point("a", 0.021, 0), point("b", 0.95, 0)])
    assert "0.1" in [tick.text for tick in made.columns]
