"""Misses, inventions and failures as rates; what limits a verdict; ranks with trainings."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_study import simulate, trained_study

from lunet.statistics.aggregate import summarise
from lunet.statistics.claims import claims
from lunet.statistics.detection import detection, rate_interval
from lunet.statistics.limits import limits
from lunet.statistics.paired import compare_presets
from lunet.statistics.ranking import rank_stability
from lunet.statistics.values import MEAN_LABEL

QUICK = {"resamples": 99, "permutations": 199}


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 40), (20, 20), (1, 1), (7, 200)])
def test_rates_have_scipys_exact_interval(hits: int, trials: int) -> None:
    ours = rate_interval(hits / trials, trials)
    twin = stats.binomtest(hits, trials).proportion_ci(method="exact")
    assert (ours.low, ours.high) == pytest.approx((twin.low, twin.high))
    assert math.isnan(rate_interval(0.5, 0).low)


def test_intervals_of_failures_cover_where_those_of_means_do_not() -> None:
    """3 % failures, two correlated cases of each subject and two trainings of each case."""
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        subject = rng.random((40, 1, 1)) < 0.02
        fails = np.where(rng.random((40, 2, 1)) < 0.5, subject, rng.random((40, 2, 2)) < 0.03)
        share = 0.5 * 0.02 + 0.5 * 0.03
        interval = rate_interval(float(fails.mean()), 40)
        covered.append(interval.low <= share <= interval.high)
    assert np.mean(covered) >= 0.95


def rows_with_empty_references() -> pd.DataFrame:
    """20 cases, 10 of them without a lesion: B invents one in each of those and misses one."""
    rows = []
    for place in range(20):
        case = {"case": f"c{place:02d}", "label": "tumour", "fold": 0, "seed": 0}
        lesion = place < 10
        of_a = ("ok", 0.8) if lesion else ("both_empty", math.nan)
        of_b = ("missed" if place == 3 else "ok", 0.0 if place == 3 else 0.82)
        of_b = of_b if lesion else ("spurious", 0.0)
        for preset, (status, dice) in (("A", of_a), ("B", of_b)):
            rows.append(case | {"preset": preset, "status": status, "dice": dice})
    return pd.DataFrame(rows)


def test_rates_by_hand() -> None:
    table = detection(rows_with_empty_references()).set_index("preset")
    assert table.loc["B", ["missed", "spurious", "failed"]].tolist() == [0.1, 1.0, 0.55]
    assert table.loc["A", ["missed", "spurious", "failed"]].tolist() == [0.0, 0.0, 0.0]
    assert table.loc["B", ["missed_n", "spurious_n", "failed_n"]].tolist() == [10, 10, 20]
    assert table.loc["A", "spurious_high"] == pytest.approx(0.3085, abs=1e-4)


def test_several_labels_have_a_row_of_them_all_and_trainings_are_averaged() -> None:
    rows = simulate({"a": 0.0}, seed=0, labels=("x", "y"), seeds=2, subjects=5)
    rows.loc[(rows["label"] == "x") & (rows["seed"] == 0), ["status", "dice"]] = ["missed", 0.0]
    table = detection(rows).set_index("label")
    assert table["missed"].to_dict() == {MEAN_LABEL: 0.25, "x": 0.5, "y": 0.0}
    assert table["missed_groups"].tolist() == [5, 5, 5]


def test_sentences_say_where_sides_detect_differently() -> None:
    rows = rows_with_empty_references()
    sentence = claims(rows, "dice", reference="A", margin=0.01, **QUICK).loc[0, "sentence"]
    assert "B is worse than A" in sentence
    assert "B misses 10.0 % (CI 0.3 to 44.5 %) of the cases with the structure (n = 10)" in sentence
    assert "B invents the structure in 100.0 % (CI 69.2 to 100.0 %)" in sentence
    assert "A 0.0 % (CI 0.0 to 30.8 %)." in sentence
    same = claims(simulate({"a": 0, "b": 0}, seed=0), "dice", margin=None, **QUICK)
    assert "misses" not in same.loc[0, "sentence"]


def test_a_significant_loss_within_the_margin_is_called_one() -> None:
    rng = np.random.default_rng(0)
    rows = trained_study(rng, {"A": 0.0, "B": -0.006}, seeds=1, subject_sd=0.001, training_sd=0.0)
    row = claims(rows, "dice", reference="A", margin=0.01, **QUICK).loc[0]
    assert row["verdict"] == "non-inferior"
    assert "is worse than A, but by less than the margin of 0.01 Dice" in row["sentence"]
    assert "non-inferior to" not in row["sentence"]


def test_too_few_subjects_are_named_with_the_smallest_p() -> None:
    rng = np.random.default_rng(0)
    rows = trained_study(rng, {"A": 0.0, "B": 0.2}, subjects=5, seeds=1, training_sd=0.0)
    row = claims(rows, "dice", reference="A", margin=0.01, resamples=99).loc[0]
    assert row["p_smallest_holm"] == row["p_difference_holm"] == pytest.approx(2 / 32)
    assert (
        "cannot be resolved with 5 subjects (the smallest adjusted p possible is 0.062)"
        in (row["sentence"])
    )


def test_what_limits_a_verdict() -> None:
    options = {"subjects": 30, "seeds": 3}
    for sd, limit in ((0.02, "trainings"), (0.0005, "subjects")):
        rows = trained_study(
            np.random.default_rng(1), {"a": 0.0, "b": 0.0}, training_sd=sd, **options
        )
        compared = compare_presets(rows, "dice", reference="a", margin=None, **QUICK)
        table = limits(rows, "dice", compared)
        assert table["reference"].tolist() == ["", "", "a"]
        assert table.loc[2, "limit"] == limit
        assert table.loc[2, "error"] == compared.loc[0, "standard_error"]
        wide = (compared.loc[0, "ci_high"] - compared.loc[0, "ci_low"]) / 2
        assert 2 * table.loc[2, "error"] < wide < 2.5 * table.loc[2, "error"]
        assert table.loc[2, "sd_trainings"] == pytest.approx(sd, rel=0.5, abs=0.003)
    one = trained_study(np.random.default_rng(1), {"a": 0.0, "b": 0.0}, seeds=1)
    compared = compare_presets(one, "dice", reference="a", margin=None, **QUICK)
    assert limits(one, "dice", compared)["limit"].tolist() == ["unknown"] * 3


def test_ranks_know_that_trainings_differ() -> None:
    """Equal presets whose trainings differ: subjects alone would be sure of the order."""
    sure, honest, held = [], [], []
    for run in range(30):
        rows = trained_study(
            np.random.default_rng(run), dict.fromkeys("abc", 0.0), folds=1, training_sd=0.02
        )
        means = rows.groupby(["preset", "case", "fold"], as_index=False)["dice"].mean()
        single = means.assign(seed=0, label="organ", status="ok")
        alone = rank_stability(single, "dice", resamples=400)
        table = rank_stability(rows, "dice", resamples=400)
        sure.append(alone["share_same_rank"].mean())
        honest.append(table["share_same_rank"].mean())
        held.append((table["rank_low"] <= 2).all() and (table["rank_high"] >= 2).all())
    assert np.mean(sure) > 0.85
    assert np.mean(honest) < 0.7
    assert np.mean(held) >= 0.9


def test_the_interval_of_a_mean_knows_of_trainings() -> None:
    """By hand: variance over subjects and between seeds, pooled over folds."""
    rng = np.random.default_rng(4)
    rows = trained_study(rng, {"a": 0.0}, subjects=30, folds=5, training_sd=0.02)
    row = summarise(rows, "dice", resamples=99).loc[0]
    cases = rows.groupby("case")["dice"].mean()
    of_subjects = cases.var() / 30
    seeds = rows.groupby(["fold", "seed"])["dice"].mean().groupby("fold").var().mean()
    variance = of_subjects + seeds / 15
    share = seeds / 15 / variance
    point = (1 - share) * stats.t.isf(0.025, 29) + share * stats.t.isf(0.025, 10)
    assert row["ci_high"] - row["mean"] == pytest.approx(point * math.sqrt(variance))
    alone = summarise(rows[rows["seed"] == 0], "dice", resamples=99).loc[0]
    assert alone["ci_high"] - alone["mean"] < 1.2 * stats.t.isf(0.025, 29) * cases.std() / 5
