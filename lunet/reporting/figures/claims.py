"""Figures of a study's own questions: pairs that the configuration names, skips and bottleneck."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from lunet.metrics.catalog import compared_title as title
from lunet.metrics.catalog import direction
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.figures.bounds import draw_readers, reader_means
from lunet.reporting.figures.pareto import plain_number
from lunet.reporting.figures.style import (
    BLUE,
    GREEN,
    ONE_COLUMN,
    ORANGE,
    PALETTE,
    PURPLE,
    TWO_COLUMNS,
    VERMILLION,
    Drawing,
    notice,
)
from lunet.reporting.figures.verdicts import (
    VERDICT_COLOURS,
    VERDICT_MARKERS,
    WITHIN_MARGIN,
    verdict_legend,
)
from lunet.reporting.numbers import integer
from lunet.reporting.scores import headline, headline_summary
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.claims import compared
from lunet.reporting.tables.memory import memory_lines

_SERIES = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (ORANGE, "D"), (PURPLE, "v"))


def pairs(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
) -> Drawing:
    """The pairs of ``statistics.pairs``: score against score, and their paired differences.

    Left: each pair is a point with the confidence intervals of both means; on the diagonal both
    scores are equal. Right: the mean paired difference with its interval. The shaded area is within
    the margin. Marker and colour show the verdict of the adjusted tests over all named pairs.
    """
    if not statistics.named_pairs:
        return notice("statistics.pairs names no pair")
    data = pair_data(cases, costs, statistics)
    height = max(2.9, 1.3 + 0.32 * len(data))
    figure = Figure(figsize=(TWO_COLUMNS, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.05))
    _scores(left, data, statistics)
    draw_readers(left, reader_means(cases, statistics))
    _differences(right, data, statistics)
    verdict_legend(figure, data["verdict"], statistics)
    return Drawing(figure, data)


def pair_data(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
) -> pd.DataFrame:
    """A row per named pair: comparison of the headline structure, intervals of both means, sizes.

    In addition to the columns of the comparison: ``number`` (from 1) and, for both sides, the
    interval of the mean (``low``, ``high``) and ``parameters``, with the suffix ``_reference`` for
    the second side.
    """
    table = compared(cases, statistics)
    table = table[table["label"] == headline(cases)].drop(columns="sentence")
    stats = headline_summary(cases, statistics.metric, statistics)
    table = table.reset_index(drop=True).assign(number=range(1, len(table) + 1))
    for side, suffix in (("preset", ""), ("reference", "_reference")):
        table[f"low{suffix}"] = table[side].map(stats["ci_low"])
        table[f"high{suffix}"] = table[side].map(stats["ci_high"])
        table[f"parameters{suffix}"] = [
            flat(costs.get(name, {}))["parameters"] for name in table[side]
        ]
    return table


def _scores(axes: Axes, data: pd.DataFrame, statistics: StatisticsSettings) -> None:
    sign = direction(statistics.metric)
    values = data[["low", "high", "low_reference", "high_reference", "mean", "mean_reference"]]
    low, high = float(values.min(axis=None)), float(values.max(axis=None))
    space = 0.06 * (high - low) or 0.05
    ends = [low - space, high + space]
    if statistics.margin:
        floor = [end - sign * statistics.margin for end in ends]
        axes.fill_between(ends, floor, ends, color=WITHIN_MARGIN, lw=0, zorder=0)
    axes.plot(ends, ends, color="black", lw=0.8, zorder=1)
    for row in data.to_dict("records"):
        colour, place = VERDICT_COLOURS[row["verdict"]], (row["mean_reference"], row["mean"])
        bar: dict[str, Any] = {"color": colour, "lw": 0.8, "alpha": 0.6, "zorder": 2}
        axes.plot([row["low_reference"], row["high_reference"]], [place[1]] * 2, **bar)
        axes.plot([place[0]] * 2, [row["low"], row["high"]], **bar)
        axes.plot(*place, VERDICT_MARKERS[row["verdict"]], color=colour, ms=5, zorder=3)
        axes.annotate(
            str(row["number"]), place, xytext=(4, 4), textcoords="offset points", size=6.5
        )
    axes.set(xlim=ends, ylim=ends, aspect="equal")
    name = f"{title(statistics.metric)} of the"
    where = f"({headline_of(data)}, {100 * statistics.confidence:g} % intervals)"
    axes.set_xlabel(f"{name} second preset of the pair")
    axes.set_ylabel(f"{name} first preset of the pair\n{where}")


def headline_of(data: pd.DataFrame) -> str:
    """The structure that the rows are about."""
    return str(data["label"].iloc[0])


def _differences(axes: Axes, data: pd.DataFrame, statistics: StatisticsSettings) -> None:
    sign = direction(statistics.metric)
    if statistics.margin:
        axes.axvspan(0, -sign * statistics.margin, color=WITHIN_MARGIN, lw=0, zorder=0)
    axes.axvline(0, color="black", lw=0.8, zorder=1)
    for place, row in enumerate(data.to_dict("records")):
        colour = VERDICT_COLOURS[row["verdict"]]
        axes.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, lw=1.3)
        axes.plot(row["difference"], place, VERDICT_MARKERS[row["verdict"]], color=colour, ms=5)
    axes.set_yticks(range(len(data)), [_pair_name(row) for row in data.to_dict("records")])
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    better = "right" if sign > 0 else "left"
    axes.set_xlabel(f"Paired difference in {title(statistics.metric)} ({better}: first is better)")


def _pair_name(row: Mapping[str, Any]) -> str:
    """``1  lunet_small_6f (22,081)`` above ``unet_small_1f (22,362)``: parameters in brackets."""
    first, second = (
        f"{row[side]} ({integer(row[key])})"
        for side, key in (("preset", "parameters"), ("reference", "parameters_reference"))
    )
    return f"{row['number']}  {first}\n− {second}"


def skips(
    cases: pd.DataFrame, runs: Sequence[Mapping[str, Any]], statistics: StatisticsSettings
) -> Drawing:
    """Score against the bottleneck's width, with a line for each set of skips.

    Networks that differ only in bottleneck and skips are a family; families with more than one set
    of skips are drawn. Widths and skips are read from ``run.json`` of the trained networks.
    """
    designs = skip_designs(runs)
    if designs.empty:
        return notice("no two networks differ only in their skips")
    stats = headline_summary(cases, statistics.metric, statistics)
    columns = ["mean", "ci_low", "ci_high", "n"]
    data = designs.join(stats[columns], on="preset", how="inner").reset_index(drop=True)
    figure = Figure(figsize=(ONE_COLUMN * 1.25, 2.9), layout="constrained")
    axes = figure.subplots()
    several = data["family"].nunique() > 1
    for place, (_, part) in enumerate(data.groupby(["family", "skips"], sort=False)):
        _line(axes, part.sort_values("bottleneck"), place, _series_name(part, several=several))
    draw_readers(axes, reader_means(cases, statistics))
    widths = sorted(data["bottleneck"].unique())
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(widths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.set_xlabel("Channels of the bottleneck")
    where = f"{headline(cases)}, {100 * statistics.confidence:g} % interval"
    axes.set_ylabel(f"{title(statistics.metric)}\n({where})")
    axes.legend(loc="best")
    if direction(statistics.metric) < 0:
        axes.invert_yaxis()
    return Drawing(figure, data)


def _line(axes: Axes, part: pd.DataFrame, place: int, name: str) -> None:
    colour, marker = _SERIES[place % len(_SERIES)]
    axes.plot(part["bottleneck"], part["mean"], marker=marker, color=colour, ms=4.5, label=name)
    axes.fill_between(
        part["bottleneck"], part["ci_low"], part["ci_high"], color=colour, alpha=0.15, lw=0
    )


def _series_name(part: pd.DataFrame, *, several: bool) -> str:
    family, text = str(part["family"].iloc[0]), str(part["skips"].iloc[0])
    return f"{text}, {family}" if several else text


def skip_designs(runs: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Networks with widths per level, in families that differ only in bottleneck and skips.

    Columns ``preset, family, skips, bottleneck``; families with one set of skips are left out.
    """
    rows = {}
    for run in runs:
        section = (run.get("settings") or {}).get("model") or {}
        arguments = section.get("arguments") or {}
        widths = arguments.get("widths")
        if section.get("name") != "UNet" or not isinstance(widths, list):
            continue
        rows[str(run["preset"])] = {
            "preset": str(run["preset"]),
            "family": f"{' '.join(map(str, widths[:-1]))} above",
            "skips": skips_name(arguments.get("skip_levels", "all")),
            "bottleneck": int(widths[-1]),
        }
    table = pd.DataFrame(rows.values(), columns=["preset", "family", "skips", "bottleneck"])
    counts = table.groupby("family")["skips"].transform("nunique")
    return table[counts > 1].reset_index(drop=True)


def skips_name(levels: str | Sequence[int]) -> str:
    """Levels with skips in words."""
    if levels == "all":
        return "with skips"
    if not levels:
        return "without skips"
    return f"skips at level {', '.join(map(str, levels))}"


_MARKERS = "o^sDvP*"


def largest_batches(costs: Mapping[str, Mapping[str, Any]], report: ReportSettings) -> Drawing:
    """A row per preset, a point per budget, by :func:`lunet.reporting.tables.memory.memory_lines`.

    Budgets that hold no sample have no point.
    """
    rows = [
        {"preset": preset, "budget_gib": budget, "batch": line.largest_batch(budget * 2**30)}
        | {"error": line.error}
        for preset, line in memory_lines(costs).items()
        if line is not None
        for budget in report.budgets_gib
    ]
    if not rows:
        return notice("no training step was measured well enough at several batch sizes")
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
