"""The largest training batch that fits a memory budget, from measured steps at few batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lunet.efficiency.memory_line import Line, memory_line
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import integer, significant
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.costs import conditions

_GIB, _MIB = 2**30, 2**20
_MOST_ERROR = 0.1
_NOTE = (
    "Model: memory = fixed + per sample × batch, the line through the training steps at the two "
    "smallest batch sizes (forward, cross entropy, backward, Adam; eager fp32; weights, "
    "gradients, optimiser and input included). Error: largest deviation of the line from the "
    "steps at the other batch sizes. Measured: growth of CUDA's allocator, or of the process on a "
    "CPU; counted: live tensors, for all presets where the measured steps of one are off their "
    "line by more than 10 % or were not measured. Not included: the driver's context and what "
    "fragmentation takes."
)


def memory_lines(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Line]:
    """The lines of the presets whose training step was measured.

    Presets are compared, so one kind of bytes serves all: counted ones, where a measured line fails
    for any of them (a negative fixed part, or steps off the line by more than a tenth, as the
    noise of a CPU's resident set makes of small networks).
    """
    points = {
        name: cost["training_memory"] for name, cost in costs.items() if cost.get("training_memory")
    }
    lines = {name: memory_line(found) for name, found in points.items()}
    if all(line.by == "measured" and _holds(line) for line in lines.values()):
        return lines
    return {
        name: memory_line([point | {"measured_bytes": None} for point in found])
        for name, found in points.items()
    }


def _holds(line: Line) -> bool:
    return line.fixed >= 0 and not line.error > _MOST_ERROR


def batches(
    costs: Mapping[str, Mapping[str, Any]],
    report: ReportSettings,
    pairs: Sequence[tuple[str, str]] = (),
) -> Table:
    """A row per preset whose training step was measured: the line, its error, batch per budget.

    For each of ``pairs``, one sentence in the note compares both at the smallest budget.
    """
    lines, budgets = memory_lines(costs), report.budgets_gib
    claims = [
        batch_sentence((one, lines[one]), (other, lines[other]), min(budgets))
        for one, other in pairs
        if one in lines and other in lines and budgets
    ]
    titles = ("Fixed (MiB)", "Per sample (MiB)", "Error (%)")
    return Table(
        name="batches",
        caption=f"Largest training batch per memory budget{conditions(costs)}.",
        columns=(
            Column("Preset", text=True),
            *(Column(title) for title in titles),
            Column("By", text=True),
            *(Column(f"{budget:g} GiB") for budget in budgets),
        ),
        rows=tuple(_row(preset, line, budgets) for preset, line in lines.items()),
        records=tuple(_record(preset, line, budgets) for preset, line in lines.items()),
        note=" ".join([_NOTE, *claims]),
    )


def batch_sentence(one: tuple[str, Line], other: tuple[str, Line], budget: float) -> str:
    """What a budget (GiB) holds of two presets, in words."""
    first, second = (line.largest_batch(budget * _GIB) for _, line in (one, other))
    share = f", {significant(first / second)} times as many" if second else ""
    return (
        f"In {budget:g} GiB, {one[0]} trains with batches of at most {integer(first)} and "
        f"{other[0]} of {integer(second)}{share}."
    )


def _row(preset: str, line: Line, budgets: Sequence[float]) -> tuple[Cell, ...]:
    return (
        cell(preset),
        cell(significant(line.fixed / _MIB)),
        cell(significant(line.per_sample / _MIB)),
        cell(significant(100 * line.error, 2)),
        cell(line.by),
        *(cell(integer(line.largest_batch(budget * _GIB))) for budget in budgets),
    )


def _record(preset: str, line: Line, budgets: Sequence[float]) -> dict[str, Any]:
    head = {
        "preset": preset,
        "by": line.by,
        "fixed_bytes": line.fixed,
        "per_sample_bytes": line.per_sample,
        "error": line.error,
    }
    return head | {
        f"batch_at_{budget:g}_gib": line.largest_batch(budget * _GIB) for budget in budgets
    }
