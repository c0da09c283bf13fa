"""Trainings as a source of chance: components by hand, level and coverage, scope of sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_study import trained_study

from lunet.errors import DataError
from lunet.statistics.claims import ONE_TRAINING, claims
from lunet.statistics.components import UNTRAINED, mean_error, satterthwaite, trainings
from lunet.statistics.paired import compare_presets
from lunet.statistics.significance import holm

QUICK = {"resamples": 99, "permutations": 199}


def one_preset(values: dict[tuple[int, int], list[float]]) -> pd.DataFrame:
    """Rows of (fold, seed) -> values of the fold's cases."""
    rows = [
        {"fold": fold, "seed": seed, "case": f"c{fold}{place}", "value": value}
        for (fold, seed), listed in values.items()
        for place, value in enumerate(listed)
    ]
    return pd.DataFrame(rows)


def test_components_by_hand() -> None:
    runs = one_preset(
        {(0, 0): [0.5, 0.7], (0, 1): [0.6, 0.8], (1, 0): [0.9, 0.9], (1, 1): [0.7, 0.9]}
    )
    found = trainings(runs)
    assert found.freedom == 2
    # means 0.6 and 0.7, 0.9 and 0.8: each pair has a variance of 0.005
    assert found.mean_square == pytest.approx(0.005)
    assert found.share == pytest.approx(1 / 4)
    assert found.rest == pytest.approx(0.01 / 2)
    differences, groups = np.array([0.1, 0.2, 0.3, 0.4]), list("abcd")
    error = mean_error(differences, groups, [found, found])
    of_subjects = differences.var(ddof=1) / 4
    of_trainings = 2 * 0.005 / 4
    assert error.error**2 == pytest.approx(of_subjects + of_trainings)
    degrees = error.error**4 / (of_subjects**2 / 3 + of_trainings**2 / 4)
    assert error.freedom == pytest.approx(degrees)


def test_without_trainings_it_is_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.2, 1, 12)
    error = mean_error(values, np.arange(12), [UNTRAINED, UNTRAINED])
    assert error.p_two_sided(values.mean()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    same = mean_error(np.full(5, 0.2), np.arange(5), [UNTRAINED])
    assert (same.p_two_sided(0.2), same.p_two_sided(0.0)) == (0, 1)
    assert math.isnan(mean_error([0.1], ["a"], [UNTRAINED]).p_two_sided(0.1))


def test_a_fixed_test_set_shares_its_trainings() -> None:
    """Each fold's networks predict all cases: the weight of one is 1 / (folds x seeds)."""
    cases = [0.5, 0.6, 0.7]
    runs = one_preset({(0, seed): cases for seed in (0, 1)})
    other = runs.assign(fold=1)
    assert trainings(pd.concat([runs, other], ignore_index=True)).share == pytest.approx(1 / 4)


def vectorised(
    rng: np.random.Generator, runs: int, seeds: int = 3, sd: float = 0.01
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences from the first of three equal presets (runs, 2), their errors and freedoms.

    40 subjects in 5 folds, as :func:`simulated_study.trained_study` draws them.
    """
    subjects, folds, shape = 40, 5, (runs, 3, 40, seeds)
    value = rng.normal(0, 0.01, (runs, 3, subjects, 1)) + rng.normal(0, 0.005, shape)
    value = value.reshape(runs, 3, folds, subjects // folds, seeds)
    value += rng.normal(0, sd, (runs, 3, folds, 1, seeds))
    square = value.mean(axis=3).var(axis=3, ddof=1).mean(axis=2)
    per_case = value.mean(axis=4).reshape(runs, 3, subjects)
    apart = per_case[:, 1:] - per_case[:, :1]
    of_subjects = apart.var(axis=2, ddof=1) / subjects
    of_trainings = (square[:, 1:] + square[:, :1]) / (folds * seeds)
    freedom = 2 * folds * (seeds - 1)
    variance, degrees = satterthwaite(of_subjects, subjects - 1, of_trainings, freedom)
    return apart.mean(axis=2), np.sqrt(variance), degrees


def test_equal_presets_keep_the_level_and_the_interval_its_coverage() -> None:
    mean, error, freedom = vectorised(np.random.default_rng(7), 600)
    p = 2 * stats.t.sf(np.abs(mean) / error, freedom)
    wrong = np.mean([(holm(row) <= 0.05).any() for row in p])
    covered = np.mean(np.abs(mean) <= stats.t.ppf(0.975, freedom) * error)
    assert wrong <= 0.07
    assert 0.92 <= covered <= 0.98


def test_the_comparison_uses_the_error_that_was_simulated() -> None:
    rows = trained_study(np.random.default_rng(3), {"base": 0.0, "one": 0.0})
    row = compare_presets(rows, "dice", reference="base", margin=None, **QUICK).loc[0]
    cases = rows.groupby(["preset", "case"])["dice"].mean().unstack("preset")
    means = rows.groupby(["preset", "fold", "seed"])["dice"].mean()
    square = means.groupby(level=["preset", "fold"]).var().groupby(level="preset").mean()
    variance, freedom = satterthwaite(
        (cases["one"] - cases["base"]).var() / 40, 39, square.sum() / 15, 20
    )
    assert row["freedom"] == pytest.approx(freedom)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (row["ci_high"] - row["ci_low"]) / 2 == pytest.approx(half)


def test_a_clear_effect_is_still_found() -> None:
    rows = trained_study(np.random.default_rng(0), {"base": 0.0, "new": 0.04})
    row = compare_presets(rows, "dice", reference="base", margin=0.01, **QUICK).loc[0]
    assert (row["verdict"], row["n_seeds"]) == ("better", 3)
    assert 0.005 < row["sd_trainings"] < 0.02
    assert 0 < row["sd_rest"] < 0.01
    assert ONE_TRAINING not in claims(rows, "dice", margin=None, **QUICK).loc[0, "sentence"]


def test_one_seed_speaks_of_these_trained_networks() -> None:
    rows = trained_study(np.random.default_rng(0), {"base": 0.0, "new": 0.04}, seeds=1)
    table = claims(rows, "dice", reference="base", margin=0.01, **QUICK)
    assert table.loc[0, "sentence"].endswith(ONE_TRAINING)
    assert table.loc[0, "p_difference"] == table.loc[0, "p_permutation"]


def test_unequal_seeds_are_refused_except_where_nothing_is_trained() -> None:
    rows = trained_study(np.random.default_rng(0), {"prior": 0.0, "new": 0.04})
    lucky = rows[(rows["preset"] == "new") | (rows["seed"] == 0)]
    with pytest.raises(DataError, match="equal numbers of seeds"):
        compare_presets(lucky, "dice", margin=None, **QUICK)
    table = compare_presets(lucky, "dice", margin=None, untrained=("prior",), **QUICK)
    assert table.loc[0, "n_seeds"] == 3
