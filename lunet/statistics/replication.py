"""Whether a published mean is found again: an unpaired comparison with a study's own mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from scipy import stats

from lunet.statistics.components import mean_error, trainings
from lunet.statistics.paired import magnitudes
from lunet.statistics.values import case_values, run_values

Verdict = Literal["confirmed", "refuted", "unresolved"]


@dataclass(frozen=True)
class Mean:
    """A mean with its standard error, and the degrees of freedom of that error.

    ``sd`` is the standard deviation of single cases; NaN if it is unknown.
    """

    value: float
    error: float
    freedom: float
    sd: float = math.nan


@dataclass(frozen=True)
class Replication:
    """Own mean minus the published one, its interval, and the verdict."""

    difference: float
    low: float
    high: float
    verdict: Verdict


def own_mean(rows: pd.DataFrame, metric: str, preset: str, label: str) -> Mean:
    """The mean of a preset's cases, with subjects and trainings as sources of chance.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`.
    metric, preset, label
        What is averaged; ``label`` may be the mean over labels.
    """
    scaled = magnitudes(rows, metric)
    values = case_values(scaled, metric)
    chosen = (values["preset"] == preset) & (values["label"] == label)
    part = values[chosen].dropna(subset=["value"])
    runs = run_values(scaled, metric)
    own = runs[(runs["preset"] == preset) & (runs["label"] == label)].dropna(subset=["value"])
    has_seeds = len(own) > 0 and own.groupby("fold")["seed"].nunique().min() > 1
    sides = [trainings(own)] if has_seeds else []
    error = mean_error(part["value"].to_numpy(), part["group"].to_numpy(), sides)
    return Mean(
        float(part["value"].mean()), error.error, error.degrees, float(part["value"].std(ddof=1))
    )


def published_mean(
    value: float,
    own: Mean,
    *,
    low: float = math.nan,
    high: float = math.nan,
    sd: float = math.nan,
    n: float = math.nan,
) -> Mean | None:
    """A published mean with the standard error that its publication allows.

    Parameters
    ----------
    value
        The published mean.
    own
        The study's own mean, whose spread over cases is assumed where only ``n`` was published.
    low, high
        Its 95 % interval.
    sd, n
        Standard deviation over cases, and their number.

    Returns
    -------
    None if neither an interval nor a number of cases was published.
    """
    freedom = n - 1 if n > 1 else math.inf
    if math.isfinite(low) and math.isfinite(high):
        half = (high - low) / 2
        return Mean(value, half / float(stats.t.isf(0.025, freedom)), freedom, sd)
    if not n > 1:
        return None
    spread = sd if math.isfinite(sd) else own.sd
    return Mean(value, spread / math.sqrt(n), freedom, spread)


def replicated(own: Mean, published: Mean, *, margin: float | None, alpha: float) -> Replication:
    """Compare two means of different cases.

    The interval has the level ``1 - alpha`` and averages the quantiles of both t distributions,
    weighted by their variances (Cochran and Cox, 1950), as in the study's own comparisons. The
    number is confirmed if the interval lies within the margin on both sides, else refuted if the
    interval excludes 0, else unresolved; without a margin nothing can be confirmed.
    """
    difference = own.value - published.value
    parts = [
        (side.error**2, float(stats.t.isf(alpha / 2, side.freedom))) for side in (own, published)
    ]
    variance = sum(square for square, _ in parts)
    point = sum(square * quantile for square, quantile in parts) / variance if variance else 0.0
    half = point * math.sqrt(variance)
    low, high = difference - half, difference + half
    if margin and -margin < low and high < margin:
        return Replication(difference, low, high, "confirmed")
    if low > 0 or high < 0:
        return Replication(difference, low, high, "refuted")
    return Replication(difference, low, high, "unresolved")
