"""Paired comparison of presets on the same cases.

A case's value is its mean over seeds, so that a preset is compared, not one lucky training.
Everything that asks for independent units takes subjects: the tests of
:mod:`lunet.statistics.significance` and the intervals of :mod:`lunet.statistics.bootstrap`.

The verdict on a preset against a reference is the first of these that holds:

* ``better``: adjusted p_permutation <= alpha, and the difference is an improvement;
* ``non-inferior``: adjusted p_noninferior <= alpha / 2 (one-sided, as is usual), even if a loss
  smaller than the margin is significant;
* ``worse``: adjusted p_permutation <= alpha, and the difference is a loss;
* ``not resolved``: none of these; the data cannot tell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lunet.errors import DataError, nearest
from lunet.statistics.bootstrap import effect_interval, effect_size, mean_interval
from lunet.statistics.significance import holm, sign_flip_test, wilcoxon_test
from lunet.statistics.values import SIGNED, case_values, direction

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
    "mean",
    "mean_reference",
    "difference",
    "ci_low",
    "ci_high",
    "effect_size",
    "effect_low",
    "effect_high",
    "p_permutation",
    "p_wilcoxon",
    "p_permutation_holm",
    "p_wilcoxon_holm",
    "margin",
    "p_noninferior",
    "p_noninferior_holm",
    "verdict",
)


@dataclass(frozen=True)
class Options:
    """How to test: level, permutations or resamples, seed, margin in the metric's unit."""

    alpha: float
    resamples: int
    permutations: int
    seed: int
    margin: float | None


def compare(
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
) -> pd.DataFrame:
    """Compare presets pair by pair, for each label and for the mean over labels.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`.
    metric
        Column to compare; of signed volume errors the magnitude of each row is taken.
    reference
        Preset that all others are compared with; ``None`` compares every pair, ordered by name.
    pairs
        The only pairs (preset, reference) to compare: fewer tests cost less in the correction.
    margin
        Non-inferiority margin in the metric's unit, 0 or more, stated before the run, or none.
    alpha
        Level of the family of tests, all rows returned; each interval has level ``1 - alpha``.
    resamples, permutations, seed
        Bootstrap resamples, sign flips and seed. All sign patterns are taken if there are fewer;
        more are drawn where no adjusted p-value of so large a family could come below alpha.

    Returns
    -------
    A row per pair and label with ``COMPARISON_COLUMNS``. ``difference`` is the mean over cases of
    preset - reference with its interval, ``effect_size`` Cohen's d of the paired differences; both
    keep the sign of the metric, and ``direction`` is 1 where higher is better, else -1.
    ``n_undefined`` counts cases left out, one side having no value (both masks empty).
    ``p_permutation`` is two-sided by sign flips, ``p_noninferior`` one-sided for "worse by the
    margin or more"; ``_holm`` is adjusted over all rows. ``verdict`` as in the module's text.

    Raises
    ------
    DataError
        A case on one side only (named), an unknown reference or metric, a negative margin.
    """
    sign = direction(metric)
    _check_margin(margin)
    values = case_values(magnitudes(rows, metric), metric)
    chosen = _chosen(values["preset"], pairs) or _pairs(values["preset"], reference)
    # The smallest p-value is 1 / (permutations + 1), Holm multiplies it, and alpha is halved.
    enough = math.ceil(4 * len(chosen) * values["label"].nunique() / alpha)
    options = Options(alpha, resamples, max(permutations, enough), seed, margin)
    records = [
        {"metric": metric, "label": label, "preset": preset, "reference": base, "direction": sign}
        | _compare_pair(part, (preset, base), sign, options)
        for preset, base in chosen
        for label, part in _labels(values)
    ]
    return _judged(pd.DataFrame(records, columns=COMPARISON_COLUMNS), alpha)


def magnitudes(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows, with the magnitude of the metric where it is an error around zero."""
    return rows.assign(**{metric: rows[metric].abs()}) if metric in SIGNED else rows


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
        If a case stands on one side only; it is named.
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
            raise DataError(f"preset {name}", found, "both sides need the same cases", action)


def _check_margin(margin: float | None) -> None:
    if margin is not None and not (math.isfinite(margin) and margin >= 0):
        raise DataError(
            "margin", str(margin), "a number in the metric's unit, 0 or more, is needed"
        )


def _chosen(presets: pd.Series, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    known = set(presets.unique())
    for name in (name for pair in pairs for name in pair):
        if name not in known:
            raise DataError("pairs", repr(name), "a preset is needed", nearest(name, known))
    return [(preset, base) for preset, base in pairs]


def _pairs(presets: pd.Series, reference: str | None) -> list[tuple[str, str]]:
    names = sorted(presets.unique())
    if reference is None:
        return [(second, first) for first, second in itertools.combinations(names, 2)]
    if reference not in names:
        raise DataError(
            "reference", repr(reference), "a preset is needed", nearest(reference, names)
        )
    return [(name, reference) for name in names if name != reference]


def _labels(values: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for label in values["label"].unique():
        yield label, values[values["label"] == label]


def _compare_pair(
    part: pd.DataFrame, pair: tuple[str, str], sign: int, options: Options
) -> dict[str, Any]:
    both = paired_values(part, *pair)
    defined = both.dropna()
    differences = (defined["preset"] - defined["reference"]).to_numpy()
    counted = {
        "n": len(defined),
        "n_groups": defined["group"].nunique(),
        "n_undefined": len(both) - len(defined),
        "margin": math.nan if options.margin is None else options.margin,
    }
    if not len(defined):
        return counted
    means = {"mean": defined["preset"].mean(), "mean_reference": defined["reference"].mean()}
    groups = defined["group"].to_numpy()
    return {
        **counted,
        **means,
        **_estimates(differences, groups, options),
        **_tests(differences, groups, sign, options),
    }


def _estimates(differences: Floats, groups: NDArray[Any], options: Options) -> dict[str, float]:
    how: dict[str, Any] = {
        "confidence": 1 - options.alpha,
        "resamples": options.resamples,
        "seed": options.seed,
    }
    mean = mean_interval(differences, groups, **how)
    effect = effect_interval(differences, groups, **how)
    return {
        "difference": float(differences.mean()),
        "ci_low": mean.low,
        "ci_high": mean.high,
        "effect_size": effect_size(differences),
        "effect_low": effect.low,
        "effect_high": effect.high,
    }


def _tests(
    differences: Floats, groups: NDArray[Any], sign: int, options: Options
) -> dict[str, float]:
    how: dict[str, Any] = {"permutations": options.permutations, "seed": options.seed}
    p_noninferior = math.nan
    if options.margin is not None:
        shifted = sign * differences + options.margin
        p_noninferior = sign_flip_test(shifted, groups, alternative="greater", **how)
    return {
        "p_permutation": sign_flip_test(differences, groups, **how),
        "p_wilcoxon": wilcoxon_test(differences, groups),
        "p_noninferior": p_noninferior,
    }


def _judged(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Adjust the p-values over the whole table and fill in the verdicts."""
    for test in ("p_permutation", "p_wilcoxon", "p_noninferior"):
        table[f"{test}_holm"] = holm(table[test])
    table["verdict"] = [_verdict(row, alpha) for row in table.to_dict("records")]
    return table


def _verdict(row: dict[str, Any], alpha: float) -> str:
    differs = row["p_permutation_holm"] <= alpha
    improvement = row["direction"] * row["difference"]
    if differs and improvement > 0:
        return "better"
    if row["p_noninferior_holm"] <= alpha / 2:
        return "non-inferior"
    return "worse" if differs and improvement < 0 else "not resolved"
