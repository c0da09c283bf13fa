"""Summaries per preset and label: the mean over cases with its interval, spread and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lunet.errors import DataError
from lunet.statistics.bootstrap import Interval, mean_interval
from lunet.statistics.components import mean_error, trainings
from lunet.statistics.values import MEAN_LABEL, check_rows, with_mean_label

SUMMARY_COLUMNS = (
    "metric",
    "n",
    "n_groups",
    "mean",
    "ci_low",
    "ci_high",
    "sd",
    "median",
    "q1",
    "q3",
    "iqr",
    "sd_seeds",
    "sd_folds",
    "n_seeds",
    "n_folds",
    "n_rows",
    "n_missed",
    "n_spurious",
    "n_both_empty",
)


def summarise(
    rows: pd.DataFrame,
    metric: str,
    *,
    by: Sequence[str] = ("preset", "label"),
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per preset and label, and one row per preset for the mean over labels.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`.
    metric
        Column to summarise.
    by
        Columns that separate the summaries: ``preset``, ``label`` and optionally ``fold`` or
        ``seed``.
    confidence, resamples, seed
        Level of the interval, number of bootstrap resamples, seed of the generator.

    Returns
    -------
    The columns of ``by`` and ``SUMMARY_COLUMNS``. A case's value is its mean over seeds (and over
    folds, if several folds predict it). ``n`` counts cases with a value, ``n_groups`` their
    subjects. ``mean``, ``sd`` (n - 1), ``median``, ``q1``, ``q3`` and ``iqr`` are over cases.
    ``ci_low`` and ``ci_high`` are the interval of the mean: over subjects and trainings if every
    fold has two seeds or more (:func:`lunet.statistics.components.mean_error`), else over subjects
    (:func:`lunet.statistics.bootstrap.mean_interval`). ``sd_seeds`` is the standard deviation over
    seeds of each seed's mean over cases, ``sd_folds`` the same over folds; NaN with fewer than two.
    ``n_rows`` counts the rows; ``n_missed``, ``n_spurious`` and ``n_both_empty`` count the rows of
    that status (for the mean over labels: summed over the labels).

    Raises
    ------
    DataError
        If ``by`` has other columns, or :func:`lunet.statistics.values.check_rows` refuses the rows.
    """
    keys = list(by)
    if not {"preset", "label"} <= set(keys) <= {"preset", "label", "fold", "seed"}:
        expected = "'preset', 'label' and optionally 'fold' or 'seed' are needed"
        raise DataError(where="by", found=repr(keys), expected=expected)
    table = check_rows(rows, metric).rename(columns={metric: "value"})
    singles = ["preset", "fold", "seed", "case", "group"]
    full = with_mean_label(table.drop(columns="status"), singles)
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    records = []
    for place, part in full.groupby(keys, sort=True):
        named = dict(zip(keys, place, strict=True))
        counters = _counters(table, named)
        records.append({**named, "metric": metric, **_describe(part, options), **counters})
    ordered = sorted(records, key=lambda row: row["label"] == MEAN_LABEL)
    frame = pd.DataFrame(ordered, columns=[*keys, *SUMMARY_COLUMNS])
    return frame.sort_values([k for k in keys if k != "label"], kind="stable", ignore_index=True)


def _describe(part: pd.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    """Numbers of one summary; ``part`` has the columns case, group, seed, fold and value."""
    cases = part.groupby(["case", "group"], as_index=False)["value"].mean().dropna()
    values = cases["value"].to_numpy()
    spread = {
        "sd_seeds": _spread_of_means(part, "seed"),
        "sd_folds": _spread_of_means(part, "fold"),
        "n_seeds": part["seed"].nunique(),
        "n_folds": part["fold"].nunique(),
    }
    counted = {"n": values.size, "n_groups": cases["group"].nunique(), **spread}
    if not values.size:
        return counted
    interval = _interval(part, cases, options)
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    return {
        **counted,
        "mean": values.mean(),
        "ci_low": interval.low,
        "ci_high": interval.high,
        "sd": values.std(ddof=1) if values.size > 1 else math.nan,
        "median": median,
        "q1": q1,
        "q3": q3,
        "iqr": q3 - q1,
    }


def _interval(part: pd.DataFrame, cases: pd.DataFrame, options: dict[str, Any]) -> Interval:
    """Interval of the mean; with two seeds or more in each fold it includes trainings."""
    values, runs = cases["value"].to_numpy(), part.dropna(subset=["value"])
    too_few = cases["group"].nunique() < 3  # no interval at all
    if too_few or runs.groupby("fold")["seed"].nunique().min() < 2:
        return mean_interval(values, cases["group"], **options)
    error = mean_error(values, cases["group"], [trainings(runs)])
    return error.interval(float(values.mean()), options["confidence"])


def _spread_of_means(part: pd.DataFrame, factor: str) -> float:
    """Standard deviation, over the levels of ``factor``, of the mean over cases."""
    cases = part.groupby([factor, "case"])["value"].mean()
    return float(cases.groupby(level=factor).mean().std(ddof=1))


def _counters(table: pd.DataFrame, named: dict[str, Any]) -> dict[str, int]:
    chosen = np.ones(len(table), dtype=bool)
    for key, value in named.items():
        if not (key == "label" and value == MEAN_LABEL):
            chosen &= (table[key] == value).to_numpy()
    status = table.loc[chosen, "status"]
    counts = {f"n_{name}": int((status == name).sum()) for name in _COUNTED}
    return {"n_rows": int(chosen.sum()), **counts}


_COUNTED = ("missed", "spurious", "both_empty")
