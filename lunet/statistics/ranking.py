"""How stable a ranking of presets is when subjects and trainings are resampled.

The idea is from challengeR (Wiesenfarth et al., Sci. Rep. 11:2369, 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from lunet.metrics.catalog import direction
from lunet.statistics.components import pool, trainings
from lunet.statistics.paired import magnitudes, paired_values
from lunet.statistics.values import case_values, run_values

Floats = NDArray[np.float64]

RANK_COLUMNS = (
    "metric",
    "label",
    "preset",
    "n",
    "n_groups",
    "mean",
    "rank",
    "rank_low",
    "rank_high",
    "share_first",
    "share_same_rank",
    "kendall_tau",
)


def rank_stability(
    rows: pd.DataFrame,
    metric: str,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    untrained: Sequence[str] = (),
) -> pd.DataFrame:
    """Rank presets by their mean over cases, and again in each bootstrap sample.

    A sample draws subjects. If every fold of each preset has two seeds or more, it also draws
    trainings: each preset's mean is shifted by a random number from the t distribution of the
    variance between seeds, which is pooled over the presets because a single preset has few degrees
    of freedom. With one seed the ranks are about the trained networks.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`; all presets need the same cases.
    metric
        Column to rank by; signed volume errors are ranked by their absolute value.
    confidence, resamples, seed
        Level of all rank intervals together, number of bootstrap resamples, seed of the generator.
    untrained
        Presets without any training.

    Returns
    -------
    For each label a row per preset, best first, with ``RANK_COLUMNS``. ``rank`` is 1 for the best
    preset (ties share the mean rank). ``rank_low`` to ``rank_high`` are simultaneous intervals with
    Bonferroni's correction. ``share_first`` and ``share_same_rank`` are the shares of samples in
    which the preset is first (possibly tied) or keeps its rank. ``kendall_tau`` is the mean tau-b
    between the ranking and the rankings of the samples, one number per label. A case that lacks a
    value for at least one preset is left out for all.

    Raises
    ------
    DataError
        If a case is on one side only (the message names it) or the metric has no direction.
    """
    sign = direction(metric)
    values = case_values(magnitudes(rows, metric), metric)
    runs = run_values(magnitudes(rows, metric), metric)
    runs = runs[~runs["preset"].isin(untrained)]
    rng = np.random.default_rng(seed)
    parts = []
    for label in values["label"].unique():
        part = values[values["label"] == label]
        errors = _errors_of_trainings(runs[runs["label"] == label], part)
        ranked = _rank_label(part, sign, confidence, resamples, rng, errors)
        parts.append(ranked.assign(metric=metric, label=label))
    return pd.concat(parts, ignore_index=True)[list(RANK_COLUMNS)]


def _errors_of_trainings(runs: pd.DataFrame, values: pd.DataFrame) -> tuple[Floats, int]:
    """Standard errors of the presets' means (sorted by name) from trainings; degrees of freedom.

    All are zero if any fold of any preset was trained with only one seed.
    """
    presets = sorted(values["preset"].unique())
    if runs.groupby(["preset", "fold"])["seed"].nunique().min() < 2:
        return np.zeros(len(presets)), 0
    known = runs.dropna(subset=["value"])
    sides = {str(name): trainings(part) for name, part in known.groupby("preset")}
    freedom, pooled = pool(sides.values())
    shares = [sides[name].share if name in sides else 0.0 for name in presets]
    return np.sqrt(pooled * np.array(shares)), freedom


def _rank_label(
    part: pd.DataFrame,
    sign: int,
    confidence: float,
    resamples: int,
    rng: np.random.Generator,
    errors: tuple[Floats, int],
) -> pd.DataFrame:
    presets = sorted(part["preset"].unique())
    for preset in presets[1:]:
        paired_values(part, preset, presets[0])
    table = part.pivot(index=["case", "group"], columns="preset", values="value").dropna()
    groups = table.index.get_level_values("group").to_numpy()
    scores = table.to_numpy()
    means = scores.mean(axis=0)
    ranks = stats.rankdata(-sign * means)
    sampled = _resampled_means(scores, groups, resamples, rng)
    error, freedom = errors
    if freedom:
        sampled = sampled + error * rng.standard_t(freedom, sampled.shape)
    drawn = stats.rankdata(-sign * sampled, axis=1)
    tail = (1 - confidence) / 2 / len(presets)
    low, high = np.quantile(drawn, (tail, 1 - tail), axis=0, method="inverted_cdf")
    frame = pd.DataFrame(
        {
            "preset": presets,
            "n": len(table),
            "n_groups": len(np.unique(groups)),
            "mean": means,
            "rank": ranks,
            "rank_low": low,
            "rank_high": high,
            "share_first": (drawn == drawn.min(axis=1, keepdims=True)).mean(axis=0),
            "share_same_rank": (drawn == ranks).mean(axis=0),
            "kendall_tau": _mean_tau(ranks, drawn),
        }
    )
    return frame.sort_values(["rank", "preset"])


def _resampled_means(
    scores: Floats, groups: NDArray[Any], resamples: int, rng: np.random.Generator
) -> Floats:
    """Means ``(resamples, presets)`` over the cases of drawn groups, the same for all presets."""
    names, index = np.unique(groups.astype(str), return_inverse=True)
    share = np.full(names.size, 1 / names.size)
    weights = rng.multinomial(names.size, share, size=resamples)[:, index].astype(np.float64)
    return np.asarray(weights @ scores / weights.sum(axis=1, keepdims=True))


def _mean_tau(ranks: Floats, drawn: Floats) -> float:
    """Mean Kendall tau-b between one ranking and many; NaN for a single preset."""
    one, two = np.triu_indices(ranks.size, k=1)
    if not one.size:
        return float("nan")
    base = np.sign(ranks[one] - ranks[two])
    order = np.sign(drawn[:, one] - drawn[:, two])
    norm = np.sqrt(np.abs(base).sum() * np.abs(order).sum(axis=1))
    tau = np.divide(order @ base, norm, out=np.zeros(len(drawn)), where=norm > 0)
    return float(tau.mean())
