"""The largest training batch of each preset under each memory budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lunet.reporting.figures_pareto import plain_number
from lunet.reporting.settings import ReportSettings
from lunet.reporting.style import PALETTE, TWO_COLUMNS, Drawing, notice
from lunet.reporting.tables_memory import memory_lines

_MARKERS = "o^sDvP*"


def largest_batches(costs: Mapping[str, Mapping[str, Any]], report: ReportSettings) -> Drawing:
    """A row per preset, a point per budget, by :func:`lunet.reporting.tables_memory.memory_lines`.

    Budgets that hold no sample have no point.
    """
    rows = [
        {"preset": preset, "budget_gib": budget, "batch": line.largest_batch(budget * 2**30)}
        | {"by": line.by, "error": line.error}
        for preset, line in memory_lines(costs).items()
        for budget in report.budgets_gib
    ]
    if not rows:
        return notice("no training step was measured at several batch sizes")
    data = pd.DataFrame(rows)
    names = list(dict.fromkeys(data["preset"]))
    figure = Figure(figsize=(TWO_COLUMNS * 0.72, 1.0 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    for place, budget in enumerate(report.budgets_gib):
        part = data[(data["budget_gib"] == budget) & (data["batch"] > 0)]
        heights = [names.index(name) for name in part["preset"]]
        axes.plot(
            part["batch"],
            heights,
            _MARKERS[place % len(_MARKERS)],
            color=PALETTE[place % len(PALETTE)],
            ms=4.5,
            label=f"{budget:g} GiB",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("Largest training batch (samples)")
    figure.legend(loc="outside upper center", ncols=len(report.budgets_gib))
    return Drawing(figure, data)
