"""Figures of single cases: distribution per preset, agreement of volumes."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lunet.metrics.catalog import column_in, title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.bounds import draw_readers, reader_means
from lunet.reporting.figures.style import (
    GREY,
    ONE_COLUMN,
    PALETTE,
    TWO_COLUMNS,
    VERMILLION,
    Drawing,
    looks,
)
from lunet.reporting.result_files import check_metrics
from lunet.reporting.scores import presets, scores, structures
from lunet.reporting.units import length_unit

_MOST_PANELS = 4


def boxplot(cases: pd.DataFrame, statistics: StatisticsSettings) -> Drawing:
    """Primary metric of every case, with a row per preset and a panel per structure.

    The box shows quartiles and median, the whiskers the farthest case within 1.5 times the box, and
    each point a case (mean over its seeds). Cases far outside (a missed structure) are counted at
    the border. A dotted line is the mean of a second reader.
    """
    check_metrics(cases, [statistics.metric])
    data = scores(cases, statistics.metric)
    names, panels = presets(cases), structures(cases)
    panels = panels[:1] if len(panels) > _MOST_PANELS else panels
    width = ONE_COLUMN if len(panels) == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, 0.75 + 0.2 * len(names)), layout="constrained")
    grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, label in zip(grid, panels, strict=True):
        _boxes(axes, data[data["label"] == label], names)
        draw_readers(axes, reader_means(cases, statistics, label), vertical=True, named=False)
        axes.set_title(label)
        axes.set_xlabel(title(statistics.metric))
    grid[0].set_yticks(range(len(names)), names)
    grid[0].set_ylim(len(names) - 0.4, -0.6)
    shown = data[data["label"].isin(panels)]
    limits = robust_limits([part for _, part in shown.groupby(["preset", "label"])["value"]])
    grid[0].set_xlim(*limits)
    for axes, label in zip(grid, panels, strict=True):
        _beyond(axes, data[data["label"] == label], names, limits)
    return Drawing(figure, data.assign(metric=statistics.metric))


def _boxes(axes: Axes, data: pd.DataFrame, names: list[str]) -> None:
    look = looks(names)
    line = {"linewidth": 0.8}
    for place, name in enumerate(names):
        part = data[data["preset"] == name]
        values = part["value"].to_numpy()
        heights = place + np.array([_jitter(case) for case in part["case"]])
        axes.plot(
            values, heights, ".", ms=2.2, mew=0, alpha=0.45, color=look[name].colour, zorder=2
        )
        axes.boxplot(
            values,
            positions=[place],
            orientation="horizontal",
            widths=0.55,
            showfliers=False,
            manage_ticks=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": "black", "linewidth": 1.4},
        )
    axes.grid(axis="y", visible=False)


def robust_limits(groups: Sequence[pd.Series], reach: float = 4.0) -> tuple[float, float]:
    """Limits of an axis that a few far values don't squeeze: quartiles and ``reach`` boxes."""
    low, high = [], []
    for values in groups:
        first, last = values.quantile(0.25), values.quantile(0.75)
        inside = values.between(first - reach * (last - first), last + reach * (last - first))
        low.append(values[inside].min())
        high.append(values[inside].max())
    space = 0.04 * (max(high) - min(low)) or 0.05
    return min(low) - space, max(high) + space


def _beyond(axes: Axes, data: pd.DataFrame, names: list[str], limits: tuple[float, float]) -> None:
    """Arrows at the border where cases lie outside, with their number: nothing goes unseen."""
    for place, name in enumerate(names):
        values = data.loc[data["preset"] == name, "value"]
        sides = (
            (values < limits[0], 0.0, "◂ {}", "left"),
            (values > limits[1], 1.0, "{} ▸", "right"),
        )
        for outside, x, text, side in sides:
            if outside.any():
                axes.annotate(
                    text.format(int(outside.sum())),
                    (x, place),
                    xycoords=("axes fraction", "data"),
                    ha=side,
                    va="center",
                    size=6,
                    color=VERMILLION,
                )


def _jitter(case: str) -> float:
    """A height in -0.2..0.2 that depends on the case alone, so that a redraw moves no point."""
    return (zlib.crc32(case.encode()) % 1000 / 999 - 0.5) * 0.4


def bland_altman(cases: pd.DataFrame) -> Drawing:
    """Volume of the prediction minus the reference's against their mean, per preset: in ml, or the
    area in px where images have no physical size.

    Lines: mean difference and 1.96 standard deviations around it (Bland and Altman, Lancet 1986),
    over the cases and structures of the panel; each point is a case of one run.
    """
    unit = length_unit(cases)
    names = [column_in(name, unit) for name in ("volume_ml", "volume_reference_ml")]
    check_metrics(cases, names)
    keys = ["preset", "label", "case"]
    volumes = cases[cases["status"] != "both_empty"]
    data = volumes.groupby(keys, sort=False)[names].mean().reset_index()
    what, size = ("volume", "ml") if unit == "mm" else ("area", "px")
    columns = f"mean_{size}", f"difference_{size}"
    data[columns[1]] = data[names[0]] - data[names[1]]
    data[columns[0]] = (data[names[0]] + data[names[1]]) / 2
    figure, grid = panels_of(presets(cases), sharey=True)
    parts = [part for _, part in data.groupby("preset")[columns[1]]]
    limits = _with_lines(robust_limits(parts), parts)
    grid[0].set_ylim(*limits)
    labels = list(dict.fromkeys(cases["label"]))
    for axes, name in zip(grid, presets(cases), strict=True):
        part = data[data["preset"] == name]
        _agreement(axes, part, labels, columns)
        outside = int((~part[columns[1]].between(*limits)).sum())
        axes.set_title(name + (f" ({outside} outside)" if outside else ""))
    figure.supxlabel(f"Mean of predicted and reference {what} ({size})", size=7)
    figure.supylabel(f"Predicted − reference ({size})", size=7)
    handles = grid[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=min(len(labels), 5), markerscale=2)
    return Drawing(figure, data)


def _with_lines(limits: tuple[float, float], parts: Sequence[pd.Series]) -> tuple[float, float]:
    """Limits that show the lines of agreement of every panel too."""
    low = min(part.mean() - 2.05 * part.std() for part in parts)
    high = max(part.mean() + 2.05 * part.std() for part in parts)
    return min(limits[0], low), max(limits[1], high)


def panels_of(names: list[str], *, sharey: bool, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A two-column figure with a small panel per name, and its axes in that order."""
    across = min(columns, max(2, len(names)))
    down = -(-len(names) // across)
    size = (TWO_COLUMNS, 0.5 + (1.75 if across <= 3 else 1.4) * down)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=sharey, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.remove()
    for axes in grid[max(0, len(names) - across) : len(names)]:
        axes.tick_params(labelbottom=True)
    return figure, list(grid[: len(names)])


def _agreement(axes: Axes, data: pd.DataFrame, labels: list[str], columns: tuple[str, str]) -> None:
    for label, colour in zip(labels, PALETTE * len(labels), strict=False):
        part = data[data["label"] == label]
        points = part[columns[0]], part[columns[1]]
        axes.plot(*points, ".", ms=2.5, mew=0, color=colour, label=label)
    bias, spread = data[columns[1]].mean(), data[columns[1]].std()
    axes.axhline(0, color=GREY, lw=0.5)
    axes.axhline(bias, color=VERMILLION, lw=0.9)
    for side in (-1.96, 1.96):
        axes.axhline(bias + side * spread, color=VERMILLION, lw=0.8, ls="--")
