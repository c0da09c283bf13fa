"""Statistics of per-case rows, for tables and figures."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lunet.metrics.catalog import direction
from lunet.metrics.settings import StatisticsSettings
from lunet.statistics import aggregate
from lunet.statistics.paired import magnitudes
from lunet.statistics.values import MEAN_LABEL, case_values

COUNTED = ("n_missed", "n_spurious", "n_both_empty")


def structures(cases: pd.DataFrame) -> list[str]:
    """Structures in the order of the files; if there are several, the mean over them first."""
    names = list(dict.fromkeys(cases["label"]))
    return [MEAN_LABEL, *names] if len(names) > 1 else names


def presets(cases: pd.DataFrame) -> list[str]:
    """Presets in the order of the files."""
    return list(dict.fromkeys(cases["preset"]))


def headline(cases: pd.DataFrame) -> str:
    """The structure that a single number per preset is about: the mean, or the only structure."""
    return structures(cases)[0]


def summarise(
    cases: pd.DataFrame, metrics: Sequence[str], settings: StatisticsSettings
) -> pd.DataFrame:
    """Statistics over cases per preset, structure and metric, in the order of the files.

    Columns: preset, label and :data:`lunet.statistics.aggregate.SUMMARY_COLUMNS`.
    """
    frames = [
        aggregate.summarise(
            cases,
            metric,
            confidence=settings.confidence,
            resamples=settings.resamples,
            seed=settings.seed,
        )
        for metric in metrics
    ]
    return _in_order(pd.concat(frames, ignore_index=True), cases)


def scores(cases: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One ``value`` per preset, structure and case (mean over its seeds), if it is defined.

    Columns preset, label, case, group, value, in the order of the files.
    """
    return _in_order(case_values(cases, metric).dropna(subset=["value"]), cases)


def headline_summary(
    cases: pd.DataFrame, metric: str, settings: StatisticsSettings
) -> pd.DataFrame:
    """Statistics of one metric's headline structure, a row per preset, indexed by preset.

    Presets are compared by these numbers, so for a signed metric its absolute value is used.
    """
    label = headline(cases)
    part = magnitudes(cases if label == MEAN_LABEL else cases[cases["label"] == label], metric)
    stats = summarise(part, [metric], settings)
    return stats[stats["label"] == label].set_index("preset")


def by_quality(rows: pd.DataFrame, metric: str, *, best_first: bool) -> pd.DataFrame:
    """Rows sorted by the quality of a metric, ties by case; rows without a value come last.

    A signed metric is sorted by its absolute value: -5 ml is as bad as 5 ml.
    """
    quality = direction(metric) * magnitudes(rows, metric)[metric]
    ordered = rows.assign(_q=quality).sort_values(["_q", "case"], ascending=[not best_first, True])
    return ordered.drop(columns="_q")


def _in_order(frame: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by preset and structure, in the order of the files."""
    order = {name: place for place, name in enumerate(presets(cases))}
    ranks = {name: place for place, name in enumerate(structures(cases))}
    places = frame.assign(_p=frame["preset"].map(order), _l=frame["label"].map(ranks))
    ordered = places.sort_values(["_p", "_l"], kind="stable", ignore_index=True)
    return ordered.drop(columns=["_p", "_l"])
