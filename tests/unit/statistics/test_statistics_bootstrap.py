"""Confidence intervals: coverage in a simulation, clusters, SciPy as the twin, degenerate data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lunet.statistics.bootstrap import effect_interval, effect_size, expanded_level, mean_interval


def clustered(rng: np.random.Generator, subjects: int, *, skewed: bool) -> np.ndarray:
    """Two correlated cases per subject (correlation 0.8) around 0, shape (subjects, 2)."""
    if skewed:  # like Dice: a long tail of bad cases
        shared = 1 - rng.exponential(1.0, (subjects, 1))
    else:
        shared = rng.normal(0, 1.0, (subjects, 1))
    return shared + rng.normal(0, 0.5, (subjects, 2))


def coverage(subjects: int, *, skewed: bool, by_subject: bool, runs: int = 500) -> float:
    rng = np.random.default_rng(2024)
    hits = 0
    for run in range(runs):
        values = clustered(rng, subjects, skewed=skewed).reshape(-1)
        groups = np.repeat(np.arange(subjects), 2) if by_subject else np.arange(values.size)
        interval = mean_interval(values, groups, resamples=799, seed=run)
        hits += interval.low <= 0 <= interval.high
    return hits / runs


@pytest.mark.parametrize(("subjects", "skewed"), [(12, False), (30, False), (30, True), (60, True)])
def test_interval_of_the_mean_covers_with_correlated_cases(subjects: int, skewed: bool) -> None:
    assert 0.92 <= coverage(subjects, skewed=skewed, by_subject=True) <= 0.98


def test_cases_taken_as_independent_would_not_cover() -> None:
    assert coverage(30, skewed=False, by_subject=False, runs=300) < 0.90


def test_equals_scipy_where_no_cases_are_clustered() -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.0, 40)
    twin = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        method="BCa",
        confidence_level=expanded_level(0.9, 40),
        rng=np.random.default_rng(5),
    ).confidence_interval
    ours = mean_interval(values, np.arange(40), confidence=0.9, resamples=20_000, seed=6)
    width = twin.high - twin.low
    assert ours.low == pytest.approx(twin.low, abs=0.03 * width)
    assert ours.high == pytest.approx(twin.high, abs=0.03 * width)


def test_expanded_level_gives_the_t_interval_for_normal_data() -> None:
    values = np.random.default_rng(3).normal(10, 2, 8)
    t = stats.t.interval(0.95, 7, loc=values.mean(), scale=stats.sem(values))
    shrunk = values.std() / math.sqrt(8)  # what a bootstrap takes for the standard error
    z = stats.norm.interval(expanded_level(0.95, 8), loc=values.mean(), scale=shrunk)
    assert z == pytest.approx(t)


def test_the_seed_fixes_the_interval_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(size=30), np.repeat(np.arange(15), 2)
    order = rng.permutation(30)
    first = mean_interval(values, groups, seed=4)
    assert first == mean_interval(values, groups, seed=4)
    again = mean_interval(values[order], groups[order], seed=4)
    assert (again.low, again.high) == pytest.approx((first.low, first.high))
    assert first != mean_interval(values, groups, seed=5)


def test_degenerate_data_gives_no_invented_width() -> None:
    for groups in ("aaaa", "aabb"):
        too_few = mean_interval([1.0, 2.0, 3.0, 5.0], list(groups))
        assert math.isnan(too_few.low)
        assert math.isnan(too_few.high)
    constant = mean_interval([0.5] * 6, list("aabbcc"))
    assert (constant.low, constant.high) == (0.5, 0.5)


def test_effect_size_and_its_interval() -> None:
    values = np.random.default_rng(7).normal(1.0, 2.0, 200)
    assert effect_size(values) == pytest.approx(values.mean() / values.std(ddof=1))
    interval = effect_interval(values, np.arange(200))
    assert interval.low < 0.5 < interval.high
    assert interval.low < effect_size(values) < interval.high
    assert effect_size(np.zeros(5)) == 0
    assert effect_size(np.full(5, -0.1)) == -math.inf
