"""The decisions of the search: which network to train next, and when to stop.

The candidates of a family are tested in a fixed sequence, from the most expensive down; a smaller
candidate is tested only after the next larger one was shown to be non-inferior. Such a sequence
needs no correction for multiple tests (Maurer, Hothorn and Lehmacher 1995). The families share the
level equally, so the error of the whole answer is the level. Bisection tests at most
``ceil(log2(n + 1))`` candidates of a family, at the family's level divided by that number; it
assumes that quality falls with cost.

All decisions follow from results that exist, so a search that was killed resumes where it was.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lunet.reporting.search_grid import Run, SearchGrid

if TYPE_CHECKING:
    from lunet.training.recipe import Recipe

Outcome = Literal["continue", "non-inferior", "futile", "not shown"]


@dataclass(frozen=True)
class Candidate:
    """A network that may be trained; ``cost`` is the cost to minimise."""

    name: str
    family: str
    cost: float
    parameters: int

    @property
    def rank(self) -> tuple[float, int, str]:
        """Sort key: the cost, then the number of parameters, then the name."""
        return self.cost, self.parameters, self.name


@dataclass(frozen=True)
class Finding:
    """The outcome for a candidate after ``folds`` folds.

    ``not shown``: all folds were used and non-inferiority was not found.
    """

    outcome: Outcome
    folds: int


Judge = Callable[[Candidate, float], Finding]
"""Candidate and one-sided level -> finding."""


@dataclass(frozen=True)
class Step:
    """The test of a candidate at a level, finished or not."""

    candidate: Candidate
    level: float
    finding: Finding


@dataclass(frozen=True)
class Path:
    """The search through one family.

    Attributes
    ----------
    steps
        Candidates in the order of testing; the last may be unfinished.
    is_moot
        Whether the rest can be skipped, because every candidate of the family is more expensive
        than a candidate that was shown to be non-inferior in another family.
    """

    family: str
    steps: tuple[Step, ...]
    is_moot: bool = False

    @property
    def pending(self) -> Step | None:
        """The test that needs another fold; None when the family is done."""
        last = self.steps[-1] if self.steps else None
        if last is None or self.is_moot or last.finding.outcome != "continue":
            return None
        return last

    @property
    def shown(self) -> Candidate | None:
        """The smallest candidate that was shown to be non-inferior."""
        good = [s.candidate for s in self.steps if s.finding.outcome == "non-inferior"]
        return min(good, key=lambda one: one.rank, default=None)


@dataclass(frozen=True)
class Search:
    """All families, and the answer so far."""

    paths: tuple[Path, ...]

    @property
    def answer(self) -> Candidate | None:
        """The smallest candidate that was shown to be non-inferior in any family."""
        shown = [path.shown for path in self.paths]
        return min((c for c in shown if c is not None), key=lambda one: one.rank, default=None)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all families."""
        return tuple(step for path in self.paths for step in path.steps)

    @property
    def is_complete(self) -> bool:
        """Whether no test needs another fold."""
        return all(path.pending is None for path in self.paths)


def cheaper(
    candidates: Iterable[Candidate], reference: Candidate
) -> tuple[dict[str, tuple[Candidate, ...]], tuple[Candidate, ...]]:
    """Candidates that cost less than the reference, by family, and all other candidates.

    The most expensive candidate of a family comes first. A candidate that costs as much as the
    reference or more cannot be the answer and is not trained.
    """
    families: dict[str, list[Candidate]] = {}
    left_out = []
    for one in candidates:
        if one.name == reference.name:
            continue
        if one.cost < reference.cost:
            families.setdefault(one.family, []).append(one)
        else:
            left_out.append(one)
    ordered = {
        name: tuple(sorted(members, key=lambda one: one.rank, reverse=True))
        for name, members in families.items()
    }
    return ordered, tuple(left_out)


def search(
    families: Mapping[str, Sequence[Candidate]],
    judge: Judge,
    *,
    level: float,
    strategy: Literal["descending", "bisect"] = "descending",
) -> Search:
    """The state of the search, given the results that exist.

    Parameters
    ----------
    families
        Family -> candidates, the most expensive first, as returned by :func:`cheaper`.
    judge
        Returns the finding for a candidate at a level.
    level
        One-sided error of the whole answer.
    strategy
        ``descending`` or ``bisect``, see the module's documentation.
    """
    walk = _descending if strategy == "descending" else _bisect
    share = level / max(1, len(families))
    paths = [Path(name, walk(members, judge, share)) for name, members in families.items()]
    best = Search(tuple(paths)).answer
    return Search(tuple(_with_moot(path, families[path.family], best) for path in paths))


def _with_moot(path: Path, members: Sequence[Candidate], best: Candidate | None) -> Path:
    if path.pending is None or best is None or best.family == path.family:
        return path
    return Path(path.family, path.steps, is_moot=min(one.rank for one in members) > best.rank)


def _descending(members: Sequence[Candidate], judge: Judge, level: float) -> tuple[Step, ...]:
    steps = []
    for one in members:
        steps.append(Step(one, level, judge(one, level)))
        if steps[-1].finding.outcome != "non-inferior":
            break
    return tuple(steps)


def _bisect(members: Sequence[Candidate], judge: Judge, level: float) -> tuple[Step, ...]:
    share = level / math.ceil(math.log2(len(members) + 1))
    steps: list[Step] = []
    first, last = 0, len(members)
    while first < last:
        middle = (first + last) // 2
        steps.append(Step(members[middle], share, judge(members[middle], share)))
        outcome = steps[-1].finding.outcome
        if outcome == "continue":
            break
        first, last = (middle + 1, last) if outcome == "non-inferior" else (first, middle)
    return tuple(steps)


EARLY_SHARE = 1 / 3
"""Share of the epochs after which a candidate is compared."""


def pause_epoch(recipe: Recipe) -> int:
    """The validated epoch that is nearest to a third of all epochs."""
    steps = max(1, round(EARLY_SHARE * recipe.epochs / recipe.validate_every))
    return min(steps * recipe.validate_every, recipe.epochs)


Curve = Sequence[tuple[int, float]]
"""Epochs and validation scores of a training; a score that is not defined is left out."""

_LEARNT = 0.95
"""Share of its late score that the reference must have reached, or it is too early to compare."""


def projected_gap(candidate: Sequence[Curve], reference: Sequence[Curve], epoch: int) -> float:
    """By how much the candidate will probably stay below the reference; a mean over seeds.

    The candidate is expected to gain once more what it gained in the second half of the epochs so
    far. Before the reference itself has nearly learnt, nothing can be said.

    Parameters
    ----------
    candidate, reference
        A curve for each seed: the candidate's up to ``epoch``, the reference's to its end.
    epoch
        Epoch at which they are compared.

    Returns
    -------
    Reference at ``epoch`` minus the candidate's projected score; minus infinity if it is too early.
    """
    now = [_at(curve, epoch) for curve in reference]
    late = [_late(curve) for curve in reference]
    if sum(now) < _LEARNT * sum(late):
        return -math.inf
    ends = [_at(curve, epoch) for curve in candidate]
    gains = [
        max(0.0, end - _at(curve, epoch // 2)) for end, curve in zip(ends, candidate, strict=True)
    ]
    return (sum(now) - sum(ends) - sum(gains)) / len(now)


def _late(curve: Curve) -> float:
    """Median score of the last third of a training."""
    return statistics.median([score for _, score in curve[-(len(curve) // 3 + 1) :]] or [0.0])


def _at(curve: Curve, epoch: int) -> float:
    """The last score up to an epoch; 0 before the first, as of a network that finds nothing yet."""
    return next((score for number, score in reversed(curve) if number <= epoch), 0.0)


def needed(found: Search, grid: SearchGrid) -> list[Run]:
    """The runs that the decisions so far are based on, each once, with the reference first."""
    depth = {grid.reference: 0}
    for step in found.steps:
        for name in (grid.reference, step.candidate.name):
            depth[name] = max(depth.get(name, 0), step.finding.folds)
    return [
        run
        for name, count in depth.items()
        for fold in grid.folds[:count]
        for run in grid.runs(name, fold)
    ]


def next_round(found: Search, grid: SearchGrid) -> list[list[Run]]:
    """For each family that needs another fold, the runs of candidate and reference on it."""
    rounds = []
    for path in found.paths:
        if path.pending is not None:
            fold = grid.folds[path.pending.finding.folds]
            names = (grid.reference, path.pending.candidate.name)
            rounds.append([run for name in names for run in grid.runs(name, fold)])
    return rounds


def affordable(
    rounds: Sequence[Sequence[Run]],
    done: Mapping[Run, float],
    budget: float | None,
    spent: float,
) -> list[Run]:
    """The runs of the next round that the budget allows, family by family, each once.

    Parameters
    ----------
    rounds
        The value of :func:`next_round`.
    done
        Hours of each finished run, and 0 for runs for which nothing is trained. For a preset
        without finished runs, the highest mean of the other presets is assumed.
    budget, spent
        Hours that may be spent, if there is a limit, and hours that were spent.
    """
    chosen: list[Run] = []
    for runs in rounds:
        new = [run for run in runs if run not in done and run not in chosen]
        hours = sum(_expected(run[0], done) for run in new)
        if budget is not None and new and (spent >= budget or spent + hours > budget):
            continue
        spent += hours
        chosen += [run for run in runs if run not in chosen]
    return chosen


def _expected(preset: str, done: Mapping[Run, float]) -> float:
    by_preset: dict[str, list[float]] = {}
    for (name, _, _), hours in done.items():
        by_preset.setdefault(name, []).append(hours)
    means = {name: sum(values) / len(values) for name, values in by_preset.items()}
    return means.get(preset, max(means.values(), default=0.0))
