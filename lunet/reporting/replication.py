"""Published numbers tested again: for each, whether this study confirms or refutes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from lunet.metrics.catalog import title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Column, Table, cell
from lunet.reporting.numbers import NONE, decimals, fixed, integer, interval
from lunet.reporting.published import MEAN, SCORES, Publication
from lunet.reporting.scores import headline
from lunet.statistics.replication import own_mean, published_mean, replicated
from lunet.statistics.values import MEAN_LABEL

NO_INTERVAL = "no interval published"
_NOTE = (
    "Each published number of a network that this study has (column `preset` of the file). The "
    "cases are others, so the comparison is not paired. Confirmed: the interval of the difference "
    "lies within the margin on both sides; refuted: it excludes 0, and is not within the margin; "
    "unresolved: neither. Where only a number of cases was published, the spread of our "
    "cases is assumed. Preparation, split and evaluation may differ, so a refuted number is not "
    "necessarily wrong."
)


def replication(
    publication: Publication, cases: pd.DataFrame, statistics: StatisticsSettings
) -> Table:
    """A row for each published score of a network of this study, with the verdict on it.

    The levels are divided by the number of tests (Bonferroni).
    """
    records = list(_records(publication, cases, statistics))
    heads = ("Published", "Structure", "Metric", "Source", "Preset")
    level = f"{100 * statistics.confidence:g} % over all rows"
    return Table(
        name="replication",
        caption="Published numbers tested again.",
        columns=(
            *(Column(head, text=True) for head in heads),
            Column("Published value"),
            Column("Cases"),
            Column("This study"),
            Column(f"Difference [{level}]"),
            Column("Verdict", text=True),
        ),
        rows=tuple(_row(record) for record in records),
        records=tuple(records),
        note=f"{_NOTE} {_margin_note(statistics)}",
    )


def _margin_note(statistics: StatisticsSettings) -> str:
    if not statistics.margin:
        return "Without `statistics.margin` nothing can be confirmed."
    return f"Margin: {statistics.margin:g} in {title(statistics.metric)}; no other metric has one."


def _records(
    publication: Publication, cases: pd.DataFrame, statistics: StatisticsSettings
) -> Iterator[dict[str, Any]]:
    known, labels = set(cases["preset"]), set(cases["label"])
    pairs = [
        (row, preset, headline(cases) if row["structure"] == MEAN else row["structure"])
        for row in publication.rows.to_dict("records")
        for preset in row["preset"].split()
        if row["metric"] in SCORES and preset in known
    ]
    pairs = [pair for pair in pairs if pair[2] in (*labels, MEAN_LABEL) and _is_mean(pair, labels)]
    tested = []
    for row, preset, label in pairs:
        own = own_mean(cases, row["metric"], preset, label)
        known_values = {key: row[key] for key in ("low", "high", "sd", "n")}
        tested.append((row, preset, own, published_mean(row["value"], own, **known_values)))
    alpha = 1 - statistics.confidence
    share = alpha / max(1, sum(theirs is not None for *_, theirs in tested))
    for row, preset, own, theirs in tested:
        margin = statistics.margin if row["metric"] == statistics.metric else None
        found = {"difference": own.value - row["value"], "verdict": NO_INTERVAL}
        if theirs is not None:
            found = vars(replicated(own, theirs, margin=margin, alpha=share))
        keys = ("model", "structure", "metric", "value", "low", "high", "sd", "n")
        published = {key: row[key] for key in keys}
        bounds = {
            "difference_low": found.pop("low", None),
            "difference_high": found.pop("high", None),
        }
        yield (
            published
            | {"source": row["source"] or publication.source, "preset": preset}
            | {
                "own": own.value,
                "own_error": own.error,
                **found,
                **bounds,
            }
        )


def _is_mean(pair: tuple[Mapping[str, Any], str, str], labels: set[str]) -> bool:
    """Whether a published mean over structures has a counterpart here."""
    row, _, label = pair
    return row["structure"] != MEAN or label == MEAN_LABEL or len(labels) == 1


def _row(record: Mapping[str, Any]) -> tuple[Any, ...]:
    low, high = record["difference_low"], record["difference_high"]
    places = 4 if low is None else decimals((high - low) / 2)
    bounds = [] if low is None else [interval(low, high, places)]
    return (
        cell(record["model"]),
        cell(record["structure"]),
        cell(title(record["metric"])),
        cell(record["source"]),
        cell(record["preset"]),
        cell(fixed(record["value"], 4)),
        cell(integer(record["n"]) if record["n"] == record["n"] else NONE),
        cell(fixed(record["own"], 4)),
        cell(fixed(record["difference"], places), *bounds),
        cell(record["verdict"], bold=record["verdict"] in ("confirmed", "refuted")),
    )
