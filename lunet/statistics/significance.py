"""Paired significance tests with subjects as the units, and Holm's adjustment.

Sign flips move all cases of a subject together; Wilcoxon ranks the subjects' mean differences.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lunet.statistics.bootstrap import Clusters

Floats = NDArray[np.float64]
Alternative = Literal["two-sided", "greater"]

_CHUNK = 2048
"""Sign patterns in memory at a time."""


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Scand. J. Stat. 6:65, 1979).

    Parameters
    ----------
    p_values
        Shape (n,); NaN marks a test that was not done, which stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    done = np.flatnonzero(~np.isnan(p))
    order = done[np.argsort(p[done], kind="stable")]
    scaled = p[order] * np.arange(order.size, 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted


def sign_flip_test(
    differences: ArrayLike,
    groups: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    permutations: int = 9999,
    seed: int = 0,
) -> float:
    """p-value of a mean difference of 0 under random signs of whole groups.

    Parameters
    ----------
    differences
        One finite value per case, shape (n,).
    groups
        Subject of each case, shape (n,).
    alternative
        ``two-sided``, or ``greater`` for a mean above 0.
    permutations
        Number of random sign patterns; all ``2**groups`` patterns are used if they are fewer.
    """
    sums = Clusters.of(differences, groups).sums
    drawn = _flipped_totals(sums, permutations, seed)
    observed = sums.sum()
    if alternative == "two-sided":
        drawn, observed = np.abs(drawn), abs(observed)
    # Totals that are mathematically equal may differ by rounding; the slack counts them as equal.
    slack = 1e-12 * np.abs(sums).sum()
    as_extreme = int((drawn >= observed - slack).sum())
    if drawn.size == 2**sums.size:
        return as_extreme / drawn.size
    return (as_extreme + 1) / (drawn.size + 1)


def _flipped_totals(sums: Floats, permutations: int, seed: int) -> Floats:
    """Totals of the sums under all sign patterns, or under ``permutations`` random ones.

    The result is the same as of ``scipy.stats.permutation_test(permutation_type="samples")``, but
    computed as a matrix product, because a table of all pairs of presets needs hundreds of tests.
    """
    if 2**sums.size <= permutations:
        flips = np.arange(2**sums.size)[:, None] >> np.arange(sums.size) & 1
        return np.asarray(sums.sum() - flips @ (2 * sums))
    rng = np.random.default_rng(seed)
    parts = [
        rng.integers(0, 2, (min(_CHUNK, permutations - start), sums.size), dtype=np.int8)
        @ (2 * sums)
        for start in range(0, permutations, _CHUNK)
    ]
    return np.asarray(sums.sum() - np.concatenate(parts))


def wilcoxon_test(differences: ArrayLike, groups: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test on the groups' mean differences.

    It is 1 if all of them are 0.
    """
    clusters = Clusters.of(differences, groups)
    means = clusters.sums / clusters.counts
    return float(stats.wilcoxon(means).pvalue) if means.any() else 1.0
