"""Whether a verdict is limited by the number of subjects or of trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from lunet.statistics.components import deviations, mean_error, trainings
from lunet.statistics.paired import magnitudes
from lunet.statistics.values import case_values, run_values

LIMIT_COLUMNS = (
    "preset",
    "reference",
    "label",
    "n_groups",
    "n_seeds",
    "error",
    "sd_subjects",
    "sd_trainings",
    "sd_rest",
    "share_trainings",
    "limit",
)


def limits(
    rows: pd.DataFrame, metric: str, compared: pd.DataFrame, *, untrained: Sequence[str] = ()
) -> pd.DataFrame:
    """Variance components of every preset's mean and of every comparison.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`.
    metric
        Column that is compared.
    compared
        The value of :func:`lunet.statistics.paired.compare_presets`.
    untrained
        Presets without any training.

    Returns
    -------
    Rows with ``LIMIT_COLUMNS``, presets first (with an empty ``reference``). ``error`` is the
    standard error of the mean (of the mean difference), ``share_trainings`` the share of the
    trainings in its square, and ``limit`` the larger source of error: ``subjects``, ``trainings``,
    or ``unknown`` if there is only one seed.
    """
    values = case_values(magnitudes(rows, metric), metric)
    runs = run_values(magnitudes(rows, metric), metric)
    records = []
    for (preset, label), part in values.groupby(["preset", "label"], sort=False):
        known = part.dropna(subset=["value"])
        own = runs[(runs["preset"] == preset) & (runs["label"] == label)].dropna(subset=["value"])
        seeds = int(own.groupby("fold")["seed"].nunique().min()) if len(own) else 0
        sides = [trainings(own)] if seeds > 1 and preset not in untrained else []
        record = {"preset": preset, "reference": "", "label": label, "n_seeds": seeds}
        record |= {"n_groups": known["group"].nunique()}
        if len(known):
            data = (known["value"].to_numpy(), known["group"].to_numpy(), sides)
            error = mean_error(*data)
            record |= deviations(*data) | {"error": error.error}
            record["share_trainings"] = error.share if sides else math.nan
        records.append(record | {"n_seeds": 0 if preset in untrained else seeds})
    kept = [name for name in LIMIT_COLUMNS if name in compared.columns]
    pairs = compared[kept].assign(error=compared["standard_error"])
    table = pd.concat([pd.DataFrame(records), pairs], ignore_index=True)
    table["limit"] = [_limit(row) for row in table.to_dict("records")]
    return table.reindex(columns=LIMIT_COLUMNS)


def _limit(row: dict[str, float]) -> str:
    if row["n_seeds"] == 1:
        return "unknown"
    return "trainings" if row.get("share_trainings", math.nan) > 0.5 else "subjects"
