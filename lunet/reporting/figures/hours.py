"""Device hours of pruning, compared with networks that need no search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lunet.metrics.settings import StatisticsSettings
from lunet.pruning.settings import PRUNING
from lunet.reporting.figures.style import BLUE, GREY, ORANGE, TWO_COLUMNS, Drawing, notice
from lunet.reporting.numbers import integer, significant
from lunet.reporting.pruned import by_strategy, read_prunings
from lunet.reporting.result_files import ResultFiles
from lunet.reporting.tables.pruning import pruning

_KINDS = {
    "search": (BLUE, "search by pruning"),
    "control": (ORANGE, "control, from scratch"),
    "preset": (GREY, "network of the study"),
}
_SMALL = 0.2  # hours; below this, minutes are shown


def hours(sources: ResultFiles, statistics: StatisticsSettings) -> Drawing:
    """A bar per network: device time of one run (mean over its runs) and its ratio to STAMP's.

    The networks are the rows of the table ``pruning`` whose device time is known. Validation
    during training is included, tests are not.
    """
    data = hours_data(sources, statistics)
    if data.empty:
        return notice("no device time is known")
    figure = Figure(figsize=(TWO_COLUMNS * 0.85, 0.9 + 0.24 * len(data)), layout="constrained")
    axes = figure.subplots()
    in_minutes = float(data["device_hours"].max()) < _SMALL
    scale, unit = (60, "minutes") if in_minutes else (1, "hours")
    for place, row in enumerate(data.to_dict("records")):
        _bar(axes, place, row, scale)
    axes.set_yticks(range(len(data)), [_name(row) for row in data.to_dict("records")])
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, 1.45 * scale * float(data["device_hours"].max()))
    first = data["network"].iloc[0]
    axes.set_xlabel(
        f"Device {unit} of one run, training and validation (mean over runs; ×: over {first})"
    )
    handles = [
        Patch(color=colour, label=text)
        for kind, (colour, text) in _KINDS.items()
        if kind in set(data["kind"])
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return Drawing(figure, data)


def hours_data(sources: ResultFiles, statistics: StatisticsSettings) -> pd.DataFrame:
    """A row per network: ``network, preset, kind, parameters, epochs, runs, device_hours, ratio``.

    ``ratio`` is the device hours divided by the first strategy's.
    """
    prunings = by_strategy(read_prunings(sources))
    kinds = {
        runs[0].label: "search" if strategy in PRUNING else "control"
        for strategy, runs in prunings.items()
    }
    rows = _known(pruning(sources, statistics).records)
    first = rows[0]["device_hours"] if rows else 1.0
    keys = ("network", "preset", "parameters", "epochs", "runs", "device_hours")
    return pd.DataFrame(
        {key: row[key] for key in keys}
        | {"kind": kinds.get(row["preset"], "preset"), "ratio": row["device_hours"] / first}
        for row in rows
    )


def _known(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if row["device_hours"]]


def _bar(axes: Axes, place: int, row: Mapping[str, Any], scale: float) -> None:
    value = row["device_hours"] * scale
    axes.barh(place, value, height=0.62, color=_KINDS[row["kind"]][0])
    epochs = f"{integer(row['epochs'])} epochs" if row["epochs"] else ""
    words = [significant(value), f"× {significant(row['ratio'])}", epochs]
    axes.annotate(
        "   ".join(filter(None, words)),
        (value, place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        size=6.5,
    )


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['network']} ({integer(row['parameters'])})"
