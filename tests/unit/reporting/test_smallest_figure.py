"""The figure of a search shows what is decided, and whose networks they are."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from lunet.reporting.figures.style import looks
from lunet.reporting.search_grid import SearchGrid
from lunet.reporting.smallest import Rules
from lunet.reporting.smallest_figure import figure


def row(candidate: str, cost: float, state: str, estimate: float = -0.004) -> dict[str, Any]:
    bounds = {"ci_low": estimate - 0.01, "ci_high": estimate + 0.01}
    return {"candidate": candidate, "cost": cost, "state": state, "estimate": estimate} | bounds


@pytest.fixture
def rules(tmp_path: Any) -> Rules:
    grid = SearchGrid("unet_small_8f", (0, 1), (0, 1))
    return Rules(tmp_path, grid, "dice", 0.01, "obrien_fleming", 0.1)


def markers(drawn: Figure) -> dict[float, Any]:
    """Face colour of the marker at each cost."""
    lines = [line for line in drawn.axes[0].lines if line.get_marker() not in ("None", "", None)]
    return {float(line.get_xdata()[0]): line.get_markerfacecolor() for line in lines}


def test_what_is_not_decided_is_hollow(rules: Rules) -> None:
    states = ["non-inferior", "given up", "inferior", "better", "undecided", "not resolved"]
    rows = [row(f"unet_small_{n}f", 10.0**n, state) for n, state in enumerate(states, 1)]
    faces = markers(figure(rows, [], rules, "macs").figure)
    hollow = [state for n, state in enumerate(states, 1) if faces[10.0**n] == "white"]
    assert hollow == ["undecided", "not resolved"]
    assert faces[10.0] == looks(["unet_small_1f"])["unet_small_1f"].colour


def test_families_are_named_and_labels_lie_inside(rules: Rules) -> None:
    rows = [row("unet_small_6f", 2.6e8, "non-inferior"), row("lunet_small_8f", 2.8e8, "better")]
    untested = [SimpleNamespace(name="lunet_small_1f", cost=5e6)]
    drawn = figure(rows, untested, rules, "macs").figure
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["U-Net small", "LUNet small"]
    texts = {text.get_text() for text in drawn.axes[0].texts}
    assert texts == {"margin", "6f: non-inferior", "8f: better"}


def test_a_candidate_without_a_value_has_no_label(rules: Rules) -> None:
    rows = [row("unet_small_6f", 2.6e8, "not resolved", math.nan)]
    texts = {text.get_text() for text in figure(rows, [], rules, "macs").figure.axes[0].texts}
    assert texts == {"margin"}
