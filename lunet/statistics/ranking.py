"""How stable a ranking of presets is when the subjects, and the trainings, are drawn again.

Source of the idea: challengeR (Wiesenfarth et al., Sci. Rep. 11:2369, 2021).
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

    A sample draws subjects; where every fold of each preset has two seeds or more it draws
    trainings, too: each preset's mean is moved by its own chance of training, of the t distribution
    that the variance between seeds has (pooled over the presets, as its degrees of freedom are
    few). With one seed the ranks are those of the trained networks.

    Parameters
    ----------
    rows
        Per-case rows, see :mod:`lunet.statistics.values`; all presets need the same cases.
    metric
        Column to rank by; of signed volume errors the magnitude is taken.
    confidence, resamples, seed
        Level of the rank intervals together, bootstrap resamples, seed.
    untrained
        Presets that no training made.

    Returns
    -------
    Per label a row per preset, best first, with ``RANK_COLUMNS``. ``rank`` is 1 for the best
    (ties share the mean rank); ``rank_low`` to ``rank_high`` are intervals that hold together
    (Bonferroni's level for each), as p values are adjusted together; ``share_first`` and
    ``share_same_rank`` are the shares of samples in which the preset is first (a shared first place
    counts) and keeps its rank; ``kendall_tau`` is the mean tau-b between the ranking and those of
    the samples, one number per label. Cases without a value for some preset are left out for all.

    Raises
    ------
    DataError
        If a case stands on one side only (it is named) or the metric has no better side.
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
    """Standard errors of the presets' means (sorted by name) by their trainings, and freedom.

    Zero, and no freedom, where some fold of some preset was trained with one seed.
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
    """Means ``(resamples, presets)`` over cases of the groups drawn, the same for all presets."""
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
