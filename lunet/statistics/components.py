"""Sources of chance in a mean difference of two presets: subjects, trainings and the rest.

A training (a seed within a fold) moves all cases that it predicts together, so more cases never
average it away; only more trainings do. With two seeds or more per fold its variance can be told
from that of the subjects, and both go into the error of a difference. With one seed it cannot:
then a difference is one between trained networks, not between presets.
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
        Its degrees of freedom: trainings less folds; 0 for a preset that is not trained.
    share
        Factor from it to the variance of the preset's mean: 1 / (folds x seeds) in a balanced
        study, else the sum of the squared weights of the trainings in that mean.
    rest
        Variance of a case under one training that neither case nor training explains.
    """

    mean_square: float
    freedom: int
    share: float
    rest: float

    @property
    def variance(self) -> float:
        """Variance of the preset's mean that the trainings cause."""
        return self.share * self.mean_square if self.freedom else 0.0


UNTRAINED = Trainings(0.0, 0, 0.0, 0.0)
"""Of what no chance of training touches, as the atlas prior."""


@dataclass(frozen=True)
class MeanError:
    """Standard error of a mean difference and its degrees of freedom (Satterthwaite)."""

    error: float
    freedom: float

    def interval(self, mean: float, confidence: float) -> Interval:
        """Confidence interval of the mean by the t distribution; NaN without freedom."""
        if not self.freedom > 0:
            return Interval(math.nan, math.nan)
        half = float(stats.t.ppf((1 + confidence) / 2, self.freedom)) * self.error
        return Interval(mean - half, mean + half)

    def p_two_sided(self, mean: float) -> float:
        """p-value of a mean of 0."""
        one_sided = self.p_greater(abs(mean))
        return one_sided if math.isnan(one_sided) else min(1.0, 2 * one_sided)

    def p_greater(self, mean: float) -> float:
        """One-sided p-value of a mean of 0 or less."""
        if not self.freedom > 0:
            return math.nan
        if self.error == 0:
            return 1.0 if mean <= 0 else 0.0
        return float(stats.t.sf(mean / self.error, self.freedom))


def seeds_of_pair(runs: pd.DataFrame, pair: tuple[str, str], untrained: Collection[str]) -> int:
    """Seeds per fold (the fewest of any fold) behind a comparison; 0 if nothing was trained.

    Parameters
    ----------
    runs
        Rows with the columns ``preset``, ``fold`` and ``seed``.
    pair
        The two presets.
    untrained
        Presets without any training: they count for neither side.

    Raises
    ------
    DataError
        If two trained sides have other numbers of seeds in some fold: the side with fewer would
        be judged by its luck, the other by its mean.
    """
    counts = {
        name: runs[runs["preset"] == name].groupby("fold")["seed"].nunique()
        for name in pair
        if name not in untrained
    }
    if len(counts) == 2:
        one, other = (counts[name] for name in pair)
        if one.to_dict() != other.to_dict():
            found = f"{_told(one)} of {pair[0]} against {_told(other)} of {pair[1]}"
            expected = "both sides of a comparison need equal numbers of seeds in each fold"
            raise DataError("per-case rows, seed", found, expected, "Train the seeds that lack")
    return min((int(count.min()) for count in counts.values()), default=0)


def _told(counts: pd.Series) -> str:
    least, most = int(counts.min()), int(counts.max())
    number = str(least) if least == most else f"{least} to {most}"
    return f"{number} seed{'s' if most != 1 else ''} in {len(counts)} fold{'s'[: len(counts) > 1]}"


def trainings(runs: pd.DataFrame) -> Trainings:
    """Variance between the trainings of one preset, of which every fold has two seeds or more.

    Parameters
    ----------
    runs
        Rows ``fold, seed, case, value`` of one preset and label, values finite.
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
    """Residual variance of the values within folds, case and seed taken out."""
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
    """Error of the mean of paired differences, subjects and trainings being drawn anew.

    The variance over subjects / n, and for the trained sides the variance between seeds within
    folds, pooled over the sides, times their shares. Noise of single cases under single trainings
    is in both: the error is rather too large than too small where it rules.

    Parameters
    ----------
    differences
        One finite value per case, its mean over seeds, shape (n,).
    groups
        Subject of each case, shape (n,).
    sides
        Trainings of both sides.
    """
    data = np.asarray(differences, dtype=np.float64)
    _, index = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    number = int(index.max()) + 1
    if number < 2:
        return MeanError(math.nan, math.nan)
    sums = np.bincount(index, weights=data - data.mean())
    subjects = number / (number - 1) * float((sums**2).sum()) / data.size**2
    trained = [side for side in sides if side.freedom]
    freedom = sum(side.freedom for side in trained)
    pooled = sum(side.freedom * side.mean_square for side in trained) / max(freedom, 1)
    runs = pooled * sum(side.share for side in trained)
    variance = subjects + runs
    if variance <= 1e-28 * float((data**2).max()):  # equal on paper: what rounding leaves
        return MeanError(0.0, float(number - 1))
    if not freedom:
        return MeanError(math.sqrt(variance), float(number - 1))
    variance, degrees = satterthwaite(subjects, number - 1, runs, freedom)
    return MeanError(math.sqrt(variance), float(degrees))


def satterthwaite(one: Any, freedom_one: int, other: Any, freedom_other: int) -> tuple[Any, Any]:
    """Sum of two independent variance estimates and its approximate degrees of freedom.

    Parameters
    ----------
    one, other
        The estimates: numbers, or arrays of one shape.
    freedom_one, freedom_other
        Their degrees of freedom.
    """
    total = one + other
    return total, total**2 / (one**2 / freedom_one + other**2 / freedom_other)


def deviations(
    differences: ArrayLike, groups: ArrayLike, sides: Collection[Trainings]
) -> dict[str, float]:
    """Standard deviations of the components, for a table.

    Parameters
    ----------
    differences, groups, sides
        As of :func:`mean_error`.

    Returns
    -------
    ``sd_subjects`` of the subjects' mean differences, ``sd_trainings`` of a training's mean over
    its cases and ``sd_rest`` of a single case under one training, each pooled over the sides.
    """
    data = pd.Series(np.asarray(differences, dtype=np.float64))
    means = data.groupby(np.asarray(groups).astype(str)).mean()
    trained = [side for side in sides if side.freedom]
    freedom = sum(side.freedom for side in trained)
    square = sum(side.freedom * side.mean_square for side in trained) / max(freedom, 1)
    rest = float(np.mean([side.rest for side in trained])) if trained else math.nan
    return {
        "sd_subjects": float(means.std(ddof=1)),
        "sd_trainings": math.sqrt(square) if trained else math.nan,
        "sd_rest": math.sqrt(rest),
    }
