"""Published results and the study's own in one table, each row marked with its origin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.errors import ConfigError, DataError
from lunet.metrics.catalog import title, unit_suffix
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import number_in, read_text, rows_of
from lunet.reporting.costs import flat
from lunet.reporting.markup import Column, Table, cell
from lunet.reporting.numbers import NONE, fixed, integer, significant
from lunet.reporting.scores import headline, summarise
from lunet.statistics.values import MEAN_LABEL

PUBLISHED, OWN = "published", "this study"
COLUMNS = ("model", "structure", "metric", "value")
SCORES = ("dice", "hd95")
COSTS = {
    "throughput_per_s": "Volumes/s",
    "jitter_ms": "Jitter (ms)",
    "parameters": "Parameters",
}
NUMBERS = ("low", "high", "sd", "n")
"""Optional columns: 95 % interval, standard deviation over cases, number of cases."""
TEXTS = ("preset", "source")
"""Optional columns: presets of the study that are the same network; source of the row."""
MEAN = "mean"
_NOTE = (
    "Rows of origin 'this study' were measured here. The others are published numbers, measured on "
    "other cases and devices; no test compares the two in this table. Volumes/s of this study: "
    "eager fp32, at the batch where doubling it gains less than 3 %. Jitter: population standard "
    "deviation of single latencies at batch 1."
)


@dataclass(frozen=True)
class Publication:
    """Published results: their source, further remarks, and rows.

    The rows have :data:`COLUMNS`, and :data:`NUMBERS` and :data:`TEXTS`, which are NaN or empty
    where nothing is known.
    """

    source: str
    remarks: tuple[str, ...]
    rows: pd.DataFrame


def read_published(path: str | Path | None) -> Publication:
    """Read a CSV of published results.

    The file begins with comment lines (``# ...``): first the source, then remarks. ``metric`` is
    ``dice`` (0 to 1), ``hd95`` (mm), ``throughput_per_s``, ``jitter_ms`` or ``parameters``; the
    last three have no ``structure``. The mean over structures is called ``mean``. The columns
    ``low``, ``high``, ``sd``, ``n``, ``preset`` and ``source`` are optional.

    Raises
    ------
    ConfigError
        If no file is named.
    DataError
        If the file is missing, names no source, or has other columns or metrics.
    """
    if path is None:
        raise ConfigError(
            where="report.published",
            found="not set",
            expected="a CSV of published results is needed",
        )
    what = "a CSV of published results, named by report.published,"
    lines = read_text(path, needed=what).splitlines()
    remarks = [line.lstrip("# ") for line in lines if line.startswith("#")]
    if not remarks:
        raise DataError(
            where=path, found="no comment line", expected="a first line '# source' is expected"
        )
    table = "\n".join(line for line in lines if not line.startswith("#"))
    given = rows_of(table, path, needed=COLUMNS, what=what)
    rows = pd.DataFrame(given, columns=list(COLUMNS))
    rows["value"] = [number_in(row, "value", path) for row in given]
    for name in NUMBERS:
        rows[name] = [number_in(row, name, path) if row.get(name) else math.nan for row in given]
    for name in TEXTS:
        rows[name] = [row.get(name, "") for row in given]
    unknown = sorted(set(rows["metric"]) - {*SCORES, *COSTS})
    if unknown:
        raise DataError(
            where=path,
            found=f"metric {unknown[0]!r}",
            expected=f"known: {', '.join((*SCORES, *COSTS))}",
        )
    return Publication(remarks[0], tuple(remarks[1:]), rows)


def together(
    publication: Publication,
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
) -> pd.DataFrame:
    """All numbers in the columns origin, model, structure, metric, value; published ones first."""
    # published distances are in mm, so those of images without a physical size are left out
    stats = summarise(cases, [name for name in SCORES if name in cases], statistics)
    name = {headline(cases): MEAN} if headline(cases) == MEAN_LABEL else {}
    own = pd.DataFrame(
        {
            "model": stats["preset"],
            "structure": stats["label"].replace(name),
            "metric": stats["metric"],
            "value": stats["mean"],
        }
    )
    measured = [
        {"model": preset, "structure": "", "metric": key, "value": flat(cost)[key]}
        for preset, cost in costs.items()
        for key in COSTS
    ]
    frames = [publication.rows.assign(origin=PUBLISHED), own.assign(origin=OWN)]
    frames += [pd.DataFrame(measured, columns=COLUMNS).assign(origin=OWN)] if measured else []
    return pd.concat(frames, ignore_index=True)[["origin", *COLUMNS]]


def published(
    publication: Publication,
    cases: pd.DataFrame,
    costs: Mapping[str, Mapping[str, Any]],
    statistics: StatisticsSettings,
) -> Table:
    """Dice and HD95 per structure, throughput and jitter, with a row per network and its origin."""
    numbers = together(publication, cases, costs, statistics)
    keys = _keys(numbers)
    wide = {
        key: part.set_index(["metric", "structure"])["value"].to_dict()
        for key, part in numbers.groupby(["origin", "model"], sort=False)
    }
    rows = []
    for (origin, model), values in wide.items():
        printed = (_printed(values.get(key), key[0]) for key in keys)
        rows.append((cell(origin), cell(model), *map(cell, printed)))
    heads = [f"{title(metric)} {structure}".strip() for metric, structure in keys]
    return Table(
        name="published",
        caption=f"Published results and this study's. Source: {publication.source}.",
        columns=(
            Column("Origin", text=True),
            Column("Network", text=True),
            *(Column(COSTS.get(head, head)) for head in heads),
        ),
        rows=tuple(rows),
        records=tuple(numbers.to_dict("records")),
        note=" ".join([*publication.remarks, _NOTE, f"{NONE}: not given."]),
    )


def _keys(numbers: pd.DataFrame) -> list[tuple[str, str]]:
    """(metric, structure) of each column: scores before costs, the mean after the structures."""
    found = dict.fromkeys(zip(numbers["metric"], numbers["structure"], strict=True))
    order = (*SCORES, *COSTS)
    return sorted(found, key=lambda key: (order.index(key[0]), key[1] == MEAN))


def _printed(value: float | None, metric: str) -> str:
    if value is None:
        return NONE
    if metric == "parameters":
        return integer(value)
    places = 2 if unit_suffix(metric) else 4
    return fixed(value, places) if metric in SCORES else significant(value)
