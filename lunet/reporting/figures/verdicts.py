"""How verdicts look in every figure that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lunet.reporting.figures.style import BLUE, GREEN, GREY, VERMILLION

VERDICT_COLOURS = {
    "better": GREEN,
    "non-inferior": BLUE,
    "worse": VERMILLION,
    "not resolved": GREY,
}
"""Of the verdicts of :mod:`lunet.statistics.paired`, in the order in which they are told."""
VERDICT_MARKERS = {"better": "^", "non-inferior": "o", "worse": "v", "not resolved": "s"}
WITHIN_MARGIN = "#DDEBF4"


def verdict_legend(figure: Figure, verdicts: Iterable[str], margin: float | None) -> None:
    """A legend above the figure: the verdicts that it shows and, if there is one, the margin."""
    found = set(verdicts)
    handles: list[Any] = [
        Line2D([], [], color=colour, marker=VERDICT_MARKERS[name], lw=1.3, ms=5, label=name)
        for name, colour in VERDICT_COLOURS.items()
        if name in found
    ]
    if margin:
        handles.append(Patch(color=WITHIN_MARGIN, label=f"within the margin of {margin:g}"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
