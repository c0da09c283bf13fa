"""Figures of comparisons: paired differences with the margin, and stability of the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lunet.metrics.catalog import compared_title as title
from lunet.metrics.catalog import direction
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.bounds import draw_readers, reader_means
from lunet.reporting.figures.style import BLUE, GREY, TWO_COLUMNS, Drawing, looks, notice
from lunet.reporting.figures.verdicts import (
    VERDICT_COLOURS,
    VERDICT_MARKERS,
    WITHIN_MARGIN,
    verdict_legend,
)
from lunet.reporting.origin import of, rivals, untrained
from lunet.reporting.scores import headline, headline_summary
from lunet.reporting.tables.claims import compared
from lunet.statistics.claims import one_training
from lunet.statistics.ranking import rank_stability


def differences(
    cases: pd.DataFrame,
    statistics: StatisticsSettings,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Drawing:
    """Mean paired difference of each preset from the reference, its interval, and the margin.

    The reference is the one that the study named beforehand: the preset with the best mean would
    make the others look worse than they are. Marker and colour are the verdict of the adjusted
    tests, of the same family as in the tables.
    """
    reference = statistics.reference
    if reference is None:
        return notice("statistics.reference names no preset: no verdicts")
    data = compared(cases, statistics, costs)
    of_reference = (data["reference"] == reference) & (data["label"] == headline(cases))
    data = data[of_reference].drop(columns="sentence")
    if data.empty:
        return notice(f"no preset is compared with {reference}")
    sign = direction(statistics.metric)
    data = data.sort_values("difference", ascending=sign < 0, ignore_index=True)
    figure = Figure(figsize=(TWO_COLUMNS * 0.72, 1.0 + 0.2 * len(data)), layout="constrained")
    axes = figure.subplots()
    if statistics.margin:
        axes.axvspan(0, -sign * statistics.margin, color=WITHIN_MARGIN, lw=0, zorder=0)
        axes.axvline(-sign * statistics.margin, color=BLUE, lw=0.8, ls="--", zorder=1)
    axes.axvline(0, color="black", lw=0.8, zorder=1)
    for place, row in enumerate(data.to_dict("records")):
        _difference(axes, place, row)
    own = headline_summary(of(cases, [reference]), statistics.metric, statistics)["mean"].iloc[0]
    draw_readers(axes, reader_means(cases, statistics), vertical=True, shift=float(own))
    axes.set_yticks(range(len(data)), list(data["preset"]))
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    better = "right" if sign > 0 else "left"
    axes.set_xlabel(
        f"Difference in {title(statistics.metric)} from {reference}, {headline(cases)}\n"
        f"({100 * statistics.confidence:g} % interval; {better}: better)"
    )
    verdict_legend(figure, data["verdict"], statistics)
    return Drawing(figure, data)


def _difference(axes: Axes, place: int, row: Mapping[str, Any]) -> None:
    colour, marker = VERDICT_COLOURS[row["verdict"]], VERDICT_MARKERS[row["verdict"]]
    axes.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, lw=1.3)
    axes.plot(row["difference"], place, marker, color=colour, ms=5)


def ranks(cases: pd.DataFrame, statistics: StatisticsSettings) -> Drawing:
    """Rank of each preset by its mean score, with its bootstrap interval."""
    ranked = of(cases, rivals(cases))
    if ranked["preset"].nunique() < 2:
        return notice("there is only one preset, so there is nothing to rank")
    table = rank_stability(
        ranked,
        statistics.metric,
        confidence=statistics.confidence,
        resamples=statistics.resamples,
        seed=statistics.seed,
        untrained=untrained(cases),
    )
    data = table[table["label"] == headline(cases)].reset_index(drop=True)
    look = looks(list(data["preset"]))
    figure = Figure(figsize=(TWO_COLUMNS * 0.72, 0.9 + 0.2 * len(data)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(data.to_dict("records")):
        colour = look[row["preset"]].colour
        axes.plot(
            [row["rank_low"], row["rank_high"]], [place, place], color=colour, lw=3, alpha=0.4
        )
        axes.plot(row["rank"], place, look[row["preset"]].marker, color=colour, ms=5)
        share = f"{row['rank_low']:g} to {row['rank_high']:g}"
        axes.annotate(
            share, (1.01, place), xycoords=("axes fraction", "data"), va="center", size=6.5
        )
    axes.annotate("ranks", (1.01, -0.75), xycoords=("axes fraction", "data"), size=6, color=GREY)
    axes.set_yticks(range(len(data)), list(data["preset"]))
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.set_xlim(0.5, len(data) + 0.5)
    axes.set_xticks(np.unique(np.linspace(1, len(data), min(len(data), 10)).round().astype(int)))
    axes.grid(axis="y", visible=False)
    tau = float(data["kendall_tau"].iloc[0])
    one = one_training(ranked, untrained(cases))
    drawn = "subjects drawn again (one training each)" if one else "subjects and trainings drawn"
    axes.set_xlabel(
        f"Rank by {title(statistics.metric)}, {headline(cases)} (1: best)\n"
        f"bars: {100 * statistics.confidence:g} % intervals that hold together,\n"
        f"{drawn}; mean Kendall τ {tau:.2f}"
    )
    return Drawing(figure, data)
