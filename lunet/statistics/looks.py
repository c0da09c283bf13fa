"""Looks at a study that grows fold by fold: one candidate against the reference.

Each look uses the cases of the folds that are finished on both sides. The error of the difference
includes subjects and trainings (:mod:`lunet.statistics.components`). The information of a look is
the inverse of this variance, as a share of the information that all planned folds will give.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lunet.errors import DataError
from lunet.metrics.catalog import direction
from lunet.statistics.components import UNTRAINED, MeanError, Trainings, mean_error
from lunet.statistics.paired import magnitudes
from lunet.statistics.sequential import Estimate, Look, Plan, look
from lunet.statistics.values import MEAN_LABEL, run_values

Floats = NDArray[np.float64]

_EVEN = 0.02
"""Share of the information that is counted by folds alone, so that each look adds some."""


@dataclass(frozen=True)
class FoldValues:
    """Values of both sides in one fold; higher values are better.

    Attributes
    ----------
    cases, groups
        Names of the cases and of their subjects, shape (n,).
    candidate, reference
        A row per training, shape (seeds, n).
    trained
        Whether the candidate and the reference were trained (the atlas prior was not).
    """

    cases: NDArray[Any]
    groups: NDArray[Any]
    candidate: Floats
    reference: Floats
    trained: tuple[bool, bool] = (True, True)


@dataclass(frozen=True)
class Counts:
    """The data of a look: cases with a value, their subjects, and seeds per fold."""

    cases: int
    subjects: int
    seeds: int


@dataclass(frozen=True)
class Part:
    """Mean difference over some folds, its error, and the number of its cases."""

    difference: float
    error: MeanError
    counts: Counts

    @property
    def variances(self) -> tuple[float, float]:
        """The subjects' and the trainings' part of the variance of the mean difference."""
        whole = self.error.error**2
        return (1 - self.error.share) * whole, self.error.share * whole


def fold_values(
    rows: pd.DataFrame, pair: tuple[str, str], metric: str, untrained: Collection[str] = ()
) -> dict[int, FoldValues]:
    """Values of a pair, for each fold that both sides have.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`; other presets are ignored.
    pair
        Candidate and reference.
    metric
        Column to compare; with several structures, their mean is compared.
    untrained
        Presets without any training.

    Raises
    ------
    DataError
        If the two sides of a fold have different cases or numbers of seeds, or the rows are wrong.
    """
    mine = rows[rows["preset"].isin(pair)]
    runs = run_values(magnitudes(mine, metric), metric)
    label = MEAN_LABEL if MEAN_LABEL in set(runs["label"]) else runs["label"].iloc[0]
    runs = runs[runs["label"] == label]
    folds = [set(runs.loc[runs["preset"] == name, "fold"]) for name in pair]
    trained = (pair[0] not in untrained, pair[1] not in untrained)
    return {
        int(fold): _of_fold(runs[runs["fold"] == fold], pair, direction(metric), trained)
        for fold in sorted(folds[0] & folds[1])
    }


def _of_fold(
    runs: pd.DataFrame, pair: tuple[str, str], sign: int, trained: tuple[bool, bool]
) -> FoldValues:
    tables = [
        runs[runs["preset"] == name].pivot(index="seed", columns="case", values="value")
        for name in pair
    ]
    where = f"fold {runs['fold'].iloc[0]} of {pair[0]} and {pair[1]}"
    if set(tables[0].columns) != set(tables[1].columns):
        lost = sorted(map(str, set(tables[0].columns) ^ set(tables[1].columns)))
        raise DataError(
            where=where,
            found=f"only one side has the case {lost[0]}",
            expected="both sides need the same cases",
        )
    if all(trained) and len(tables[0]) != len(tables[1]):
        found = f"{len(tables[0])} seeds against {len(tables[1])}"
        raise DataError(
            where=where,
            found=found,
            expected="both sides need the same number",
            action="Train the missing seeds",
        )
    one, other = (sign * table.to_numpy(dtype=np.float64) for table in tables)
    defined = np.isfinite(one).all(axis=0) & np.isfinite(other).all(axis=0)
    cases = tables[0].columns.to_numpy().astype(str)
    groups = runs.drop_duplicates("case").set_index("case")["group"].loc[tables[0].columns]
    names = groups.to_numpy().astype(str)
    return FoldValues(cases[defined], names[defined], one[:, defined], other[:, defined], trained)


def looks(
    values: Mapping[int, FoldValues],
    plan: Plan,
    folds: Sequence[int],
    *,
    planned: Mapping[int, Collection[str]] | None = None,
) -> list[tuple[Look, Counts]]:
    """All looks up to the one that decides, in the order of the folds.

    Parameters
    ----------
    values
        Fold -> values of both sides, as returned by :func:`fold_values`.
    plan
        Margin, level, spending and futility.
    folds
        All planned folds in the order of the looks. The looks end before the first fold without
        values.
    planned
        Fold -> its test cases; without it all folds are assumed to be as large as the folds seen.

    Raises
    ------
    DataError
        If no fold is planned.
    """
    if not folds:
        raise DataError(where="folds", found="none", expected="at least one look is needed")
    parts: list[Part] = []
    found: list[tuple[Look, Counts]] = []
    for number, fold in enumerate(folds, 1):
        if fold not in values:
            break
        parts.append(part_of([values[one] for one in folds[:number]]))
        now = parts[-1]
        estimate = Estimate(now.difference, now.error, _shares(parts, folds, planned))
        found.append((look(plan, estimate, [one for one, _ in found]), now.counts))
        if found[-1][0].decision != "continue":
            break
    return found


def part_of(folds: Sequence[FoldValues]) -> Part:
    """Estimate over the given folds; a case that several folds test counts once.

    With one seed per fold the variance of trainings is unknown and left out; the difference is then
    between the trained networks.
    """
    names, place = np.unique(np.concatenate([f.cases for f in folds]), return_inverse=True)
    tested = np.bincount(place, minlength=names.size)
    groups = np.empty(names.size, dtype=object)
    groups[place] = np.concatenate([f.groups for f in folds])
    seeds = min(
        (len(side) for f in folds for side, made in zip(_sides(f), f.trained, strict=True) if made),
        default=0,
    )
    counts = Counts(names.size, len(set(groups)), seeds)
    if not names.size:
        return Part(np.nan, MeanError(np.nan, np.nan, 0, 0), counts)
    means = np.concatenate([f.candidate.mean(axis=0) - f.reference.mean(axis=0) for f in folds])
    differences = np.bincount(place, weights=means) / tested
    # the weight of a fold in the mean; its cases that other folds test, too, count less
    sizes = np.cumsum([0, *(f.cases.size for f in folds)])
    weights = [
        float((1 / tested[place[low:high]]).sum()) / names.size
        for low, high in itertools.pairwise(sizes)
    ]
    sides = [
        _trainings([_sides(f)[side] for f in folds], weights)
        if folds[0].trained[side] and seeds > 1
        else UNTRAINED
        for side in (0, 1)
    ]
    return Part(float(differences.mean()), mean_error(differences, groups, sides), counts)


def _sides(fold: FoldValues) -> tuple[Floats, Floats]:
    return fold.candidate, fold.reference


def _trainings(folds: Sequence[Floats], weights: Sequence[float]) -> Trainings:
    """Like :func:`lunet.statistics.components.trainings`, for one (seeds, cases) array per fold."""
    means = [values.mean(axis=1) for values in folds]
    freedom = sum(mean.size - 1 for mean in means)
    square = sum(float(((mean - mean.mean()) ** 2).sum()) for mean in means) / freedom
    share = sum(weight**2 / mean.size for weight, mean in zip(weights, means, strict=True))
    return Trainings(square, freedom, share, np.nan)


def _shares(
    parts: Sequence[Part],
    folds: Sequence[int],
    planned: Mapping[int, Collection[str]] | None,
) -> tuple[float, ...]:
    """Shares of the planned information at all looks so far, using the latest variances."""
    now, done, total = parts[-1], len(parts), len(folds)
    subjects, trainings = now.variances
    last = now.counts.cases * total / done
    if planned is not None:
        seen = set().union(*(planned[fold] for fold in folds[:done]))
        # the share of cases without a value is assumed to stay the same
        last = len(set().union(*planned.values())) * now.counts.cases / max(1, len(seen))
    last = max(last, now.counts.cases)

    def variance(cases: float, number: int) -> float:
        return subjects * now.counts.cases / max(cases, 1) + trainings * done / number

    full = variance(last, total)
    shares = []
    for number, part in enumerate(parts, 1):
        here = variance(part.counts.cases, number)
        even = number / total
        share = min(1.0, full / here) if here > 0 else even
        shares.append((1 - _EVEN) * share + _EVEN * even if number < total else 1.0)
    # rounded, so that equal looks reuse the cached integration
    return tuple(round(share, 9) for share in shares)
