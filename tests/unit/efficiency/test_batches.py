"""Memory of a training step by batch size, and the largest batch that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls
from torch import nn

from lunet.efficiency import batches
from lunet.efficiency.batches import describe, training_memory
from lunet.efficiency.measure import two_training_steps
from lunet.efficiency.memory_line import counted_line, measured_line
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, DataError
from lunet.reporting.figures.claims import largest_batches
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.memory import batches as batch_table
from lunet.reporting.tables.memory import memory_lines
from lunet.settings import build_settings

MIB, GIB = 2**20, 2**30


def points(measured: list[float | None], counted: list[float]) -> list[dict[str, Any]]:
    return [
        {"batch": b, "counted_bytes": c * MIB, "measured_bytes": None if m is None else m * MIB}
        for b, m, c in zip((1, 2, 4), measured, counted, strict=True)
    ]


def test_a_line_through_all_steps_and_its_largest_error() -> None:
    line = measured_line(points([150, 250, 450], [1, 2, 4]))
    assert line is not None
    assert (line.fixed, line.per_sample) == pytest.approx((50 * MIB, 100 * MIB))
    assert line.error == pytest.approx(0, abs=1e-9)
    assert line.largest_batch(50 * MIB + 7.99 * 100 * MIB) == 7
    assert line.largest_batch(50 * MIB + 8.01 * 100 * MIB) == 8
    assert line.largest_batch(100 * MIB) == 0
    bent = measured_line(points([150, 250, 500], [1, 2, 4]))
    assert bent is not None
    # the least squares of relative deviations, found by a grid
    values, sizes = np.array([150.0, 250, 500]), np.array([1, 2, 4])
    fixed, slope = np.meshgrid(np.linspace(0, 100, 201), np.linspace(50, 150, 401), indexing="ij")
    square = sum(((fixed + slope * b) / v - 1) ** 2 for b, v in zip(sizes, values, strict=True))
    best = np.unravel_index(square.argmin(), square.shape)
    assert bent.fixed / MIB == pytest.approx(fixed[best], abs=0.5)
    assert bent.per_sample / MIB == pytest.approx(slope[best], abs=0.3)
    assert 0.02 < bent.error < 0.1


@pytest.mark.parametrize("measured", [[150, None, 500], [150, 150, 150], [500, 250, 150]])
def test_there_is_no_measured_line_without_steps_that_rise(measured: list[float | None]) -> None:
    assert measured_line(points(measured, [30, 50, 90])) is None
    line = counted_line(points(measured, [30, 50, 90]))
    assert (line.fixed, line.per_sample) == pytest.approx((10 * MIB, 20 * MIB))


@pytest.mark.parametrize(
    ("measured", "known"), [([90, 150, 270], True), ([90, 150, 400], False), ([50, 50, 50], False)]
)
def test_a_preset_whose_steps_are_off_its_line_has_no_batches(
    measured: list[float], known: bool
) -> None:
    """Counted bytes never stand in: they told 355 where the measurements allowed 140 to 170."""
    costs = {
        "a": {"training_memory": points([150, 250, 450], [30, 50, 90])},
        "b": {"training_memory": points(list(measured), [10, 20, 40])},
        "c": {"training_memory": []},
    }
    lines = memory_lines(costs)
    assert {name: line is not None for name, line in lines.items()} == {"a": True, "b": known}
    table = batch_table(costs, ReportSettings(budgets_gib=(4,)), [("a", "b")])
    assert ("n/a" in [item.lines[0] for item in table.rows[1]]) is not known
    assert ("a trains with batches" in table.note) is known


def test_one_point_is_no_line() -> None:
    with pytest.raises(DataError, match="a line needs two"):
        counted_line(points([1, 2, 3], [1, 2, 3])[:1])
    for sizes in ([1], [2, 1], [1, 1]):
        with pytest.raises(ConfigError, match=r"efficiency.memory_batches: found"):
            build_settings(EfficiencySettings, {"memory_batches": sizes}, "efficiency")


def test_table_has_a_batch_per_budget() -> None:
    costs = {"a": {"training_memory": points([150, 250, 450], [1, 2, 4])}, "b": {}}
    report = ReportSettings(budgets_gib=(0.1, 4, 80))
    table = batch_table(costs, report)
    assert [row[0].lines[0] for row in table.rows] == ["a"]
    assert [item.lines[0] for item in table.rows[0][4:]] == ["0", "40", "818"]
    assert table.records[0]["batch_at_80_gib"] == int((80 * GIB - 50 * MIB) // (100 * MIB)) == 818


def test_pairs_are_told_at_the_smallest_budget_and_all_budgets_are_drawn() -> None:
    measured = {"lean": [150, 250, 450], "wide": [600, 1000, 1800]}
    costs = {name: {"training_memory": points(mib, [1, 2, 4])} for name, mib in measured.items()}
    note = batch_table(costs, ReportSettings(budgets_gib=(4, 1)), [("lean", "wide")]).note
    assert note.endswith("lean trains with batches of at most 9 and wide of 2, 4.50 times as many.")
    drawing = largest_batches(costs, ReportSettings(budgets_gib=(0.3, 1)))
    assert drawing.data["batch"].tolist() == [2, 9, 0, 2]
    shown = {line.get_label(): list(line.get_xdata()) for line in drawing.figure.axes[0].lines}
    assert shown == {"0.3 GiB": [2], "1 GiB": [9, 2]}
    assert "several batch sizes" in largest_batches({}, ReportSettings()).data["note"][0]


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm3d(8), nn.Conv3d(8, 2, 1)
    )


def test_memory_of_real_steps_rises_with_the_batch_by_what_autograd_keeps() -> None:
    found = training_memory(network(), (1, 16, 16, 16), (1, 2, 4), two_training_steps, device="cpu")
    assert [point["batch"] for point in found] == [1, 2, 4]
    line = counted_line(found)
    sample = 4 * 16**3
    # input, output of the convolution, of ReLU, of batch norm, logits are kept at the least
    assert line.per_sample > (1 + 8 + 8 + 8 + 2) * sample
    assert line.per_sample < 3 * (1 + 8 + 8 + 8 + 2) * sample
    assert line.error < 0.01
    weights = 4 * sum(p.numel() for p in network().parameters())
    assert line.fixed > 3 * weights  # Adam's two moments too


def test_what_may_not_fit_is_counted_but_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "available_memory", lambda device: 10 * MIB)
    tried = []

    def step(model: nn.Module, x: torch.Tensor) -> None:
        if x.device.type != "meta":
            tried.append(len(x))
        two_training_steps(model, x)

    found = training_memory(network(), (1, 16, 16, 16), (1, 64), step, device="cpu")
    assert tried == [1]
    assert found[1]["measured_bytes"] is None
    assert found[1]["counted_bytes"] > 5 * MIB
    assert describe(found).endswith("MiB (counted)")


@given(
    st.lists(st.floats(1, 1e4), min_size=3, max_size=6),
    st.lists(st.integers(1, 64), min_size=6, max_size=6, unique=True),
)
def test_the_line_is_that_of_non_negative_least_squares(
    values: list[float], sizes: list[int]
) -> None:
    batches = sorted(sizes)[: len(values)]
    found = counted_line(
        [
            {"batch": size, "counted_bytes": value}
            for size, value in zip(batches, values, strict=True)
        ]
    )
    heights = np.array(values)
    terms = np.stack([np.ones(len(batches)), np.array(batches, float)], axis=1) / heights[:, None]
    _, residual = nnls(terms, np.ones(len(batches)))
    own = np.linalg.norm(terms @ [found.fixed, found.per_sample] - 1)
    assert own == pytest.approx(residual, rel=1e-6, abs=1e-9)
    assert found.fixed >= 0
    assert found.per_sample >= 0
