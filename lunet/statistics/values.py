"""From per-case rows to one number per preset, label and case: the input of every statistic.

The rows are those of ``metrics.csv``: the columns ``preset``, ``fold``, ``seed``, ``case``,
``label``, ``status``, the metrics of :func:`lunet.metrics.case.evaluate_case` and, where several
cases come from one subject, ``group`` (the subject). Without ``group`` each case is its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lunet.errors import DataError, nearest
from lunet.metrics.catalog import STATUSES, find_metric

MEAN_LABEL = "mean over labels"
"""Label of the rows that hold each case's mean over its labels."""

_KEYS = ("preset", "fold", "seed", "case", "label")


def check_rows(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The columns needed, with ``group`` filled in; rows without a twin of the same run and case.

    Raises
    ------
    DataError
        If a column is missing, a status is unknown, a row stands twice, or a value is missing in
        a row whose status is not ``both_empty``.
    """
    needed = [*_KEYS, "status", metric]
    for column in needed:
        if column not in rows.columns:
            found = f"the column {column!r} is missing"
            raise DataError(
                where="per-case rows", found=found, action=nearest(column, map(str, rows.columns))
            )
    kept = [*needed, *(["group"] if "group" in rows.columns else [])]
    table = rows.loc[:, kept].reset_index(drop=True)
    if "group" not in table.columns:
        table["group"] = table["case"]
    _check_status(table)
    _check_unique(table)
    _check_groups(table)
    _check_values(table, metric)
    return with_empty_references(table, metric)


def with_empty_references(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Give an empty prediction of an empty reference its score where another row invents something.

    A case that is empty for all presets and the reference tells nothing and stays without a value.
    Where some preset invents a structure, leaving the case out would hide that: an empty
    prediction then scores the best value (overlap and NSD 1, distances and errors 0).

    Parameters
    ----------
    rows
        Rows ``case, label, status`` and the metric, of all presets that are to be compared.
    metric
        Column to fill in.
    """
    row = find_metric(metric)
    if row is not None and row.needs_reference:  # no value for an invented structure either
        return rows
    empty = rows["status"] == "both_empty"
    alone = empty.groupby([rows["case"], rows["label"]]).transform("all")
    best = 0.0 if row is None else row.best
    return rows.assign(**{metric: rows[metric].mask(empty & ~alone & rows[metric].isna(), best)})


def case_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One value per preset, label and case: the mean over its seeds and folds.

    Returns
    -------
    Columns ``preset, label, case, group, value``, sorted; where a preset has several labels, rows
    of the label ``mean over labels`` too. ``value`` is NaN where every run has an empty reference
    and an empty prediction.
    """
    table = check_rows(rows, metric)
    keys = ["preset", "label", "case", "group"]
    values = table.groupby(keys, sort=True, as_index=False)[metric].mean()
    values = values.rename(columns={metric: "value"})
    return with_mean_label(values, ["preset", "case", "group"])


def run_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One value per run, label and case, rows of the mean over labels included.

    Returns
    -------
    Columns ``preset, fold, seed, case, group, label, value``.
    """
    table = check_rows(rows, metric).rename(columns={metric: "value"}).drop(columns="status")
    return with_mean_label(table, ["preset", "fold", "seed", "case", "group"])


def with_mean_label(values: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Append rows with the mean over the labels (those that are defined) if there are several."""
    if values["label"].nunique() < 2:
        return values
    means = values.groupby(list(keys), sort=True, as_index=False)["value"].mean()
    means["label"] = MEAN_LABEL
    return pd.concat([values, means], ignore_index=True)[list(values.columns)]


def _check_status(table: pd.DataFrame) -> None:
    unknown = sorted(set(table["status"].astype(str)) - set(STATUSES))
    if unknown:
        expected = f"one of {', '.join(STATUSES)} is allowed"
        raise DataError(where="per-case rows, status", found=repr(unknown[0]), expected=expected)


def _check_unique(table: pd.DataFrame) -> None:
    twice = table.duplicated(list(_KEYS))
    if twice.any():
        row = table.loc[twice.idxmax(), list(_KEYS)]
        place = ", ".join(f"{key} {row[key]}" for key in _KEYS)
        raise DataError(
            where="per-case rows", found=f"{place} stands twice", expected="one row each is allowed"
        )


def _check_groups(table: pd.DataFrame) -> None:
    groups = table.groupby("case")["group"].nunique()
    if (groups > 1).any():
        found = f"the case {groups.idxmax()} belongs to {groups.max()} groups"
        raise DataError(
            where="per-case rows, group", found=found, expected="one subject per case is needed"
        )


def _check_values(table: pd.DataFrame, metric: str) -> None:
    # A missing value may drop out of a mean only with the count of both_empty beside it; a metric
    # that needs a reference has no value for a spurious structure by its definition.
    row = find_metric(metric)
    spurious = ["spurious"] if row is not None and row.needs_reference else []
    allowed = ["both_empty", *spurious]
    lost = table[metric].isna() & ~table["status"].isin(allowed)
    if lost.any():
        row = table.loc[lost.idxmax()]
        place = f"{metric} of case {row['case']}, label {row['label']}, preset {row['preset']}"
        raise DataError(
            where="per-case rows",
            found=f"{place} has no value",
            expected=f"status is {row['status']!r}",
        )
