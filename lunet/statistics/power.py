"""What a design can resolve, before it is trained: variance components of a pilot, and power.

A difference of two presets varies with the subject (S), with the training (T, on both sides) and by
a rest (R, a subject under one training). With n subjects in K folds and s seeds per fold the
variance of its mean is ``S / n + 2 T / (K s) + 2 R / (n s)``; if one side is taken as given, 1
stands for 2, and what its one training explains belongs to S. The test estimates this variance
(:mod:`lunet.statistics.components`) and is a little conservative where the rest dominates; the
power takes this into account. The power is computed for a single look; looks after each fold reduce
it by one or two percentage points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from lunet.errors import DataError
from lunet.statistics.components import upper_point
from lunet.statistics.looks import FoldValues

Floats = NDArray[np.float64]
_MOST_SUBJECTS = 1_000_000


@dataclass(frozen=True)
class Components:
    """Standard deviations of a difference of two presets, in the metric's unit.

    Attributes
    ----------
    subjects
        Standard deviation of the subjects' true differences.
    trainings
        Standard deviation of the mean of one training of one preset.
    rest
        Standard deviation of one subject under one training of one preset.
    knows_trainings
        False if the pilot has only one seed: ``trainings`` is then 0 and all statements are about
        trained networks, not presets.
    sides
        How many of the two presets are trained: one if the other's predictions are taken as given.
    """

    subjects: float
    trainings: float
    rest: float
    knows_trainings: bool = True
    sides: int = 2

    def __post_init__(self) -> None:
        for name in ("subjects", "trainings", "rest"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise DataError(
                    where=f"sd of {name}",
                    found=str(value),
                    expected="a number of 0 or more is needed",
                )


@dataclass(frozen=True)
class Design:
    """Number of subjects tested in all folds together, of folds, and of seeds per fold."""

    subjects: int
    folds: int
    seeds: int

    def __post_init__(self) -> None:
        if self.folds < 1 or self.seeds < 1 or self.subjects < max(2, self.folds):
            found = f"{self.subjects} subjects, {self.folds} folds, {self.seeds} seeds"
            raise DataError(
                where="design",
                found=found,
                expected="at least 2 subjects, a subject per fold, a fold and a seed are needed",
            )

    def __str__(self) -> str:
        return (
            f"{self.subjects} subjects, {self.folds} fold{'s'[: self.folds > 1]}, "
            f"{self.seeds} seed{'s'[: self.seeds > 1]}"
        )


def components_of(pairs: Sequence[Sequence[FoldValues]]) -> Components:
    """Components of a pilot, pooled over its pairs of presets.

    Parameters
    ----------
    pairs
        For each pair the values of its folds (:func:`lunet.statistics.looks.fold_values`).

    Raises
    ------
    DataError
        If there is no pair, or no fold has two subjects.
    """
    if not pairs:
        raise DataError(
            where="pilot",
            found="only one preset",
            expected="two presets on the same cases are needed",
        )
    found = np.array([_of_pair(folds) for folds in pairs])
    sides = max(sum(fold.trained) for folds in pairs for fold in folds)
    known = ~np.isnan(found[:, 1])
    if not known.any():
        subjects = float(np.sqrt(found[:, 0].mean()))
        return Components(subjects, 0.0, 0.0, knows_trainings=False, sides=sides)
    subjects, trainings, rest = map(float, np.sqrt(found[known].mean(axis=0)))
    return Components(subjects, trainings, rest, sides=sides)


def _by_subject(fold: FoldValues) -> tuple[Floats, Floats]:
    """Values of both sides, averaged over the cases of each subject."""
    names, place = np.unique(fold.groups.astype(str), return_inverse=True)
    weights = (place == np.arange(names.size)[:, None]).astype(np.float64)
    weights /= weights.sum(axis=1, keepdims=True)
    return fold.candidate @ weights.T, fold.reference @ weights.T


def _of_pair(folds: Sequence[FoldValues]) -> tuple[float, float, float]:
    """Variances of subjects, trainings and rest; the last two are NaN with one seed."""
    values = [_by_subject(fold) for fold in folds]
    sides = [
        side
        for fold, pair in zip(folds, values, strict=True)
        for side, is_trained in zip(pair, fold.trained, strict=True)
        if is_trained
    ]
    seeds = min((len(side) for side in sides), default=0)
    spread = [(one.mean(axis=0) - other.mean(axis=0)) for one, other in values]
    freedom = sum(difference.size - 1 for difference in spread)
    if freedom < 1:
        raise DataError(
            where="pilot", found="one subject per fold", expected="two or more are needed"
        )
    within = sum(float(((d - d.mean()) ** 2).sum()) for d in spread) / freedom
    if seeds < 2:
        return within, math.nan, math.nan
    left = [v - v.mean(axis=0) - v.mean(axis=1, keepdims=True) + v.mean() for v in sides]
    rest = sum(float((v**2).sum()) for v in left)
    rest /= sum((v.shape[0] - 1) * (v.shape[1] - 1) for v in sides)
    means = [v.mean(axis=1) for v in sides]
    between = sum(float(((m - m.mean()) ** 2).sum()) for m in means)
    between /= sum(m.size - 1 for m in means)
    size = float(np.mean([1 / v.shape[1] for v in sides]))
    trainings = max(0.0, between - rest * size)
    number = len(sides) / len(folds)
    return max(0.0, within - number * rest / seeds), trainings, rest


def error_of(components: Components, design: Design) -> float:
    """Standard deviation of a mean difference under a design."""
    s, t, r = (value**2 for value in _deviations(components))
    n, k, m = design.subjects, design.folds, design.seeds
    return math.sqrt(s / n + components.sides * (t / (k * m) + r / (n * m)))


def _deviations(components: Components) -> tuple[float, float, float]:
    return components.subjects, components.trainings, components.rest


def power_of(
    components: Components,
    design: Design,
    *,
    margin: float,
    level: float = 0.025,
    difference: float = 0.0,
) -> float:
    """Probability that non-inferiority is found.

    Parameters
    ----------
    components, design
        Spread and size of the study.
    margin
        Tolerated loss.
    level
        One-sided level.
    difference
        True difference, positive if the candidate is better.
    """
    error = error_of(components, design)
    distance = difference + margin
    if error == 0:
        return 1.0 if distance > 0 else 0.0
    subjects, runs, freedom, freedom_runs = _estimated(components, design)
    one, weights_one = _relative(freedom)
    other, weights_other = _relative(freedom_runs)
    of_subjects, of_runs = subjects * one[:, None], runs * other[None, :]
    variance = of_subjects + of_runs
    bound = upper_point(level, of_runs / variance, freedom, freedom_runs)
    passed = special.ndtr((distance - bound * np.sqrt(variance)) / error)
    return float(weights_one @ passed @ weights_other)


def _estimated(components: Components, design: Design) -> tuple[float, float, int, int]:
    """Expected variances of the mean as the test estimates them, and their degrees of freedom."""
    s, t, r = (value**2 for value in _deviations(components))
    n, k, m = design.subjects, design.folds, design.seeds
    sides = components.sides
    between = sides * t / m * (n - n / k) / (n - 1)  # different folds have different trainings
    subjects = (s + sides * r / m + between) / n
    runs = sides * (t + r * k / n) / (k * m) if m > 1 else 0.0
    return subjects, runs, n - 1, sides * k * (m - 1)


@lru_cache(maxsize=4096)
def _relative(freedom: int) -> tuple[Floats, Floats]:
    """Ratio of an estimated variance to its expectation: values and their probabilities."""
    if not freedom:
        return np.ones(1), np.ones(1)
    nodes, weights = np.polynomial.legendre.leggauss(48)
    return stats.chi2.ppf((nodes + 1) / 2, freedom) / freedom, weights / 2


def resolvable(
    components: Components, design: Design, *, level: float = 0.025, power: float = 0.8
) -> float:
    """Smallest margin for which equal presets are found non-inferior with this power."""
    _check_power(power)
    error = error_of(components, design)
    if error == 0:
        return 0.0

    def missing(margin: float) -> float:
        return power_of(components, design, margin=margin, level=level) - power

    high = error
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-9))


def subjects_needed(
    components: Components,
    folds: int,
    seeds: int,
    *,
    margin: float,
    level: float = 0.025,
    power: float = 0.8,
) -> int | None:
    """Smallest number of subjects with which equal presets are found non-inferior.

    None if no number is enough: the trainings vary too much, and only more folds or seeds help.
    """
    _check_power(power)

    def enough(subjects: int) -> bool:
        design = Design(subjects, folds, seeds)
        return power_of(components, design, margin=margin, level=level) >= power

    low, high = max(2, folds), max(2, folds)
    while not enough(high):
        low, high = high, 2 * high
        if high > _MOST_SUBJECTS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return low if enough(low) else high


def seeds_needed(
    components: Components,
    design: Design,
    *,
    margin: float,
    level: float = 0.025,
    power: float = 0.8,
    most: int = 50,
) -> int | None:
    """Smallest number of seeds per fold that gives this power; None if ``most`` is not enough.

    At least two if the pilot knows the variance of trainings, which one seed could not estimate.
    """
    _check_power(power)
    for seeds in range(2 if components.knows_trainings else 1, most + 1):
        more = Design(design.subjects, design.folds, seeds)
        if power_of(components, more, margin=margin, level=level) >= power:
            return seeds
    return None


def better_buy(
    components: Components, design: Design, *, level: float = 0.025, power: float = 0.8
) -> tuple[float, float]:
    """Margins that can be resolved with one more seed, and with as many hours spent on subjects.

    The time of a training is proportional to its subjects, so one more seed takes as long as
    ``subjects / seeds`` more subjects.
    """
    more_seeds = Design(design.subjects, design.folds, design.seeds + 1)
    subjects = math.ceil(design.subjects * (design.seeds + 1) / design.seeds)
    more_subjects = Design(subjects, design.folds, design.seeds)
    one, other = (
        resolvable(components, more, level=level, power=power)
        for more in (more_seeds, more_subjects)
    )
    return one, other


def _check_power(power: float) -> None:
    if not 0.05 <= power < 1:
        raise DataError(
            where="power", found=str(power), expected="a probability from 0.05 to below 1 is needed"
        )
