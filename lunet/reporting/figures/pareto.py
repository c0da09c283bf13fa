"""Quality against cost, with the Pareto front: parameters, MACs, latency, memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lunet.metrics.catalog import compared_title, direction
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.figures.bounds import draw_readers, note_without_cost, reader_means
from lunet.reporting.figures.labelling import Label, place_labels
from lunet.reporting.figures.style import (
    GREY,
    TWO_COLUMNS,
    Drawing,
    Look,
    family_name,
    looks,
    marker_style,
    notice,
)
from lunet.reporting.scores import headline, headline_summary
from lunet.reporting.tables.costs import STAR_NOTE, conditions, star
from lunet.statistics.values import MEAN_LABEL


@dataclass(frozen=True)
class Cost:
    """A cost axis: key of :func:`lunet.reporting.costs.flat`, its bounds if measured, title."""

    key: str
    title: str
    low: str | None = None
    high: str | None = None
    is_measured: bool = False


COSTS = {
    "parameters": Cost("parameters", "Parameters"),
    "macs": Cost("gmacs", "GMAC per image (convolutions and linear layers)"),
    "latency": Cost(
        "latency_p50_ms",
        "Latency at batch 1 (ms): median, bar: range of the medians of fresh processes",
        low="latency_low_ms",
        high="latency_high_ms",
        is_measured=True,
    ),
    "memory": Cost(
        "memory_mib", "Peak memory of one forward pass, measured (MiB)", is_measured=True
    ),
}


_COLUMNS = [
    "preset", "metric", "mean", "ci_low", "ci_high", "n", "cost", "cost_low", "cost_high",
    "unstable",
]  # fmt: skip


def pareto(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
    *,
    axis: str,
) -> Drawing:
    """Primary metric (mean over cases, confidence interval) against one cost on a log axis.

    ``axis`` is a key of :data:`COSTS`. A preset is on the front if no other preset dominates it by
    the point estimates (:func:`on_front`). Second readers are a dotted line. Rows without this cost
    have no point; the atlas prior and external rows among them are named with their score.
    """
    data = _points(cases, costs, statistics, COSTS[axis])
    if data.empty:
        return notice(f"no preset has both scores and {COSTS[axis].key}")
    figure = Figure(figsize=(TWO_COLUMNS, 3.7), layout="constrained")
    axes = figure.subplots()
    looks_of = looks(list(data["preset"]))
    for row in data.to_dict("records"):
        _point(axes, row, looks_of[row["preset"]])
    _front(axes, data)
    draw_readers(axes, reader_means(cases, statistics))
    note_without_cost(axes, cases, set(data["preset"]), statistics)
    _axes(axes, cases, statistics, COSTS[axis])
    if COSTS[axis].is_measured:
        measured = conditions(costs).removeprefix(", ")
        stars = STAR_NOTE if data["unstable"].any() else ""
        axes.set_xlabel("\n".join(filter(None, [COSTS[axis].title, measured, stars])))
    _legend(figure, looks_of, statistics)
    shown = [
        Label(
            row["cost"],
            row["mean"],
            looks_of[row["preset"]].short + "*" * row["unstable"],
            looks_of[row["preset"]].colour,
        )
        for row in data.to_dict("records")
    ]
    place_labels(axes, shown, _bar_points(data))
    return Drawing(figure, data)


def _points(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
    cost: Cost,
) -> pd.DataFrame:
    stats = headline_summary(cases, statistics.metric, statistics)
    rows = []
    for preset, row in stats.iterrows():
        if preset not in costs:
            continue
        numbers = flat(costs[str(preset)])
        value = numbers[cost.key]
        bounds = [numbers[name] if name else value for name in (cost.low, cost.high)]
        quality = {name: row[name] for name in ("mean", "ci_low", "ci_high", "n")}
        place = {"cost": value, "cost_low": bounds[0], "cost_high": bounds[1]}
        place["unstable"] = bool(star(numbers, cost.key))
        rows.append({"preset": preset, "metric": statistics.metric, **quality, **place})
    data = pd.DataFrame(rows, columns=_COLUMNS)
    data = data[data["cost"] > 0]
    return data.assign(front=on_front(data["cost"], data["mean"], direction(statistics.metric)))


def on_front(costs: pd.Series, values: pd.Series, sign: int) -> list[bool]:
    """Which points are not dominated: no other is as good in both respects and better in one."""
    cost, value = costs.to_numpy(), sign * values.to_numpy()
    as_good = (cost[None] <= cost[:, None]) & (value[None] >= value[:, None])
    better = (cost[None] < cost[:, None]) | (value[None] > value[:, None])
    return [bool(flag) for flag in ~(as_good & better).any(axis=1)]


def _point(axes: Axes, row: Mapping[str, Any], look: Look) -> None:
    bar: dict[str, Any] = {"color": look.colour, "lw": 0.8, "alpha": 0.55, "zorder": 2}
    if np.isfinite(row["ci_low"]):
        axes.plot([row["cost"]] * 2, [row["ci_low"], row["ci_high"]], **bar)
    if row["cost_high"] > row["cost_low"]:
        axes.plot([row["cost_low"], row["cost_high"]], [row["mean"]] * 2, **bar)
    axes.plot(row["cost"], row["mean"], zorder=4, **marker_style(look))


def _front(axes: Axes, data: pd.DataFrame) -> None:
    front = data[data["front"]].sort_values("cost")
    axes.step(front["cost"], front["mean"], where="post", color=GREY, lw=0.9, ls="--", zorder=1)


def _axes(axes: Axes, cases: pd.DataFrame, statistics: StatisticsSettings, cost: Cost) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.07, y=0.1)
    axes.set_xlabel(cost.title)
    where = f", {MEAN_LABEL}" if headline(cases) == MEAN_LABEL else ""
    axes.set_ylabel(
        f"{compared_title(statistics.metric)}{where}\n(mean over cases, 95 % interval)".replace(
            "95", f"{100 * statistics.confidence:g}"
        )
    )
    low, high = axes.get_xlim()
    span = high / low
    subs = (1.0,) if span > 1000 else (1.0, 2.0, 5.0) if span > 10 else (1.0, 2.0, 3.0, 5.0, 7.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if direction(statistics.metric) < 0:
        axes.invert_yaxis()


def plain_number(value: float) -> str:
    """A tick of a log axis without an exponent: ``1,000,000``, ``0.05``."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _legend(figure: Figure, looks_of: Mapping[str, Look], statistics: StatisticsSettings) -> None:
    families = {look.family: look for look in looks_of.values()}
    handles = [
        Line2D([], [], label=family_name(family), **marker_style(look))
        for family, look in families.items()
    ]
    handles.append(Line2D([], [], color=GREY, lw=0.9, ls="--", label="Pareto front"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 5))


def _bar_points(data: pd.DataFrame) -> list[tuple[float, float]]:
    """Points along the error bars, so that no label is put on a bar."""
    points = []
    for row in data.to_dict("records"):
        if np.isfinite(row["ci_low"]):
            heights = np.linspace(row["ci_low"], row["ci_high"], 40)
            points += [(row["cost"], float(height)) for height in heights]
        if row["cost_high"] > row["cost_low"]:
            widths = np.geomspace(row["cost_low"], row["cost_high"], 40)
            points += [(float(width), row["mean"]) for width in widths]
    return points + _front_points(data)


def _front_points(data: pd.DataFrame) -> list[tuple[float, float]]:
    """Points along the steps of the front."""
    front = data[data["front"]].sort_values("cost")
    places = list(zip(front["cost"], front["mean"], strict=True))
    points = []
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        points += [(float(x), y0) for x in np.geomspace(x0, x1, 60)[1:]]
        points += [(x1, float(y)) for y in np.linspace(y0, y1, 30)[1:-1]]
    return points
