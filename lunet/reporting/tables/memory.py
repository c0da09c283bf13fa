"""The largest training batch that fits a memory budget, from measurements at a few batch sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lunet.efficiency.memory_line import Line, measured_line
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import fixed, integer, significant
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.costs import conditions

_GIB, _MIB = 2**30, 2**20
_MOST_ERROR = 0.1
NOT_KNOWN = "n/a"
_NOTE = (
    "Model: memory = fixed + per sample × batch, fitted to measured training steps (forward, cross "
    "entropy, backward, Adam; eager fp32; weights, gradients, optimiser and input included): the "
    "growth of CUDA's allocator, or of the process on a CPU. Error: largest deviation of a step "
    "from the line. n/a: not measured, or a step deviates from the line by more than 10 %, which "
    "noise can cause in a small process; live tensors are no substitute, since they do not include "
    "kernels' scratch memory. Not included: the driver's context and losses to fragmentation."
)


def memory_lines(costs: Mapping[str, Mapping[str, Any]]) -> dict[str, Line | None]:
    """The measured lines of the presets whose training step was run at several batch sizes.

    A line is None if memory was not measured, or if a step deviates from it by more than a tenth.
    """
    lines = {
        name: measured_line(cost["training_memory"])
        for name, cost in costs.items()
        if cost.get("training_memory")
    }
    return {
        name: None if line is None or line.error > _MOST_ERROR else line
        for name, line in lines.items()
    }


def batches(
    costs: Mapping[str, Mapping[str, Any]],
    report: ReportSettings,
    pairs: Sequence[tuple[str, str]] = (),
) -> Table:
    """A row per measured preset: the line, its error, and the largest batch per budget.

    For each of ``pairs``, a sentence in the note compares the two presets at the smallest budget.
    """
    lines, budgets = memory_lines(costs), report.budgets_gib
    known = {name: line for name, line in lines.items() if line is not None}
    claims = [
        batch_sentence((one, known[one]), (other, known[other]), min(budgets))
        for one, other in pairs
        if one in known and other in known and budgets
    ]
    titles = ("Fixed (MiB)", "Per sample (MiB)", "Error (%)")
    return Table(
        name="batches",
        caption=f"Largest training batch per memory budget{conditions(costs)}.",
        columns=(
            Column("Preset", text=True),
            *(Column(title) for title in titles),
            *(Column(f"{budget:g} GiB") for budget in budgets),
        ),
        rows=tuple(_row(preset, line, budgets) for preset, line in lines.items()),
        records=tuple(_record(preset, line, budgets) for preset, line in lines.items()),
        note=" ".join([_NOTE, *claims]),
    )


def batch_sentence(one: tuple[str, Line], other: tuple[str, Line], budget: float) -> str:
    """A sentence that compares the largest batches of two presets within a budget (GiB)."""
    first, second = (line.largest_batch(budget * _GIB) for _, line in (one, other))
    share = f", {significant(first / second)} times as many" if second else ""
    return (
        f"In {budget:g} GiB, {one[0]} trains with batches of at most {integer(first)} and "
        f"{other[0]} of {integer(second)}{share}."
    )


def _row(preset: str, line: Line | None, budgets: Sequence[float]) -> tuple[Cell, ...]:
    if line is None:
        return (cell(preset), *(cell(NOT_KNOWN) for _ in range(3 + len(budgets))))
    return (
        cell(preset),
        cell(significant(line.fixed / _MIB)),
        cell(significant(line.per_sample / _MIB)),
        cell(fixed(100 * line.error, 1)),
        *(cell(integer(line.largest_batch(budget * _GIB))) for budget in budgets),
    )


def _record(preset: str, line: Line | None, budgets: Sequence[float]) -> dict[str, Any]:
    return {
        "preset": preset,
        "fixed_bytes": line and line.fixed,
        "per_sample_bytes": line and line.per_sample,
        "error": line and line.error,
    } | {
        f"batch_at_{budget:g}_gib": line and line.largest_batch(budget * _GIB) for budget in budgets
    }
