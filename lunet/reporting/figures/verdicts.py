"""Colours, markers and legend of verdicts, the same in all figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lunet.metrics.amounts import amount
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.style import BLUE, GREEN, GREY, VERMILLION

VERDICT_COLOURS = {
    "better": GREEN,
    "non-inferior": BLUE,
    "worse": VERMILLION,
    "not resolved": GREY,
}
"""Marker of each verdict of :mod:`lunet.statistics.paired`, in the order of the legend."""
VERDICT_MARKERS = {"better": "^", "non-inferior": "o", "worse": "v", "not resolved": "s"}
WITHIN_MARGIN = "#DDEBF4"


def verdict_legend(figure: Figure, verdicts: Iterable[str], statistics: StatisticsSettings) -> None:
    """Add a legend above the figure with its verdicts and the margin, if there is one."""
    found = set(verdicts)
    handles: list[Any] = [
        Line2D([], [], color=colour, marker=VERDICT_MARKERS[name], lw=1.3, ms=5, label=name)
        for name, colour in VERDICT_COLOURS.items()
        if name in found
    ]
    if statistics.margin:
        words = f"within the margin of {amount(statistics.margin, statistics.metric)}"
        handles.append(Patch(color=WITHIN_MARGIN, label=words))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
