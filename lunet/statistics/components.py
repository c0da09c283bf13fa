"""Sources of chance in a mean difference of two presets: subjects, trainings and the rest.

The chance of a training (a seed within a fold) moves all cases that it predicts together, so only
more trainings average it away, not more cases. With two seeds or more per fold the variance of
trainings can be separated from the variance of subjects, and the error of a difference includes
both. With one seed they cannot be separated: the difference is then between trained networks, not
between presets.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import elementwise

from lunet.errors import DataError
from lunet.statistics.bootstrap import Interval


@dataclass(frozen=True)
class Trainings:
    """Variance between the trainings of one preset.

    Attributes
    ----------
    mean_square
        Variance between the seeds' means over cases, pooled within folds.
    freedom
        Its degrees of freedom: trainings minus folds; 0 for a preset that is not trained.
    share
        Factor by which it contributes to the variance of the preset's mean: 1 / (folds x seeds) in
        a balanced study, in general the sum of the squared weights of the trainings in that mean.
    rest
        Variance of a case under one training that neither case nor training explains.
    """

    mean_square: float
    freedom: int
    share: float
    rest: float

    @property
    def variance(self) -> float:
        """The trainings' part of the variance of the preset's mean."""
        return self.share * self.mean_square if self.freedom else 0.0


UNTRAINED = Trainings(0.0, 0, 0.0, 0.0)
"""For a preset without any training, such as the atlas prior."""


@dataclass(frozen=True)
class MeanError:
    """Standard error of a mean difference, and the weights of its two estimates of variance.

    Attributes
    ----------
    error
        Standard error of the mean; NaN with fewer than two subjects.
    share
        Share of the trainings in its square; 0 if the trainings are not included.
    freedom, freedom_trainings
        Degrees of freedom of the two estimates: subjects minus one, trainings minus folds.
    """

    error: float
    share: float
    freedom: int
    freedom_trainings: int

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the single t distribution with the same upper 2.5 % point.

        For tests that need a single t distribution; NaN with fewer than two subjects.
        """
        if math.isnan(self.error):
            return math.nan
        least, most = sorted((self.freedom, self.freedom_trainings or self.freedom))
        point = float(upper_point(0.025, *self._shape()))
        # the bracket reaches a little beyond the degrees of freedom of the two distributions
        ends = (math.log(0.99 * least), math.log(1.01 * most))
        found = elementwise.find_root(lambda log: stats.t.isf(0.025, np.exp(log)) - point, ends)
        return math.exp(float(found.x))

    def interval(self, mean: float, confidence: float) -> Interval:
        """Confidence interval of the mean; NaN with fewer than two subjects."""
        if math.isnan(self.error):
            return Interval(math.nan, math.nan)
        half = float(upper_point((1 - confidence) / 2, *self._shape())) * self.error
        return Interval(mean - half, mean + half)

    def p_two_sided(self, mean: float) -> float:
        """Two-sided p-value of the hypothesis that the true mean is 0."""
        one_sided = self.p_greater(abs(mean))
        return one_sided if math.isnan(one_sided) else min(1.0, 2 * one_sided)

    def p_greater(self, mean: float) -> float:
        """One-sided p-value of the hypothesis that the true mean is 0 or less."""
        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return 1.0 if mean <= 0 else 0.0
        return float(upper_tail(mean / self.error, *self._shape()))

    def _shape(self) -> tuple[float, int, int]:
        return self.share, self.freedom, self.freedom_trainings


def upper_point(p: ArrayLike, share: ArrayLike, freedom: int, freedom_trainings: int) -> Any:
    """The value that a mean divided by its standard error exceeds by chance with probability ``p``.

    It averages the points of the two t distributions, weighted by the shares of their variances
    (Cochran and Cox, 1950). With few trainings this keeps the level, which Satterthwaite's degrees
    of freedom do not: if the estimate from the trainings is small by luck, it gets a small weight
    there, and its few degrees of freedom with it. In the simulation of
    ``tests/benchmarks/claims.py`` with 1 fold and 2 seeds, Satterthwaite's intervals cover 92 % and
    11 % of the studies have a false verdict; with this method they are 95 % and 5 %.

    Parameters
    ----------
    p
        Probabilities below 0.5.
    share
        Shares of the trainings in the variance.
    freedom, freedom_trainings
        Degrees of freedom of subjects and trainings.
    """
    of_subjects = stats.t.isf(p, freedom)
    if not freedom_trainings:
        return of_subjects
    weight = np.asarray(share, dtype=np.float64)
    return (1 - weight) * of_subjects + weight * stats.t.isf(p, freedom_trainings)


_LEAST = -200.0
"""Logarithm of the smallest p-value that is computed."""


def upper_tail(value: ArrayLike, share: ArrayLike, freedom: int, freedom_trainings: int) -> Any:
    """Probability by chance of this ratio of mean and standard error or a larger one.

    The inverse of :func:`upper_point`, with the same parameters.
    """
    wanted, weight = np.broadcast_arrays(
        np.asarray(value, dtype=np.float64), np.asarray(share, dtype=np.float64)
    )
    if not freedom_trainings:
        return stats.t.sf(wanted, freedom)

    def excess(log_p: Any, of: Any, size: Any) -> Any:
        return upper_point(np.exp(log_p), of, freedom, freedom_trainings) - size

    size = np.minimum(
        np.abs(wanted), upper_point(math.exp(_LEAST), weight, freedom, freedom_trainings)
    )
    bracket = (np.full(size.shape, _LEAST), np.full(size.shape, math.log(0.5)))
    found = elementwise.find_root(excess, bracket, args=(weight, size))
    one_sided = np.exp(found.x)
    return np.where(wanted >= 0, one_sided, 1 - one_sided)


def seeds_of_pair(runs: pd.DataFrame, pair: tuple[str, str], untrained: Collection[str]) -> int:
    """Smallest number of seeds per fold in a comparison; 0 if nothing was trained.

    Parameters
    ----------
    runs
        Rows with the columns ``preset``, ``fold`` and ``seed``.
    pair
        The two presets.
    untrained
        Presets without any training; they are ignored.

    Raises
    ------
    DataError
        If two trained sides have different numbers of seeds in a fold: the side with fewer seeds
        would be judged by its luck, the other by its mean.
    """
    counts = {
        name: runs[runs["preset"] == name].groupby("fold")["seed"].nunique()
        for name in pair
        if name not in untrained
    }
    if len(counts) == 2:
        one, other = (counts[name] for name in pair)
        if one.to_dict() != other.to_dict():
            found = f"{_seeds_text(one)} of {pair[0]} against {_seeds_text(other)} of {pair[1]}"
            expected = "both sides of a comparison need equal numbers of seeds in each fold"
            raise DataError(
                where="per-case rows, seed",
                found=found,
                expected=expected,
                action="Train the missing seeds",
            )
    return min((int(count.min()) for count in counts.values()), default=0)


def _seeds_text(counts: pd.Series) -> str:
    least, most = int(counts.min()), int(counts.max())
    number = str(least) if least == most else f"{least} to {most}"
    return f"{number} seed{'s' if most != 1 else ''} in {len(counts)} fold{'s'[: len(counts) > 1]}"


def trainings(runs: pd.DataFrame) -> Trainings:
    """Variance between the trainings of one preset.

    Parameters
    ----------
    runs
        Rows ``fold, seed, case, value`` of one preset and label, with finite values and two seeds
        or more in every fold.
    """
    rows = runs.groupby("case")["value"].transform("size").to_numpy(dtype=np.float64)
    keys = [runs["fold"], runs["seed"]]
    weights = pd.Series(1 / rows, index=runs.index).groupby(keys).sum() / runs["case"].nunique()
    means = runs.groupby(["fold", "seed"])["value"].mean()
    folds = means.groupby(level="fold")
    freedom = len(means) - folds.ngroups
    within = means - folds.transform("mean")
    square = float((within**2).sum()) / freedom if freedom else math.nan
    return Trainings(square, freedom, float((weights**2).sum()), _rest(runs))


def _rest(runs: pd.DataFrame) -> float:
    """Residual variance of the values within folds, without the effects of case and seed."""
    value, fold = runs["value"], runs["fold"]
    by_case = value.groupby([fold, runs["case"]])
    by_seed = value.groupby([fold, runs["seed"]])
    left = value - by_case.transform("mean") - by_seed.transform("mean")
    left = left + value.groupby(fold).transform("mean")
    freedom = len(runs) - by_case.ngroups - by_seed.ngroups + fold.nunique()
    return float((left**2).sum()) / freedom if freedom > 0 else math.nan


def mean_error(
    differences: ArrayLike, groups: ArrayLike, sides: Collection[Trainings]
) -> MeanError:
    """Error of the mean of paired differences over subjects and trainings.

    Its square is the variance over subjects / n plus, for the trained sides, the variance between
    seeds within folds, pooled over the sides, times their shares. The noise of single cases under
    single trainings is part of both terms, so where this noise dominates, the error is too large
    rather than too small.

    Parameters
    ----------
    differences
        One finite value per case (its mean over seeds), shape (n,).
    groups
        Subject of each case, shape (n,).
    sides
        Trainings of both sides, or of one side for the mean of one preset.
    """
    data = np.asarray(differences, dtype=np.float64)
    _, index = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    number = int(index.max()) + 1
    if number < 2:
        return MeanError(math.nan, math.nan, 0, 0)
    sums = np.bincount(index, weights=data - data.mean())
    subjects = number / (number - 1) * float((sums**2).sum()) / data.size**2
    freedom, pooled = pool(sides)
    runs = pooled * sum(side.share for side in sides if side.freedom)
    variance = subjects + runs
    if variance <= 1e-28 * float((data**2).max()):  # all equal except for rounding
        return MeanError(0.0, 0.0, number - 1, freedom)
    return MeanError(math.sqrt(variance), runs / variance, number - 1, freedom)


def pool(sides: Collection[Trainings]) -> tuple[int, float]:
    """Degrees of freedom and variance between trainings, pooled over the trained sides."""
    freedom = sum(side.freedom for side in sides)
    total = sum(side.freedom * side.mean_square for side in sides if side.freedom)
    return freedom, total / max(freedom, 1)


def deviations(
    differences: ArrayLike, groups: ArrayLike, sides: Collection[Trainings]
) -> dict[str, float]:
    """Standard deviations of the components, for a table.

    Parameters
    ----------
    differences, groups, sides
        As in :func:`mean_error`.

    Returns
    -------
    Standard deviations, pooled over the sides: ``sd_subjects`` of the subjects' mean differences,
    ``sd_trainings`` of a training's mean over its cases, ``sd_rest`` of a single case under one
    training.
    """
    data = pd.Series(np.asarray(differences, dtype=np.float64))
    means = data.groupby(np.asarray(groups).astype(str)).mean()
    trained = [side for side in sides if side.freedom]
    _, square = pool(sides)
    rest = float(np.mean([side.rest for side in trained])) if trained else math.nan
    return {
        "sd_subjects": float(means.std(ddof=1)),
        "sd_trainings": math.sqrt(square) if trained else math.nan,
        "sd_rest": math.sqrt(rest),
    }
