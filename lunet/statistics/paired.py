"""Paired comparison of presets on the same cases.

A case's value is its mean over seeds. With two seeds or more per fold the error of a difference
includes both sources of chance, subjects and trainings (:mod:`lunet.statistics.components`), and
the verdict is about presets. With one seed only subjects are resampled (sign flips of
:mod:`lunet.statistics.significance`, intervals of :mod:`lunet.statistics.bootstrap`); the verdict
is then about these trained networks, and another training may give another result.

The verdict on a preset against a reference is the first of these that applies:

* ``better``: adjusted p_difference <= alpha, and the difference is an improvement;
* ``non-inferior``: adjusted p_noninferior <= alpha / 2 (one-sided, as is usual), even if a loss
  smaller than the margin is significant;
* ``worse``: adjusted p_difference <= alpha, and the difference is a loss;
* ``not resolved``: none of these; the data do not allow a verdict.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lunet.errors import DataError, nearest
from lunet.metrics.catalog import direction, is_signed
from lunet.statistics.attainable import smallest_p
from lunet.statistics.bootstrap import effect_interval, effect_size, mean_interval
from lunet.statistics.components import (
    UNTRAINED,
    deviations,
    mean_error,
    seeds_of_pair,
    trainings,
)
from lunet.statistics.significance import holm, sign_flip_test, wilcoxon_test
from lunet.statistics.values import case_values, run_values

Floats = NDArray[np.float64]

COMPARISON_COLUMNS = (
    "metric",
    "label",
    "preset",
    "reference",
    "direction",
    "n",
    "n_groups",
    "n_undefined",
    "n_seeds",
    "mean",
    "mean_reference",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
    "effect_low",
    "effect_high",
    "standard_error",
    "sd_subjects",
    "sd_trainings",
    "sd_rest",
    "freedom",
    "freedom_trainings",
    "share_trainings",
    "p_difference",
    "p_permutation",
    "p_wilcoxon",
    "p_difference_holm",
    "p_permutation_holm",
    "p_wilcoxon_holm",
    "p_smallest_holm",
    "margin",
    "p_noninferior",
    "p_noninferior_holm",
    "verdict",
)


@dataclass(frozen=True)
class Options:
    """How to test: the metric's direction, level, resamples, seed, margin in the metric's unit."""

    sign: int
    alpha: float
    resamples: int
    permutations: int
    seed: int
    margin: float | None
    untrained: tuple[str, ...]


def compare_presets(
    rows: pd.DataFrame,
    metric: str,
    *,
    reference: str | None = None,
    pairs: Sequence[tuple[str, str]] = (),
    margin: float | None,
    alpha: float = 0.05,
    resamples: int = 2000,
    permutations: int = 9999,
    seed: int = 0,
    untrained: Sequence[str] = (),
) -> pd.DataFrame:
    """Compare presets pair by pair, for each label and for the mean over labels.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`.
    metric
        Column to compare; signed volume errors are compared by their absolute value.
    reference
        Preset that all others are compared with; ``None`` compares every pair, ordered by name.
    pairs
        If given, the only pairs (preset, reference) to compare; with fewer tests the correction is
        weaker.
    margin
        Non-inferiority margin in the metric's unit, stated before the run; 0 or ``None`` for no
        test of non-inferiority.
    alpha
        Level of all returned tests together; each interval has level ``1 - alpha``.
    resamples, permutations, seed
        Numbers of bootstrap resamples and of sign flips, and the seed. All sign patterns are used
        if there are fewer; more are drawn if otherwise no adjusted p-value could fall below alpha.
    untrained
        Presets without any training, such as the atlas prior; their number of seeds is ignored.

    Returns
    -------
    A row per pair and label with ``COMPARISON_COLUMNS``. ``difference`` is the mean over cases of
    preset - reference with its interval, ``effect_size`` is Cohen's d of the paired differences;
    both keep the sign of the metric, and ``direction`` is 1 if higher is better, else -1.
    ``n_undefined`` counts the cases that are left out because one side has no value (both masks
    empty). ``n_seeds`` is the number of seeds per fold on each side.
    With two seeds or more, the interval, ``p_difference`` (two-sided) and ``p_noninferior``
    (one-sided, against "worse by the margin or more") come from t tests that include trainings
    (:func:`lunet.statistics.components.mean_error`), with ``freedom`` and ``freedom_trainings``
    degrees of freedom; ``share_trainings`` is the share of the trainings in the variance. With one
    seed they come from the bootstrap and sign flips of subjects. ``p_permutation`` and
    ``p_wilcoxon`` always consider subjects only. Columns ``*_holm`` are adjusted over all rows;
    ``p_smallest_holm`` is the smallest adjusted p-value that sign flips can give.

    Raises
    ------
    DataError
        If a case is on one side only, a name is unknown, the margin is negative, or the numbers of
        seeds differ.
    """
    _check_margin(margin)
    sign = direction(metric)
    options = Options(sign, alpha, resamples, permutations, seed, margin or None, (*untrained,))
    values = case_values(magnitudes(rows, metric), metric)
    chosen = _chosen(values["preset"], pairs) or _pairs(values["preset"], reference)
    return _judged(_compared(rows, metric, values, chosen, options), alpha)


def _compared(
    rows: pd.DataFrame,
    metric: str,
    values: pd.DataFrame,
    chosen: Sequence[tuple[str, str]],
    options: Options,
) -> pd.DataFrame:
    """Estimates and unadjusted tests of all pairs and labels."""
    runs = run_values(magnitudes(rows, metric), metric)
    # The smallest p-value is 1 / (permutations + 1); Holm multiplies it by the number of tests, and
    # the level of non-inferiority is alpha / 2.
    enough = math.ceil(4 * len(chosen) * values["label"].nunique() / options.alpha)
    options = replace(options, permutations=max(options.permutations, enough))
    named = {"metric": metric, "direction": options.sign}
    records = [
        named
        | {"label": label, "preset": preset, "reference": base}
        | _compare_pair(part, runs[runs["label"] == label], (preset, base), options)
        for preset, base in chosen
        for label, part in _labels(values)
    ]
    return pd.DataFrame(records, columns=COMPARISON_COLUMNS)


def magnitudes(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows, with the absolute value of the metric if it is signed."""
    return rows.assign(**{metric: rows[metric].abs()}) if is_signed(metric) else rows


def paired_values(part: pd.DataFrame, preset: str, reference: str) -> pd.DataFrame:
    """Values of two presets side by side.

    Parameters
    ----------
    part
        Rows ``preset, case, group, value`` of one label.

    Returns
    -------
    Columns ``case, group, preset, reference``, a row per case.

    Raises
    ------
    DataError
        If a case is on one side only; the message names it.
    """
    sides = {
        side: part[part["preset"] == name].set_index("case")
        for side, name in (("preset", preset), ("reference", reference))
    }
    _check_same_cases(sides["preset"].index, sides["reference"].index, (preset, reference))
    order = sides["reference"].index
    frame = pd.DataFrame({side: sides[side].loc[order, "value"] for side in sides})
    return frame.assign(group=sides["reference"]["group"]).reset_index()


def _check_same_cases(one: pd.Index, other: pd.Index, names: tuple[str, str]) -> None:
    for absent, present, name in ((one, other, names[0]), (other, one, names[1])):
        lost = [str(case) for case in present.difference(absent)]
        if lost:
            more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
            found = f"has no result for the case {', '.join(lost[:3])}{more}"
            action = "Predict it, or record it as missed"
            raise DataError(
                where=f"preset {name}",
                found=found,
                expected="both sides need the same cases",
                action=action,
            )


def _check_margin(margin: float | None) -> None:
    if margin is not None and not (math.isfinite(margin) and margin >= 0):
        raise DataError(
            where="margin",
            found=str(margin),
            expected="a number in the metric's unit, 0 or more, is needed",
        )


def _chosen(presets: pd.Series, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    known = set(presets.unique())
    for name in (name for pair in pairs for name in pair):
        if name not in known:
            raise DataError(
                where="pairs",
                found=repr(name),
                expected="a preset is needed",
                action=nearest(name, known),
            )
    return [(preset, base) for preset, base in pairs]


def _pairs(presets: pd.Series, reference: str | None) -> list[tuple[str, str]]:
    names = sorted(presets.unique())
    if reference is None:
        return [(second, first) for first, second in itertools.combinations(names, 2)]
    if reference not in names:
        raise DataError(
            where="reference",
            found=repr(reference),
            expected="a preset is needed",
            action=nearest(reference, names),
        )
    return [(name, reference) for name in names if name != reference]


def _labels(values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for label in values["label"].unique():
        yield label, values[values["label"] == label]


def _compare_pair(
    part: pd.DataFrame, runs: pd.DataFrame, pair: tuple[str, str], options: Options
) -> dict[str, Any]:
    both = paired_values(part, *pair)
    defined = both.dropna()
    counted = {
        "n": len(defined),
        "n_groups": defined["group"].nunique(),
        "n_undefined": len(both) - len(defined),
        "n_seeds": seeds_of_pair(runs, pair, options.untrained),
        "margin": math.nan if options.margin is None else options.margin,
    }
    if not len(defined):
        return counted
    means = {"mean": defined["preset"].mean(), "mean_reference": defined["reference"].mean()}
    differences = (defined["preset"] - defined["reference"]).to_numpy()
    groups = defined["group"].to_numpy()
    kept = runs[runs["case"].isin(defined["case"])].dropna(subset=["value"])
    estimated = counted | means | _of_subjects(differences, groups, options)
    if counted["n_seeds"] < 2:
        return estimated
    return estimated | _of_presets(differences, groups, kept, pair, options)


def _of_subjects(differences: Floats, groups: NDArray[Any], options: Options) -> dict[str, float]:
    """Estimates and tests with subjects as the only source of chance."""
    level: dict[str, Any] = {"confidence": 1 - options.alpha, "resamples": options.resamples}
    mean = mean_interval(differences, groups, **level, seed=options.seed)
    effect = effect_interval(differences, groups, **level, seed=options.seed)
    how: dict[str, Any] = {"permutations": options.permutations, "seed": options.seed}
    flipped = sign_flip_test(differences, groups, **how)
    error = mean_error(differences, groups, [])
    p_noninferior = math.nan
    if options.margin is not None:
        shifted = options.sign * differences + options.margin
        p_noninferior = sign_flip_test(shifted, groups, alternative="greater", **how)
    return {
        "difference": float(differences.mean()),
        "ci_low": mean.low,
        "ci_high": mean.high,
        "effect_size": effect_size(differences),
        "effect_low": effect.low,
        "effect_high": effect.high,
        "standard_error": error.error,
        "sd_subjects": deviations(differences, groups, [])["sd_subjects"],
        "p_difference": flipped,
        "p_permutation": flipped,
        "p_wilcoxon": wilcoxon_test(differences, groups),
        "p_noninferior": p_noninferior,
    }


def _of_presets(
    differences: Floats,
    groups: NDArray[Any],
    runs: pd.DataFrame,
    pair: tuple[str, str],
    options: Options,
) -> dict[str, float]:
    """Interval and tests with subjects and trainings as sources of chance."""
    sides = [
        UNTRAINED if name in options.untrained else trainings(runs[runs["preset"] == name])
        for name in pair
    ]
    error = mean_error(differences, groups, sides)
    mean = float(differences.mean())
    interval = error.interval(mean, 1 - options.alpha)
    p_noninferior = math.nan
    if options.margin is not None:
        p_noninferior = error.p_greater(options.sign * mean + options.margin)
    return {
        "ci_low": interval.low,
        "ci_high": interval.high,
        "freedom": error.freedom,
        "freedom_trainings": error.freedom_trainings,
        "share_trainings": error.share,
        **deviations(differences, groups, sides),
        "standard_error": error.error,
        "p_difference": error.p_two_sided(mean),
        "p_noninferior": p_noninferior,
    }


def _judged(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Adjust the p-values over the whole table and fill in the verdicts."""
    for test in ("p_difference", "p_permutation", "p_wilcoxon", "p_noninferior"):
        table[f"{test}_holm"] = holm(table[test])
    tests = int(table["p_difference"].notna().sum())
    table["p_smallest_holm"] = [
        min(1.0, tests * smallest_p(row["n_groups"])) if row["n_seeds"] < 2 else math.nan
        for row in table.to_dict("records")
    ]
    table["verdict"] = [_verdict(row, alpha) for row in table.to_dict("records")]
    return table


def _verdict(row: dict[str, Any], alpha: float) -> str:
    differs = row["p_difference_holm"] <= alpha
    improvement = row["direction"] * row["difference"]
    if differs and improvement > 0:
        return "better"
    if row["p_noninferior_holm"] <= alpha / 2:
        return "non-inferior"
    return "worse" if differs and improvement < 0 else "not resolved"
