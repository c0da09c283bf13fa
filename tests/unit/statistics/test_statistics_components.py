"""Trainings as a source of chance: components by hand, level and coverage, scope of sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from claim_simulation import Design, draw, judge, outcome, rows_of
from scipy import stats
from simulated_study import trained_study

from lunet.errors import DataError
from lunet.statistics.claims import ONE_TRAINING, claims
from lunet.statistics.components import (
    UNTRAINED,
    MeanError,
    mean_error,
    trainings,
    upper_point,
    upper_tail,
)
from lunet.statistics.paired import compare_presets

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
    assert error.share == pytest.approx(of_trainings / (of_subjects + of_trainings))
    assert (error.freedom, error.freedom_trainings) == (3, 4)
    # the two t points, weighted by the shares of the two variances
    point = (1 - error.share) * stats.t.isf(0.025, 3) + error.share * stats.t.isf(0.025, 4)
    interval = error.interval(0.25, 0.95)
    assert (interval.high - interval.low) / 2 == pytest.approx(point * error.error)
    assert error.p_two_sided(point * error.error) == pytest.approx(0.05)
    assert error.p_greater(-point * error.error) == pytest.approx(0.975)


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


def test_tails_invert_points_and_end_in_the_two_t_distributions() -> None:
    p = np.array([0.4, 0.05, 0.025, 1e-4, 1e-30])
    for share in (0.0, 0.2, 0.9, 1.0):
        assert upper_tail(upper_point(p, share, 11, 2), share, 11, 2) == pytest.approx(p, rel=1e-6)
    assert upper_tail(2.5, 0.0, 11, 2) == pytest.approx(stats.t.sf(2.5, 11))
    assert upper_tail(2.5, 1.0, 11, 2) == pytest.approx(stats.t.sf(2.5, 2))
    assert upper_tail(-2.5, 0.3, 11, 2) == pytest.approx(1 - upper_tail(2.5, 0.3, 11, 2))
    assert upper_tail(2.5, 0.0, 11, 0) == pytest.approx(stats.t.sf(2.5, 11))
    assert upper_tail(1e300, 0.0, 40, 2) < 1e-80


@pytest.mark.parametrize(
    "design",
    [
        Design(12, 1, 3, 0.01),
        Design(40, 1, 2, 0.02),
        Design(40, 1, 3, 0.02, tails="exponential"),
        Design(20, 5, 3, 0.005, tails="t3"),
        Design(60, 5, 5, 0.01, failures=0.03),
        Design(40, 5, 3, 0.0),
        Design(40, 5, 3, 0.01, effects=(0.0, 0.02, -0.003, -0.02)),
        Design(40, 5, 3, 0.005, effects=(0.0, -0.01, -0.01, -0.01)),
    ],
)
def test_families_keep_their_level_and_intervals_their_coverage(design: Design) -> None:
    """Null, planted effects, loss of the margin; the grid is in ``tests/benchmarks/claims.py``."""
    found = outcome(np.random.default_rng(7), design, 1000)
    assert found["false"] <= 0.06
    assert 0.935 <= found["coverage"] <= 0.985


def test_equivalent_degrees_have_the_same_point() -> None:
    for share in (0.0, 0.3, 0.7, 1.0):
        error = MeanError(0.01, share, 39, 4)
        assert stats.t.isf(0.025, error.degrees) == pytest.approx(upper_point(0.025, share, 39, 4))
    assert MeanError(0.01, 0.0, 11, 0).degrees == pytest.approx(11)
    assert MeanError(0.01, 0.5, 4, 20).degrees == pytest.approx(MeanError(0.01, 0.5, 20, 4).degrees)
    assert math.isnan(MeanError(math.nan, math.nan, 0, 0).degrees)


def test_without_trainings_in_the_error_the_level_is_lost() -> None:
    """The test of the tests: what sign flips of subjects alone would claim."""
    found = outcome(np.random.default_rng(7), Design(40, 1, 3, 0.01), 500)
    assert found["subjects_alone"] > 0.3


@pytest.mark.parametrize("design", [Design(12, 1, 2, 0.01), Design(13, 5, 3, 0.01)])
def test_the_comparison_is_what_is_simulated(design: Design) -> None:
    values = draw(np.random.default_rng(3), design, 1)
    rows = rows_of(values[0], design, "abcd")
    table = compare_presets(rows, "dice", reference="a", margin=0.01, **QUICK)
    found = judge(values, design)
    assert table["preset"].tolist() == ["b", "c", "d"]
    for column, expected in (
        ("difference", found.difference),
        ("p_difference_holm", found.p_difference),
        ("p_noninferior_holm", found.p_noninferior),
        ("ci_low", found.low),
        ("ci_high", found.high),
    ):
        assert table[column].tolist() == pytest.approx(expected[0].tolist(), rel=1e-6), column


def test_with_one_seed_the_comparison_is_what_is_simulated() -> None:
    design = Design(9, 1, 1, 0.01)
    values = draw(np.random.default_rng(3), design, 1)
    table = compare_presets(
        rows_of(values[0], design, "abcd"), "dice", reference="a", margin=0.01, resamples=99
    )
    found = judge(values, design)
    assert table["p_difference_holm"].tolist() == pytest.approx(found.p_difference[0].tolist())
    assert table["p_noninferior_holm"].tolist() == pytest.approx(found.p_noninferior[0].tolist())


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
