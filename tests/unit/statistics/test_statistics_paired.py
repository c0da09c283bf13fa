"""Paired comparison: false claims under the null, planted effects, Holm, pairing, direction."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_study import simulate

from lunet.errors import ConfigError, DataError
from lunet.statistics.paired import compare_presets
from lunet.statistics.significance import holm, sign_flip_test, wilcoxon_test
from lunet.statistics.values import MEAN_LABEL

QUICK = {"resamples": 99, "permutations": 999}


def share_of_claims(effect: float, verdicts: set[str], *, runs: int = 300) -> float:
    """Share of simulated two-preset studies with any such verdict."""
    hits = 0
    for run in range(runs):
        rows = simulate({"base": 0.0, "new": effect}, seed=run, subjects=15)
        table = compare_presets(rows, "dice", reference="base", margin=0.01, seed=run, **QUICK)
        hits += bool(verdicts & set(table["verdict"]))
    return hits / runs


def most(rate: float, runs: int) -> float:
    """Largest share of claims that a true rate of ``rate`` gives with 99.9 % probability."""
    return float(stats.binom.ppf(0.999, runs, rate)) / runs


@pytest.mark.slow
def test_null_data_give_at_most_5_percent_false_claims() -> None:
    assert share_of_claims(0.0, {"better", "worse"}) <= most(0.05, 300)


@pytest.mark.slow
def test_family_of_presets_and_labels_keeps_the_level() -> None:
    names = dict.fromkeys(("a", "b", "c"), 0.0)
    hits = 0
    for run in range(60):
        rows = simulate(names, seed=1000 + run, subjects=12, seeds=1, labels=("x", "y"))
        table = compare_presets(rows, "dice", margin=None, seed=run, **QUICK)
        assert len(table) == 9
        hits += bool({"better", "worse"} & set(table["verdict"]))
    assert hits / 60 <= most(0.05, 60)


@pytest.mark.slow
def test_a_loss_of_the_margin_is_rarely_called_non_inferior() -> None:
    assert share_of_claims(-0.01, {"non-inferior", "better"}) <= most(0.025, 300)


@pytest.mark.parametrize("seed", range(5))
def test_planted_effects_are_labelled_rightly(seed: int) -> None:
    planted = {"base": 0.0, "real": 0.02, "null": 0.0, "slightly less": -0.003, "bad": -0.04}
    rows = simulate(planted, seed=seed, subjects=60, subject_sd=0.008)
    table = compare_presets(rows, "dice", reference="base", margin=0.01).set_index("preset")
    verdicts = table["verdict"].to_dict()
    assert verdicts["real"] == "better"
    assert verdicts["slightly less"] == "non-inferior"
    assert verdicts["bad"] == "worse"
    assert verdicts["null"] == "non-inferior"
    assert table.loc["real", "ci_low"] > 0 > table.loc["bad", "ci_high"]


def test_a_null_in_few_noisy_cases_is_not_resolved() -> None:
    rows = simulate({"base": 0.0, "null": 0.0}, seed=3, subjects=8, subject_sd=0.05)
    table = compare_presets(rows, "dice", reference="base", margin=0.01)
    assert list(table["verdict"]) == ["not resolved"]


def test_lower_is_better_for_distances() -> None:
    rows = simulate({"base": 0.0, "near": -1.0, "far": 2.0}, seed=0, metric="hd95", centre=5.0)
    table = compare_presets(rows, "hd95", reference="base", margin=0.5).set_index("preset")
    assert table.loc["near", "verdict"] == "better"
    assert table.loc["near", "difference"] < 0
    assert table.loc["near", "direction"] == -1
    assert table.loc["far", "verdict"] == "worse"


def test_errors_around_zero_are_compared_by_magnitude() -> None:
    rows = simulate({"base": 0.0, "under": -1.0}, seed=0, metric="volume_error_ml", centre=0.0)
    table = compare_presets(rows, "volume_error_ml", reference="base", margin=None)
    assert list(table["verdict"]) == ["worse"]
    assert table.loc[0, "mean"] == pytest.approx(1.0, abs=0.05)


def test_without_a_reference_every_pair_is_compared() -> None:
    rows = simulate({"a": 0.0, "b": 0.0, "c": 0.0}, seed=0, labels=("x", "y"))
    table = compare_presets(rows, "dice", margin=None, **QUICK)
    pairs = {tuple(pair) for pair in table[["preset", "reference"]].to_numpy()}
    assert pairs == {("b", "a"), ("c", "a"), ("c", "b")}
    assert set(table["label"]) == {"x", "y", MEAN_LABEL}
    assert table["p_noninferior"].isna().all()


def test_pairing_is_by_case_after_the_mean_over_seeds() -> None:
    rows = simulate({"a": 0.0, "b": 0.01}, seed=0, subjects=6)
    shuffled = rows.sample(frac=1, random_state=1)
    of_b = rows[rows["preset"] == "b"]
    extra = of_b.assign(seed=of_b["seed"] + 7, dice=of_b["dice"] + 0.2)
    base = compare_presets(rows, "dice", margin=None, **QUICK)
    pd.testing.assert_frame_equal(compare_presets(shuffled, "dice", margin=None, **QUICK), base)
    of_a = rows[rows["preset"] == "a"]
    both = pd.concat([rows, extra, of_a.assign(seed=of_a["seed"] + 7)])
    more = compare_presets(both, "dice", margin=None, **QUICK)
    assert (more.loc[0, "n"], more.loc[0, "n_seeds"]) == (12, 4)
    assert more.loc[0, "difference"] == pytest.approx(base.loc[0, "difference"] + 0.1, abs=1e-9)
    with pytest.raises(DataError, match="4 seeds in 5 folds of b against 2 seeds in 5 folds of a"):
        compare_presets(pd.concat([rows, extra]), "dice", margin=None, **QUICK)


def test_a_case_on_one_side_only_is_named() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=0)
    lost = rows[~((rows["preset"] == "b") & (rows["case"] == "s07_1"))]
    with pytest.raises(DataError, match=r"preset b: has no result for the case s07_1"):
        compare_presets(lost, "dice", margin=None)
    swapped = lost.replace({"preset": {"a": "b", "b": "a"}})
    with pytest.raises(DataError, match=r"preset a: has no result for the case s07_1"):
        compare_presets(swapped, "dice", margin=None)


def test_cases_without_a_value_are_left_out_and_counted() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=0, seeds=1)
    empty = rows["case"] == "s03_0"
    rows.loc[empty, ["dice", "status"]] = [math.nan, "both_empty"]
    table = compare_presets(rows, "dice", margin=None, **QUICK)
    assert (table.loc[0, "n"], table.loc[0, "n_undefined"]) == (49, 1)


def test_an_invented_lesion_counts_against_its_inventor() -> None:
    """Of 20 cases 10 have no lesion: B invents one in each, A in none; else B is a bit better."""
    rng = np.random.default_rng(0)
    rows = []
    for place in range(20):
        value, case = 0.8 + rng.normal(0, 0.03), {"case": f"c{place:02d}", "label": "tumour"}
        run = case | {"fold": 0, "seed": 0}
        lesion = place < 10
        of_a = ("ok", value) if lesion else ("both_empty", math.nan)
        of_b = ("ok", value + 0.02) if lesion else ("spurious", 0.0)
        for preset, (status, dice) in (("A", of_a), ("B", of_b)):
            rows.append(run | {"preset": preset, "status": status, "dice": dice})
    row = compare_presets(pd.DataFrame(rows), "dice", reference="B", margin=0.01, **QUICK).loc[0]
    assert (row["preset"], row["verdict"], row["n"]) == ("A", "better", 20)
    assert row["mean"] > 0.85
    back = compare_presets(pd.DataFrame(rows), "dice", reference="A", margin=0.01, **QUICK)
    assert list(back["verdict"]) == ["worse"]


def test_holm_by_hand_and_beside_tests_not_done() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([math.nan, 0.02, 0.6])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.6])
    assert holm([0.5, 0.9, 0.8]).max() <= 1


def test_sign_flips_are_exact_for_few_groups() -> None:
    # 5 groups, all positive: of 32 patterns only the observed one and its mirror are as extreme.
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert sign_flip_test(values, list("abcde")) == pytest.approx(2 / 32)
    assert sign_flip_test(values, list("abcde"), alternative="greater") == pytest.approx(1 / 32)
    # The same cases in two groups can flip in four ways alone.
    assert sign_flip_test(values, list("aabbb")) == pytest.approx(2 / 4)
    assert sign_flip_test(np.zeros(4), list("abcd")) == 1


@pytest.mark.parametrize(("groups", "tolerance"), [(8, 1e-12), (40, 0.006)])
def test_sign_flips_agree_with_scipy(groups: int, tolerance: float) -> None:
    """Exactly where all patterns are taken, else within the noise of 40,000 random ones."""
    values = np.random.default_rng(groups).normal(0.3, 1.0, groups)
    for alternative in ("two-sided", "greater"):
        twin = stats.permutation_test(
            (values,),
            np.sum,
            permutation_type="samples",
            vectorized=True,
            n_resamples=40_000,
            batch=2000,
            alternative=alternative,
            rng=np.random.default_rng(1),
        ).pvalue
        ours = sign_flip_test(
            values, np.arange(groups), alternative=alternative, permutations=40_000
        )
        assert ours == pytest.approx(twin, abs=tolerance)


def test_wilcoxon_is_scipys_on_subject_means() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.normal(0.3, 1, 40), np.repeat(np.arange(20), 2)
    means = values.reshape(20, 2).mean(axis=1)
    assert wilcoxon_test(values, groups) == pytest.approx(stats.wilcoxon(means).pvalue)
    assert wilcoxon_test(np.zeros(6), np.arange(6)) == 1


def test_a_large_family_can_still_find_a_clear_effect() -> None:
    names = {f"p{number:02d}": 0.02 * number for number in range(12)}
    rows = simulate(names, seed=0, subjects=30, cases_per_subject=1, seeds=1)
    table = compare_presets(rows, "dice", margin=None, resamples=99, permutations=99)
    assert len(table) == 66
    assert (table["verdict"] == "better").all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"margin": -1.0}, "0 or more"),
        ({"margin": math.nan}, "0 or more"),
        ({"margin": None, "reference": "bse"}, "did you mean 'base'"),
    ],
)
def test_wrong_options_are_refused(options: dict, words: str) -> None:
    rows = simulate({"base": 0.0, "new": 0.0}, seed=0, subjects=4)
    with pytest.raises(DataError, match=words):
        compare_presets(rows, "dice", **options)


def test_a_metric_without_a_better_side_is_refused() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=0, subjects=4, metric="volume_ml")
    with pytest.raises(ConfigError, match="better side"):
        compare_presets(rows, "volume_ml", margin=None)


def test_only_the_named_pairs_are_compared():
    rows = simulate({"a": 0.0, "b": 0.01, "c": -0.1}, seed=0, subjects=8)
    table = compare_presets(rows, "dice", pairs=[("c", "a")], margin=None, resamples=100)
    assert set(zip(table["preset"], table["reference"], strict=True)) == {("c", "a")}
    with pytest.raises(DataError, match="'d'"):
        compare_presets(rows, "dice", pairs=[("d", "a")], margin=None)
