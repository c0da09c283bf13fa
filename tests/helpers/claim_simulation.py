"""How often verdicts are false and intervals true in studies that are simulated by the thousand.

The tests of many studies at once, as arrays: :func:`judge` does what
:func:`lunet.statistics.paired.compare_presets` does with a reference (a test compares the two), by
the project's own Satterthwaite, Holm, sign flips and bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lunet.statistics.bootstrap import mean_interval
from lunet.statistics.components import upper_point, upper_tail
from lunet.statistics.significance import holm

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """A kind of study; ``effects`` are those of the presets, the first one being the reference.

    ``failures`` is the share of cases that a preset scores 0 in, under all of its trainings.
    """

    subjects: int
    folds: int
    seeds: int
    training_sd: float = 0.0
    effects: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    tails: str = "normal"
    failures: float = 0.0
    margin: float = 0.01
    case_sd: float = 0.02
    rest_sd: float = 0.005

    @property
    def fold(self) -> NDArray[np.intp]:
        """Fold of each subject."""
        return np.arange(self.subjects) % self.folds

    @property
    def truth(self) -> Floats:
        """True differences from the reference, failures included."""
        effects = np.array(self.effects)
        return np.asarray((1 - self.failures) * (effects[1:] - effects[0]))


def draw(rng: np.random.Generator, design: Design, studies: int) -> Floats:
    """Values of simulated studies, shape (studies, presets, subjects, seeds)."""
    shape = (studies, len(design.effects), design.subjects, design.seeds)
    of_cases = (*shape[:3], 1)
    own = {
        "normal": lambda: rng.normal(0, 1, of_cases),
        "t3": lambda: rng.standard_t(3, of_cases) / np.sqrt(3),
        "exponential": lambda: 1 - rng.exponential(1, of_cases),
    }[design.tails]()
    value = 0.85 + np.array(design.effects)[:, None, None] + np.zeros(shape)
    value += rng.normal(0, 0.05, (studies, 1, design.subjects, 1)) + design.case_sd * own
    trained = rng.normal(0, design.training_sd, (*shape[:2], design.folds, design.seeds))
    value += trained[:, :, design.fold] + rng.normal(0, design.rest_sd, shape)
    return np.where(rng.random(of_cases) < design.failures, 0.0, value)


@dataclass(frozen=True)
class Judged:
    """Adjusted p-values, and intervals of the differences, shape (studies, presets - 1)."""

    difference: Floats
    p_difference: Floats
    p_noninferior: Floats
    low: Floats
    high: Floats


def judge(values: Floats, design: Design, *, permutations: int = 999) -> Judged:
    """Tests and intervals of all studies; with one seed, bootstrap and sign flips of subjects."""
    cases = values.mean(axis=3)
    apart = cases[:, 1:] - cases[:, :1]
    if design.seeds == 1:
        return _of_subjects(apart, design, permutations)
    sizes = np.bincount(design.fold)
    means = np.stack(
        [values[:, :, design.fold == fold].mean(axis=2) for fold in range(design.folds)], axis=2
    )
    square = means.var(axis=3, ddof=1).mean(axis=2)
    share = float(((sizes / design.subjects) ** 2).sum()) / design.seeds
    of_trainings = (square[:, 1:] + square[:, :1]) * share
    of_subjects = apart.var(axis=2, ddof=1) / design.subjects
    freedom = 2 * design.folds * (design.seeds - 1)
    variance = of_subjects + of_trainings
    shape = of_trainings / variance, design.subjects - 1, freedom
    mean, error = apart.mean(axis=2), np.sqrt(variance)
    half = upper_point(0.025, *shape) * error
    return Judged(
        mean,
        adjusted(2 * upper_tail(np.abs(mean) / error, *shape)),
        adjusted(upper_tail((mean + design.margin) / error, *shape)),
        mean - half,
        mean + half,
    )


def adjusted(p_values: Floats) -> Floats:
    """Holm's adjustment of each row."""
    return np.array([holm(row) for row in p_values])


def _of_subjects(apart: Floats, design: Design, permutations: int) -> Judged:
    p_difference, p_noninferior = sign_flips(apart, design.margin, permutations)
    flat = apart.reshape(-1, design.subjects)
    intervals = [mean_interval(row, np.arange(design.subjects), resamples=499) for row in flat]
    ends = np.array([(one.low, one.high) for one in intervals]).reshape(*apart.shape[:2], 2)
    return Judged(
        apart.mean(axis=2),
        adjusted(p_difference),
        adjusted(p_noninferior),
        *np.moveaxis(ends, 2, 0),
    )


def sign_flips(apart: Floats, margin: float, permutations: int) -> tuple[Floats, Floats]:
    """Two-sided p-values of no difference, one-sided ones of a loss of the margin."""
    number = apart.shape[2]
    is_exact = 2**number <= permutations
    if is_exact:
        signs = 1 - 2 * (np.arange(2**number)[:, None] >> np.arange(number) & 1)
    else:
        signs = np.random.default_rng(0).choice((-1, 1), (permutations, number))
    found = []
    for data, is_two_sided in ((apart, True), (apart + margin, False)):
        drawn, observed = data @ signs.T.astype(float), data.sum(axis=2)[..., None]
        if is_two_sided:
            drawn, observed = np.abs(drawn), np.abs(observed)
        extreme = (drawn >= observed - 1e-12 * np.abs(data).sum(axis=2)[..., None]).sum(axis=2)
        found.append(extreme / len(signs) if is_exact else (extreme + 1) / (len(signs) + 1))
    return found[0], found[1]


def outcome(rng: np.random.Generator, design: Design, studies: int) -> dict[str, float]:
    """Shares over simulated studies.

    Returns
    -------
    ``false``: some verdict of the study is false ("better" or "worse" where it is not so,
    "non-inferior" at a loss of the margin or more); ``coverage`` of the intervals of differences;
    ``subjects_alone``: some false "better" or "worse" by sign flips of subjects.
    """
    values = draw(rng, design, studies)
    found, truth = judge(values, design), design.truth
    improves = found.difference > 0
    differs = found.p_difference <= 0.05
    false = differs & improves & (truth <= 1e-12)
    noninferior = ~(differs & improves) & (found.p_noninferior <= 0.025)
    false |= noninferior & (truth <= -design.margin + 1e-9)
    false |= differs & ~improves & ~noninferior & (truth >= -1e-12)
    cases = values.mean(axis=3)
    alone, _ = sign_flips(cases[:, 1:] - cases[:, :1], design.margin, 999)
    wrongly = (adjusted(alone) <= 0.05) & (np.abs(truth) < 1e-12)
    defined = np.isfinite(found.low)
    covered = (found.low <= truth) & (truth <= found.high)
    return {
        "false": float(false.any(axis=1).mean()),
        "coverage": float(covered[defined].mean()) if defined.any() else float("nan"),
        "subjects_alone": float(wrongly.any(axis=1).mean()),
    }


def rows_of(values: Floats, design: Design, names: Sequence[str]) -> pd.DataFrame:
    """Per-case rows of one study (presets, subjects, seeds), as the project's functions take."""
    preset, subject, seed = (axis.ravel() for axis in np.indices(values.shape))
    case = np.char.add("s", np.char.zfill(subject.astype(str), 3))
    frame = {"preset": np.array(list(names))[preset], "fold": design.fold[subject], "seed": seed}
    frame |= {"case": case, "label": "organ", "status": "ok", "dice": values.ravel()}
    return pd.DataFrame(frame)
