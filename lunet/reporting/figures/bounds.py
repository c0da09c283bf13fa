"""What bounds the quality of networks in the figures: second readers above, the prior below."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lunet.metrics.catalog import compared_title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.style import GREY, PURPLE
from lunet.reporting.origin import externals, of, readers
from lunet.reporting.result_files import PRIOR
from lunet.reporting.scores import headline, headline_summary, summarise

_LINE: dict[str, Any] = {"color": PURPLE, "lw": 0.9, "ls": ":", "zorder": 1}


def reader_means(
    cases: pd.DataFrame, statistics: StatisticsSettings, label: str | None = None
) -> dict[str, float]:
    """Second reader -> mean of the compared metric against the reference.

    Parameters
    ----------
    cases
        Per-case rows.
    statistics
        Names the metric; for a signed one the mean of the magnitude is returned.
    label
        Structure; the headline structure by default.
    """
    own = of(cases, readers(cases))
    if own.empty:
        return {}
    if label is None or label == headline(cases):
        stats = headline_summary(own, statistics.metric, statistics)
    else:
        part = own[own["label"] == label]
        stats = summarise(part, [statistics.metric], statistics).set_index("preset")
    return {str(name): float(mean) for name, mean in stats["mean"].items()}


def draw_readers(
    axes: Axes,
    means: dict[str, float],
    *,
    vertical: bool = False,
    named: bool = True,
    shift: float = 0.0,
) -> None:
    """Draw a dotted line at the mean of each second reader (the inter-rater line).

    Parameters
    ----------
    axes
        Where it is drawn.
    means
        The value of :func:`reader_means`.
    vertical
        Whether quality is the horizontal axis.
    named
        Whether the name is written at the line.
    shift
        Subtracted from the means, for axes of differences.
    """
    for name, mean in means.items():
        place = mean - shift
        (axes.axvline if vertical else axes.axhline)(place, **_LINE)
        if not named:
            continue
        text = f"inter-rater: {name} {mean:.3f}"
        style: dict[str, Any] = {"color": PURPLE, "size": 6, "textcoords": "offset points"}
        if vertical:
            axes.annotate(
                text,
                (place, 1.0),  # above the axes, which may be only one row high
                xytext=(0, 1),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                **style,
            )
        else:
            axes.annotate(
                text,
                (0.005, place),
                xytext=(0, 1.5),
                xycoords=("axes fraction", "data"),
                ha="left",
                va="bottom",
                **style,
            )


def note_without_cost(
    axes: Axes, cases: pd.DataFrame, drawn: set[str], statistics: StatisticsSettings
) -> None:
    """Write the scores of rows without a cost, which have no point, as text into the axes."""
    reasons = {name: f"{name} (no cost given)" for name in externals(cases) if name not in drawn}
    reasons |= {PRIOR: "atlas prior (no network)"} if PRIOR in set(cases["preset"]) else {}
    rows = of(cases, reasons)
    if rows.empty:
        return
    means = headline_summary(rows, statistics.metric, statistics)["mean"]
    name = compared_title(statistics.metric)
    lines = [f"{reasons[str(row)]}: {name} {mean:.3f}" for row, mean in means.items()]
    axes.annotate(
        "\n".join(lines),
        (0.995, 0.015),
        xycoords="axes fraction",
        ha="right",
        va="bottom",
        color=GREY,
        size=6,
    )
