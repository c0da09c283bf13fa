"""Quality against speed of published and own networks, drawn apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lunet.metrics.catalog import direction, title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.bounds import draw_readers, reader_means
from lunet.reporting.figures.labelling import Label, place_labels
from lunet.reporting.figures.style import BLUE, GREY, TWO_COLUMNS, Drawing, notice
from lunet.reporting.published import COSTS, MEAN, OWN, PUBLISHED, Publication, together
from lunet.reporting.scores import headline


def scatter(
    publication: Publication,
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
    *,
    score: str,
    cost: str,
) -> Drawing:
    """Mean score against a cost on a log axis; published points hollow, this study's filled."""
    numbers = together(publication, cases, costs, statistics)
    own_name = MEAN if MEAN in set(numbers.loc[numbers["origin"] == OWN, "structure"]) else None
    data = _points(numbers, score, cost, own_name or headline(cases))
    if data.empty:
        return notice(f"no network has both {title(score)} and {COSTS[cost]}")
    figure = Figure(figsize=(TWO_COLUMNS, 3.7), layout="constrained")
    axes = figure.subplots()
    _draw(axes, data)
    scored = replace(statistics, metric=score)
    draw_readers(axes, reader_means(cases, scored))
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    axes.set_xlabel(f"{COSTS[cost]} (devices differ)\npublished: {publication.source}")
    axes.set_ylabel(f"{title(score)}, mean over structures")
    if direction(score) < 0:
        axes.invert_yaxis()
    shown = data.to_dict("records")
    place_labels(axes, [Label(r["x"], r["y"], r["model"], _colour(r["origin"])) for r in shown])
    figure.legend(handles=_handles(), loc="outside upper center", ncols=2)
    return Drawing(figure, data)


def _points(numbers: pd.DataFrame, score: str, cost: str, structure: str) -> pd.DataFrame:
    """Networks that have both numbers: origin, model, x (cost), y (score)."""
    keys = ["origin", "model"]
    means = numbers[(numbers["metric"] == score) & numbers["structure"].isin([MEAN, structure])]
    rates = numbers[(numbers["metric"] == cost) & (numbers["value"] > 0)]
    merged = rates.merge(means, on=keys, suffixes=("_x", "_y"))
    columns = {"value_x": "x", "value_y": "y"}
    return merged.rename(columns=columns)[[*keys, "x", "y"]].dropna(ignore_index=True)


def _draw(axes: Axes, data: pd.DataFrame) -> None:
    for row in data.to_dict("records"):
        axes.plot(row["x"], row["y"], zorder=4, **_marker(row["origin"]))


def _marker(origin: str) -> dict[str, Any]:
    own = origin == OWN
    return {
        "marker": "o" if own else "s",
        "color": _colour(origin),
        "markerfacecolor": _colour(origin) if own else "white",
        "markeredgewidth": 0.9,
        "markersize": 4.5,
        "linestyle": "none",
    }


def _colour(origin: str) -> str:
    return BLUE if origin == OWN else GREY


def _handles() -> Sequence[Line2D]:
    names = {OWN: "this study, measured", PUBLISHED: "published, as printed"}
    return [Line2D([], [], label=text, **_marker(origin)) for origin, text in names.items()]
