"""Paired significance tests with subjects as the units, and Holm's adjustment.

Sign flips move all cases of a subject together; Wilcoxon ranks the subjects' mean differences.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lunet.metrics.bootstrap import Clusters

Floats = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (Scand. J. Stat. 6:65, 1979).

    Parameters
    ----------
    p_values
        Shape (n,); NaN marks a test that was not done: it stays NaN and does not count.
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
    alternative: str = "two-sided",
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
        Random sign patterns; all ``2**groups`` are taken if they are not more.
    """
    sums = Clusters.of(differences, groups).sums
    result = stats.permutation_test(
        (sums,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=1000,
        alternative=alternative,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def wilcoxon_test(differences: ArrayLike, groups: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test on the groups' mean differences.

    1 if all of them are 0.
    """
    clusters = Clusters.of(differences, groups)
    means = clusters.sums / clusters.counts
    return float(stats.wilcoxon(means).pvalue) if means.any() else 1.0
