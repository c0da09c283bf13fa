"""The figure of a search: difference from the reference against cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lunet.metrics.catalog import compared_title as title
from lunet.reporting.figures.labelling import Label, place_labels
from lunet.reporting.figures.style import (
    BLUE,
    GREY,
    TWO_COLUMNS,
    Drawing,
    Look,
    family_name,
    looks,
    marker_style,
    save,
    style,
)
from lunet.reporting.smallest import COSTS, DECISION_COLUMNS, Rules

_OPEN = ("undecided", "not resolved")


def figure(
    rows: Sequence[Mapping[str, Any]], untested: Sequence[Any], rules: Rules, kind: str
) -> Drawing:
    """Difference from the reference against cost: decided candidates filled, others hollow."""
    last = {row["candidate"]: row for row in rows}
    data = pd.DataFrame(list(last.values()), columns=DECISION_COLUMNS)
    drawn = Figure(figsize=(TWO_COLUMNS * 0.8, 3.2), layout="constrained")
    axes = drawn.subplots()
    axes.axhline(0, color="black", lw=0.8)
    axes.axhline(-rules.margin, color=BLUE, lw=0.9, ls="--")
    seen = looks([*last, *(one.name for one in untested)])
    for row in last.values():
        _draw(axes, row, seen[row["candidate"]])
    for one in untested:
        hollow = {**marker_style(seen[one.name]), "markerfacecolor": "white", "alpha": 0.4}
        axes.plot(one.cost, 0, **hollow)
    low = min([-3 * rules.margin, *(row["estimate"] - rules.margin for row in last.values())])
    high = max([2 * rules.margin, *(row["estimate"] + rules.margin for row in last.values())])
    axes.set_ylim(low, high)
    axes.set_xscale("log")
    name = f"{COSTS[kind][0].upper()}{COSTS[kind][1:]}"
    axes.set_xlabel(f"{name} (hollow: not decided; faint: not trained)")
    axes.set_ylabel(
        f"Difference in {title(rules.metric)} from {rules.grid.reference}\n(up: better)"
    )
    axes.annotate(
        "margin", (0, -rules.margin), (2, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", color=GREY, size=6,
    )  # fmt: skip
    families = {look.family: look for look in seen.values()}
    handles = [
        Line2D([], [], label=family_name(family), **marker_style(look))
        for family, look in families.items()
    ]
    drawn.legend(handles=handles, loc="outside upper center", ncols=4, frameon=False)
    _label(axes, list(last.values()), seen)
    return Drawing(drawn, data)


def _draw(axes: Axes, row: Mapping[str, Any], seen: Look) -> None:
    bounds = [row["ci_low"], row["ci_high"]]
    if all(map(math.isfinite, bounds)):
        axes.plot([row["cost"]] * 2, bounds, color=seen.colour, lw=1.0)
    face = "white" if row["state"] in _OPEN else seen.colour
    axes.plot(row["cost"], row["estimate"], **{**marker_style(seen), "markerfacecolor": face})


def _label(axes: Axes, rows: Sequence[Mapping[str, Any]], seen: Mapping[str, Look]) -> None:
    """Write what was decided next to each candidate, clear of the intervals."""
    drawn = [row for row in rows if math.isfinite(row["estimate"])]
    labels = [
        Label(
            row["cost"],
            row["estimate"],
            f"{seen[row['candidate']].short}: {row['state']}",
            seen[row["candidate"]].colour,
        )
        for row in drawn
    ]
    low, high = axes.get_ylim()
    bars = [
        (row["cost"], value)
        for row in drawn
        if math.isfinite(row["ci_low"]) and math.isfinite(row["ci_high"])
        for value in np.linspace(max(low, row["ci_low"]), min(high, row["ci_high"]), 21)
    ]
    if labels:
        place_labels(axes, labels, bars)


def write_figure(
    base: Path, rows: Sequence[Mapping[str, Any]], untested: Sequence[Any], rules: Rules, kind: str
) -> None:
    """Draw :func:`figure` and write it as ``BASE.svg``, ``.pdf``, ``.png`` and ``.csv``."""
    with style():
        save(figure(rows, untested, rules, kind), base)
