"""From per-case rows to one number per preset, label and case: the input of every statistic.

Per-case rows have the columns of ``metrics.csv``: ``preset``, ``fold``, ``seed``, ``case``,
``label``, ``status``, the metrics of :func:`lunet.metrics.case.evaluate_case` and, if several cases
come from one subject, ``group`` (the subject). Without ``group`` each case is its own subject.
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
    """Validate the rows and return the needed columns, with ``group`` filled in.

    Raises
    ------
    DataError
        If a column is missing, a status is unknown, a row appears twice, or a value is missing in
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
    """Score empty predictions of an empty reference if another preset invents a structure there.

    A case that is empty for the reference and all presets carries no information and stays without
    a value. If some preset invents a structure, leaving the case out would hide this, so an empty
    prediction gets the best value (1 for overlap and NSD, 0 for distances and errors).

    Parameters
    ----------
    rows
        Rows ``case, label, status`` and the metric, of all presets to compare.
    metric
        Column to fill in.
    """
    row = find_metric(metric)
    if row is not None and row.needs_reference:  # an invented structure has no value either
        return rows
    empty = rows["status"] == "both_empty"
    alone = empty.groupby([rows["case"], rows["label"]]).transform("all")
    best = 0.0 if row is None else row.best
    return rows.assign(**{metric: rows[metric].mask(empty & ~alone & rows[metric].isna(), best)})


def case_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One value per preset, label and case: the mean over its seeds and folds.

    Returns
    -------
    Columns ``preset, label, case, group, value``, sorted; with several labels, also rows of the
    label ``mean over labels``. ``value`` is NaN if reference and prediction are empty in every run.
    """
    table = check_rows(rows, metric)
    keys = ["preset", "label", "case", "group"]
    values = table.groupby(keys, sort=True, as_index=False)[metric].mean()
    values = values.rename(columns={metric: "value"})
    return with_mean_label(values, ["preset", "case", "group"])


def run_values(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One value per run, label and case, including rows of the mean over labels.

    Returns
    -------
    Columns ``preset, fold, seed, case, group, label, value``.
    """
    table = check_rows(rows, metric).rename(columns={metric: "value"}).drop(columns="status")
    return with_mean_label(table, ["preset", "fold", "seed", "case", "group"])


def with_mean_label(values: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Append rows with the mean over the labels that have a value, if there are several labels."""
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
            where="per-case rows",
            found=f"{place} appears twice",
            expected="one row each is allowed",
        )


def _check_groups(table: pd.DataFrame) -> None:
    groups = table.groupby("case")["group"].nunique()
    if (groups > 1).any():
        found = f"the case {groups.idxmax()} belongs to {groups.max()} groups"
        raise DataError(
            where="per-case rows, group", found=found, expected="one subject per case is needed"
        )


def _check_values(table: pd.DataFrame, metric: str) -> None:
    # A value may only be missing if the status is both_empty, which every summary counts. A metric
    # that needs a reference is undefined for a spurious structure.
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
