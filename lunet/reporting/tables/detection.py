"""Tables of what a mean hides: missed and invented structures, failures, limits of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lunet.metrics.catalog import column_in, title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import NONE, decimals, fixed, integer, interval, significant
from lunet.reporting.origin import untrained
from lunet.reporting.scores import presets, structures, summarise
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.scores import level
from lunet.statistics.detection import EVENTS
from lunet.statistics.detection import detection as rates_of
from lunet.statistics.limits import limits as limits_of

_DISTANCES = ("hd", "hd95", "assd", "masd")


def detection(cases: pd.DataFrame, statistics: StatisticsSettings, report: ReportSettings) -> Table:
    """Rates of missed and invented structures and of failures; distances of found structures."""
    rates = rates_of(cases, failure=statistics.failure, confidence=statistics.confidence)
    shown = [m for m in report.metrics if column_in(m, "mm") in _DISTANCES and m in cases]
    found = _found(cases, shown, statistics)
    ranks = {name: place for place, name in enumerate(structures(cases))}
    order = {name: place for place, name in enumerate(presets(cases))}
    records = sorted(
        rates.to_dict("records"), key=lambda row: (order[row["preset"]], ranks[row["label"]])
    )
    for record in records:
        for metric in shown:
            own = found.get((record["preset"], record["label"], metric), {})
            for name in ("mean", "ci_low", "ci_high", "n"):
                record[f"{metric}_found_{name}"] = own.get(name, float("nan"))
    titles = (
        "Missed",
        "Invented",
        f"Failed (Dice < {statistics.failure:g})",
        *(f"{title(metric)} if found" for metric in shown),
    )
    return Table(
        name="detection",
        caption="Structures missed and invented, failed cases, and distances without misses.",
        columns=(
            Column("Preset", text=True),
            Column("Structure", text=True),
            *(Column(f"{head} [{level(statistics)} interval]") for head in titles),
        ),
        rows=tuple(_detected(row, shown) for row in records),
        records=tuple(records),
        note="Missed: share of the cases that have the structure. Invented: share of the cases "
        "that do not have it. Failed: share of all cases; a missed or invented structure has Dice "
        "0. The value of a case is the mean over its trainings; intervals by Clopper and Pearson "
        "with subjects as trials. In other tables a missed structure has the diagonal of the image "
        "as its distance, which depends on the size of the image; here distances are means over "
        "structures that were found.",
    )


def _found(
    cases: pd.DataFrame, metrics: list[str], statistics: StatisticsSettings
) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Summaries of the distances over rows in which the structure exists and was found."""
    rows = cases[cases["status"] == "ok"]
    if rows.empty or not metrics:
        return {}
    stats = summarise(rows, metrics, statistics).to_dict("records")
    return {(row["preset"], row["label"], row["metric"]): row for row in stats}


def _detected(row: Mapping[str, Any], metrics: list[str]) -> tuple[Cell, ...]:
    cells = [cell(row["preset"]), cell(row["label"])]
    for event in EVENTS:
        share, low, high = (100 * row[f"{event}{part}"] for part in ("", "_low", "_high"))
        number = integer(row[f"{event}_n"])
        text = f"{fixed(share, 1)} % of {number}" if row[f"{event}_n"] else NONE
        cells.append(cell(text, interval(low, high, 1)))
    for metric in metrics:
        mean, low, high = (row[f"{metric}_found_{name}"] for name in ("mean", "ci_low", "ci_high"))
        places = decimals((high - low) / 2)
        cells.append(cell(fixed(mean, places), interval(low, high, places)))
    return tuple(cells)


def limits(cases: pd.DataFrame, statistics: StatisticsSettings, compared: pd.DataFrame) -> Table:
    """Whether each mean and each verdict is limited by subjects or by trainings."""
    table = limits_of(cases, statistics.metric, compared, untrained=untrained(cases)).to_dict(
        "records"
    )
    heads = ("Subjects", "Seeds", "Standard error", "SD of subjects", "SD of a training", "SD rest")
    return Table(
        name="limits",
        caption=f"What limits a verdict on {title(statistics.metric)}: subjects or trainings.",
        columns=(
            *(Column(head, text=True) for head in ("Preset", "Against", "Structure")),
            *(Column(head) for head in heads),
            Column("Share of the trainings"),
            Column("Limited by", text=True),
        ),
        rows=tuple(map(_limit, table)),
        records=tuple({str(key): value for key, value in row.items()} for row in table),
        note="For each preset's mean and for each mean difference. SD of subjects: of the "
        "subjects' means (or differences). SD of a training: of the mean over its cases, between "
        "seeds within a fold, pooled over both sides. SD rest: of one case under one training. "
        "Share of the trainings: in the square of the standard error; above one half, more seeds "
        "help more than more subjects. With one seed it is unknown.",
    )


def _limit(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    share = row["share_trainings"]
    deviations = ("error", "sd_subjects", "sd_trainings", "sd_rest")
    return (
        *(cell(row[key] or NONE) for key in ("preset", "reference", "label")),
        cell(integer(row["n_groups"])),
        cell(integer(row["n_seeds"])),
        *(cell(significant(row[name], 2)) for name in deviations),
        cell(NONE if share != share else f"{100 * share:.0f} %"),
        cell(row["limit"]),
    )
