"""The answer of a search for the smallest network, as the report's first part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lunet.metrics.amounts import amount
from lunet.metrics.catalog import compared_title
from lunet.reporting.html.chart import Level, Point, chart
from lunet.reporting.html.page import Block, Shown, Text
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import decimals, fixed, integer, interval, significant
from lunet.reporting.smallest import COSTS

Record = Mapping[str, Any]
"""A row of a table as stored in its JSON file; an unknown value is None."""


def number(record: Record, key: str, otherwise: float = math.nan) -> float:
    """A number of a record; ``otherwise`` if it is missing or None."""
    value = record.get(key)
    return otherwise if value is None else float(value)


def estimate(record: Record, name: str, low: str = "ci_low", high: str = "ci_high") -> Cell:
    """A cell with a value and, below it, its interval."""
    value, bottom, top = (number(record, key) for key in (name, low, high))
    places = decimals((top - bottom) / 2)
    return cell(fixed(value, places), interval(bottom, top, places))


def short_name(preset: str) -> str:
    """The label of a point in the figure; the table and the tooltip show the full name."""
    return preset.replace("_small", "")


def reference_point(name: str, cost: float, text: str) -> Point:
    """The reference in a figure of differences from it."""
    title = f"{name}: {text}, the reference"
    return Point(short_name(name), cost, 0.0, math.nan, math.nan, "the reference", title)


def search_part(found: Mapping[str, Any], bounds: Sequence[Level] = ()) -> list[Block]:
    """The answer of a search for the smallest network, from its ``verdict.json``.

    ``bounds`` are further lines of the figure, as differences from the reference.
    """
    sentence: list[Block] = [Text(str(found["sentence"]), "strong")]
    rows = _rows(found)
    trained = [row for row in rows if row.get("estimate") is not None]
    title, cost_title = compared_title(found["metric"]), _capital(COSTS[found["cost"]])
    points = [
        Point(
            short_name(row["name"]),
            number(row, "cost"),
            number(row, "estimate"),
            number(row, "ci_low"),
            number(row, "ci_high"),
            row["state"],
            f"{row['name']}: {_cost(row, found['cost'])} {COSTS[found['cost']]}, "
            + " ".join(estimate(row, "estimate").lines)
            + f", {row['state']} after {row['folds']} folds",
            filled=row["state"] not in ("undecided", "not resolved"),
        )
        for row in trained
    ]
    points += [
        reference_point(
            row["name"], number(row, "cost"), f"{_cost(row, found['cost'])} {COSTS[found['cost']]}"
        )
        for row in rows
        if row["name"] == found["reference"] and row["cost"] is not None
    ]
    made = chart(
        points,
        [
            Level(0.0, "", "zero"),
            Level(-found["margin"], f"margin {amount(found['margin'], found['metric'])}", "margin"),
            *bounds,
        ],
        caption=f"Difference from {found['reference']}{_given(found)} against cost, with repeated "
        "confidence intervals. Filled: decided; hollow: not. The table has the numbers.",
        above=f"Difference in {title} (up: better)",
        below=cost_title,
    )
    columns = ("Network", cost_title, f"Difference in {title}", "Folds", "State")
    rows.sort(key=lambda row: -number(row, "cost", 0.0))
    table = Table(
        "answer",
        f"The candidates in the order of their cost; differences are from {found['reference']}.",
        tuple(Column(name, text=name in ("Network", "State")) for name in columns),
        tuple(
            (
                cell(row["name"]),
                cell(_cost(row, found["cost"])),
                estimate(row, "estimate"),
                cell(row["folds"] or "–"),  # of differences, which the reference has none of
                cell(row["state"]),
            )
            for row in rows
        ),
        (),
    )
    return [*sentence, *([made] if made else []), *([Shown(table)] if rows else [])]


def _rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The candidates, and an external row that they were compared with."""
    rows = list(found.get("candidates") or [])
    if rows and _given(found):
        own = {"name": found["reference"], "cost": found["reference_cost"]}
        rows.append(own | {"folds": "", "state": "the reference"})
    return rows


def _given(found: Mapping[str, Any]) -> str:
    """What kind of row the reference is; empty for a network that the study trained."""
    kind = found.get("reference_role", "trained")
    return {
        "trained": "",
        "rival": " (trained once in each fold)",
        "external": " (predictions made elsewhere)",
        "reader": " (masks of one reader)",
    }[kind]


def _cost(row: Record, kind: str) -> str:
    value = number(row, "cost")
    return integer(value) if kind == "parameters" else significant(value)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
