"""Summaries, rank stability and claim sentences."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from simulated_study import simulate

from lunet.errors import DataError
from lunet.statistics.aggregate import summarise
from lunet.statistics.claims import claims
from lunet.statistics.ranking import rank_stability
from lunet.statistics.values import MEAN_LABEL, case_values


def rows_by_hand() -> pd.DataFrame:
    """Two folds of two cases, two seeds, one label; the second seed is 0.1 better."""
    base = {"c1": (0, 0.5), "c2": (0, 0.7), "c3": (1, 0.8), "c4": (1, 0.9)}
    records = [
        ("p", fold, seed, case, "organ", "ok", dice + 0.1 * seed)
        for case, (fold, dice) in base.items()
        for seed in (0, 1)
    ]
    names = ["preset", "fold", "seed", "case", "label", "status", "dice"]
    return pd.DataFrame(records, columns=names)


def test_numbers_by_hand_and_spreads_kept_apart() -> None:
    summary = summarise(rows_by_hand(), "dice").iloc[0]
    values = np.array([0.55, 0.75, 0.85, 0.95])
    assert (summary["n"], summary["n_groups"], summary["n_rows"]) == (4, 4, 8)
    assert summary["mean"] == pytest.approx(values.mean())
    assert summary["sd"] == pytest.approx(values.std(ddof=1))
    assert summary["median"] == pytest.approx(0.8)
    assert summary["iqr"] == pytest.approx(summary["q3"] - summary["q1"])
    assert (summary["q1"], summary["q3"]) == pytest.approx((0.7, 0.875))
    assert summary["sd_seeds"] == pytest.approx(np.std([0.725, 0.825], ddof=1))
    assert summary["sd_folds"] == pytest.approx(np.std([0.65, 0.9], ddof=1))
    assert summary["ci_low"] < summary["mean"] < summary["ci_high"]


def test_one_seed_has_no_spread_between_seeds() -> None:
    rows = rows_by_hand()
    summary = summarise(rows[rows["seed"] == 0], "dice").iloc[0]
    assert math.isnan(summary["sd_seeds"])
    assert summary["n_seeds"] == 1


def test_empty_masks_are_counted_and_only_undefined_ones_left_out() -> None:
    rows = rows_by_hand()
    rows.loc[rows["case"] == "c1", ["status", "dice"]] = ["missed", 0.0]
    rows.loc[rows["case"] == "c2", ["status", "dice"]] = ["both_empty", math.nan]
    rows.loc[rows["case"] == "c3", ["status", "dice"]] = ["spurious", 0.0]
    summary = summarise(rows, "dice").iloc[0]
    assert tuple(summary[["n_missed", "n_spurious", "n_both_empty"]]) == (2, 2, 2)
    assert summary["n"] == 3
    assert summary["mean"] == pytest.approx(0.95 / 3)


def test_a_label_without_any_value_keeps_its_counters() -> None:
    rows = rows_by_hand().assign(status="both_empty", dice=math.nan)
    summary = summarise(rows, "dice").iloc[0]
    assert (summary["n"], summary["n_both_empty"]) == (0, 8)
    assert math.isnan(summary["mean"])


def test_several_labels_get_a_mean_over_labels_per_case() -> None:
    rows = simulate({"b": 0.0, "a": 0.0}, seed=0, labels=("x", "y"), subjects=5)
    summary = summarise(rows, "dice")
    assert list(summary["preset"]) == ["a"] * 3 + ["b"] * 3
    assert list(summary["label"]) == ["x", "y", MEAN_LABEL] * 2
    of_a = summary.iloc[:3]["mean"]
    assert of_a[2] == pytest.approx((of_a[0] + of_a[1]) / 2)
    assert summary.iloc[2]["n_rows"] == 40


def test_summaries_can_keep_folds_or_seeds_apart() -> None:
    summary = summarise(rows_by_hand(), "dice", by=("preset", "label", "fold"))
    assert summary["ci_low"].isna().all()  # two subjects are too few for an interval
    assert list(summary["fold"]) == [0, 1]
    assert list(summary["mean"]) == pytest.approx([0.65, 0.9])
    with pytest.raises(DataError, match="'preset', 'label'"):
        summarise(rows_by_hand(), "dice", by=("label",))


def test_a_case_of_several_folds_is_one_case() -> None:
    """A held-out test set is predicted by the model of each fold."""
    rows = rows_by_hand()
    both = pd.concat([rows, rows.assign(fold=1 - rows["fold"], dice=rows["dice"] - 0.1)])
    values = case_values(both, "dice")
    assert len(values) == 4
    assert list(values["value"]) == pytest.approx([0.5, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="status"), "'status' is missing"),
        (lambda t: t.rename(columns={"dice": "dise"}), "did you mean 'dise'"),
        (lambda t: pd.concat([t, t.iloc[[3]]]), "case c2, label organ appears twice"),
        (lambda t: t.assign(dice=t["dice"].where(t["case"] != "c3")), "dice of case c3"),
        (lambda t: t.assign(status="fine"), "'fine'"),
        (lambda t: t.assign(group=range(len(t))), "belongs to 2 groups"),
    ],
)
def test_rows_that_cannot_be_trusted_are_refused(change: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        summarise(change(rows_by_hand()), "dice")  # type: ignore[operator]


def test_ranks_are_sure_where_the_data_is_and_shared_where_not() -> None:
    effects = {"best": 0.05, "twin a": 0.0, "twin b": 0.0, "worst": -0.05}
    rows = simulate(effects, seed=4)
    table = rank_stability(rows, "dice", resamples=500).set_index("preset")
    assert list(table["rank"]) == [1, 2, 3, 4]
    assert table.loc["best", "share_first"] == 1
    assert (table.loc["worst", "rank_low"], table.loc["worst", "rank_high"]) == (4, 4)
    assert (table.loc["twin a", "rank_low"], table.loc["twin a", "rank_high"]) == (2, 3)
    assert 0.6 < table["kendall_tau"].iloc[0] < 1
    again = rank_stability(rows, "dice", resamples=500).set_index("preset")
    pd.testing.assert_frame_equal(table, again)


def test_ranks_of_distances_and_of_equal_presets() -> None:
    rows = simulate({"near": 0.0, "far": 3.0}, seed=0, metric="hd95", centre=4.0)
    assert list(rank_stability(rows, "hd95", resamples=50)["preset"]) == ["near", "far"]
    once = rows[(rows["preset"] == "near") & (rows["seed"] == 0)]
    same = pd.concat([once.assign(preset=name) for name in "ab"])
    table = rank_stability(same, "hd95", resamples=50)
    assert list(table["rank"]) == [1.5, 1.5]
    assert (table["share_first"] == 1).all()


def test_ranking_needs_the_same_cases() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=0)
    lost = rows[~((rows["preset"] == "a") & (rows["case"] == "s01_1"))]
    with pytest.raises(DataError, match=r"preset a: has no result for the case s01_1"):
        rank_stability(lost, "dice", resamples=10)


def test_each_claim_is_one_sentence_with_its_numbers() -> None:
    effects = {"base": 0.0, "real": 0.03, "same": 0.0, "bad": -0.04}
    rows = simulate(effects, seed=1, subjects=60)
    table = claims(rows, "dice", reference="base", margin=0.01).set_index("preset")
    real, bad = table.loc["real", "sentence"], table.loc["bad", "sentence"]
    assert real.startswith("Dice, organ: real is better than base: mean difference +0.0")
    assert "n = 120 cases of 60 subjects" in real
    assert "95 % CI +0.0" in real
    assert "adjusted p < 0.001" in real
    assert bad.startswith("Dice, organ: bad is worse than base: mean difference -0.0")
    same = table.loc["same", "sentence"]
    assert "same is non-inferior to base by the margin of 0.01 Dice" in same
    for sentence in table["sentence"]:
        assert sentence.endswith(".")
        assert "nan" not in sentence


def test_an_unresolved_claim_says_so() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=3, subjects=8, subject_sd=0.05, metric="hd95")
    table = claims(rows, "hd95", margin=None)
    sentence = table.loc[0, "sentence"]
    assert sentence.startswith("HD95, organ: b against a is not resolved: mean difference ")
    assert " mm (95 % CI" in sentence
    assert "non-inferiority" not in sentence


def test_a_claim_without_any_value_is_not_resolved() -> None:
    rows = simulate({"a": 0.0, "b": 0.0}, seed=0, subjects=3)
    table = claims(rows.assign(dice=math.nan, status="both_empty"), "dice", margin=0.01)
    assert list(table["verdict"]) == ["not resolved"]
    assert table.loc[0, "sentence"].endswith("not resolved: no case has a value.")
