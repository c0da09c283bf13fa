"""Tables of segmentation quality: one preset's summary, all presets, and the worst cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lunet.metrics.catalog import compared_title, title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import RULE, decimals, fixed, integer, interval
from lunet.reporting.origin import untrained
from lunet.reporting.result_files import check_metrics
from lunet.reporting.scores import COUNTED, by_quality, summarise
from lunet.reporting.settings import ReportSettings
from lunet.reporting.unlearned import unlearned_in
from lunet.statistics.claims import ONE_TRAINING, one_training

FINDING = "finding"
"""Column of a summary: the sentence about a network that has not learnt the task, else empty."""
_COUNT_COLUMNS = (Column("Missed"), Column("Spurious"), Column("Both empty"))
COUNT_NOTE = (
    "Missed: present in the reference, absent from the prediction (scored with the worst value). "
    "Spurious: the reverse. Both empty: scored with the best value if another network invents the "
    "structure, otherwise left out for all networks. Counts are summed over seeds."
)


def half_width(row: Mapping[str, Any]) -> float:
    """Uncertainty that is used for rounding: half the interval, else the standard deviation."""
    half = (row["ci_high"] - row["ci_low"]) / 2
    return float(half) if half > 0 else float(row["sd"])


def mean_cell(row: Mapping[str, Any] | pd.Series) -> Cell:
    """``mean ± sd`` with the confidence interval of the mean below."""
    places = decimals(half_width(row))
    middle = f"{fixed(row['mean'], places)} ± {fixed(row['sd'], places)}"
    return cell(middle, interval(row["ci_low"], row["ci_high"], places))


def level(settings: StatisticsSettings) -> str:
    """The confidence level as text: ``95 %``."""
    return f"{100 * settings.confidence:g} %"


def drawn(cases: pd.DataFrame) -> str:
    """How the intervals of means are computed, for captions."""
    single = one_training(cases, untrained(cases))
    return "bootstrap over subjects" if single else "over subjects and trainings"


def scope(cases: pd.DataFrame) -> str:
    """A sentence for notes if a preset was trained only once per fold."""
    return f" {ONE_TRAINING}" if one_training(cases, untrained(cases)) else ""


def accuracy(cases: pd.DataFrame, settings: StatisticsSettings, report: ReportSettings) -> Table:
    """Quality of every preset: mean over structures and each structure, with counts of failures."""
    check_metrics(cases, report.metrics)
    stats = summarise(cases, report.metrics, settings)
    groups = [
        {row["metric"]: row for row in part.to_dict("records")}
        for _, part in stats.groupby(["preset", "label"], sort=False)
    ]
    heads = (Column("Preset", text=True), Column("Structure", text=True), Column("Cases"))
    return Table(
        name="accuracy",
        caption=f"Segmentation quality: mean ± sd over cases, {level(settings)} confidence interval"
        f" of the mean in brackets ({drawn(cases)}).",
        columns=(*heads, *(Column(title(metric)) for metric in report.metrics), *_COUNT_COLUMNS),
        rows=tuple(_accuracy_row(group) for group in groups),
        records=tuple(_accuracy_record(group) for group in groups),
        note=f"{RULE} {COUNT_NOTE}{scope(cases)}",
    )


def _accuracy_row(stats: Mapping[str, Mapping[str, Any]]) -> tuple[Cell, ...]:
    first = next(iter(stats.values()))
    head = (cell(first["preset"]), cell(first["label"]), cell(integer(first["n"])))
    values = (mean_cell(row) for row in stats.values())
    return (*head, *values, *(cell(integer(first[name])) for name in COUNTED))


def _accuracy_record(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    first = next(iter(stats.values()))
    record = {key: first[key] for key in ("preset", "label", "n", "n_groups", "n_seeds", "n_folds")}
    names = ("mean", "sd", "ci_low", "ci_high", "median", "iqr", "sd_seeds", "sd_folds")
    for metric, row in stats.items():
        record |= {f"{metric}_{name}": row[name] for name in names}
    return record | {name: first[name] for name in COUNTED}


def summary(
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    settings: StatisticsSettings,
    report: ReportSettings,
    floor: pd.DataFrame | None = None,
) -> Table:
    """Everything about the given presets: a row per structure and metric, costs in the CSV.

    What has not learnt the task is named (:func:`unlearned_in`); ``floor`` has the rows of
    the atlas prior, if it is not among the cases.
    """
    check_metrics(cases, report.metrics)
    known = cases if floor is None else pd.concat([cases, floor], ignore_index=True)
    weak = unlearned_in(known, settings.metric)
    stats = summarise(cases, report.metrics, settings).to_dict("records")
    names = ", ".join(dict.fromkeys(row["preset"] for row in stats))
    titles = ("Median", "IQR", "SD of seeds", "SD of folds", "Cases", "Subjects")
    heads = (Column(name, text=True) for name in ("Preset", "Structure", "Metric"))
    return Table(
        name="summary",
        caption=f"Summary of {names}.",
        columns=(
            *heads,
            Column(f"Mean ± sd, {level(settings)} interval"),
            *(Column(name) for name in titles),
        ),
        rows=tuple(map(_summary_row, stats)),
        records=tuple(
            row
            | (flat(costs[row["preset"]]) if row["preset"] in costs else {})
            | {FINDING: weak.get(row["preset"], "")}
            for row in stats
        ),
        note=" ".join([*weak.values(), f"{RULE}{scope(cases)}"]),
    )


def _summary_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    places = decimals(half_width(row))
    spreads = (row[name] for name in ("median", "iqr", "sd_seeds", "sd_folds"))
    return (
        cell(row["preset"]),
        cell(row["label"]),
        cell(title(row["metric"])),
        mean_cell(row),
        *(cell(fixed(value, places)) for value in spreads),
        cell(integer(row["n"])),
        cell(integer(row["n_groups"])),
    )


def failures(cases: pd.DataFrame, settings: StatisticsSettings, report: ReportSettings) -> Table:
    """The worst cases of each preset by the primary metric, and the run of each."""
    metric = settings.metric
    shown = tuple(dict.fromkeys((metric, *report.metrics)))
    check_metrics(cases, shown)
    worst = pd.concat(
        by_quality(part, metric, best_first=False).head(report.failures)
        for _, part in cases.groupby("preset", sort=False)
    )
    keys = ["preset", "fold", "seed", "case", "label", "status"]
    rows = tuple(
        (*(cell(row[key]) for key in keys), *(cell(fixed(row[m], 3)) for m in shown))
        for _, row in worst.iterrows()
    )
    records = tuple(worst[[*keys, *shown]].to_dict("records"))
    heads = ("Preset", "Fold", "Seed", "Case", "Structure", "Status")
    columns = (
        *(Column(head, text=head not in ("Fold", "Seed")) for head in heads),
        *(Column(title(m)) for m in shown),
    )
    caption = f"The {report.failures} worst cases of each preset by {compared_title(metric)}."
    return Table("failures", caption, columns, rows, records)
