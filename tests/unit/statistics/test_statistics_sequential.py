"""Sequential tests: published critical values, exact errors, simulated studies, intervals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_study import trained_study

from lunet.errors import DataError
from lunet.statistics.boundaries import critical_values, crossing_probability, spent
from lunet.statistics.components import MeanError, mean_error, trainings
from lunet.statistics.looks import FoldValues, fold_values, looks, part_of
from lunet.statistics.paired import compare_presets
from lunet.statistics.sequential import Estimate, Plan, conditional_power, look

FIVE = (0.2, 0.4, 0.6, 0.8, 1.0)


@pytest.mark.parametrize(
    ("kind", "fractions", "expected"),
    [
        ("obrien_fleming", (0.5, 1.0), (2.9626, 1.9686)),
        # gsDesign prints 3.3570 for the second, ldbounds 3.3569; integration gives 3.35701
        ("obrien_fleming", FIVE, (4.8769, 3.3570, 2.6803, 2.2898, 2.0310)),
        ("pocock", FIVE, (2.4380, 2.4268, 2.4101, 2.3966, 2.3859)),
    ],
)
def test_published_critical_values(kind, fractions, expected) -> None:
    found = critical_values(fractions, 0.025, kind)
    assert found == pytest.approx(expected, abs=1.1e-4)
    assert crossing_probability(fractions, found) == pytest.approx(0.025, abs=1e-8)


def test_naive_peeking_claims_falsely_in_seven_percent() -> None:
    naive = [stats.norm.isf(0.025)] * 5
    # Armitage, McPherson and Rowe 1969: 0.142 two-sided at five looks
    assert crossing_probability(FIVE, naive) == pytest.approx(0.0709, abs=2e-4)


def test_one_look_is_the_common_test() -> None:
    assert critical_values([1.0], 0.025) == pytest.approx([stats.norm.isf(0.025)])
    power = crossing_probability([1.0], [stats.norm.isf(0.025)], drift=3.24152)
    assert power == pytest.approx(0.9, abs=1e-4)


@pytest.mark.parametrize("kind", ["obrien_fleming", "pocock"])
@pytest.mark.parametrize("fractions", [(0.3, 0.35, 0.9, 1.0), (0.05, 0.98, 1.0)])
def test_any_looks_use_the_level_that_was_spent(kind, fractions) -> None:
    found = critical_values(fractions, 0.0125, kind)
    for count in range(1, len(fractions) + 1):
        used = crossing_probability(fractions[:count], found[:count])
        assert used == pytest.approx(spent(kind, 0.0125, fractions[count - 1]), abs=1e-7)


def test_errors_and_power_by_simulation() -> None:
    rng = np.random.default_rng(1)
    steps = rng.normal(0, np.sqrt(0.2), (200_000, 5))
    z = steps.cumsum(axis=1) / np.sqrt(FIVE)
    for kind in ("obrien_fleming", "pocock"):
        values = np.array(critical_values(FIVE, 0.025, kind))
        assert (z > values).any(axis=1).mean() == pytest.approx(0.025, abs=0.0011)
        moved = z + 3 * np.sqrt(FIVE)
        exact = crossing_probability(FIVE, values, drift=3.0)
        assert (moved > values).any(axis=1).mean() == pytest.approx(exact, abs=0.003)
    assert (z > stats.norm.isf(0.025)).any(axis=1).mean() == pytest.approx(0.071, abs=0.002)


def test_conditional_power_by_simulation() -> None:
    rng = np.random.default_rng(2)
    z, fraction, drift, critical = 1.2, 0.4, 2.5, 2.0
    last = z * math.sqrt(fraction) + drift * 0.6 + rng.normal(0, math.sqrt(0.6), 200_000)
    found = conditional_power(z, fraction, critical, drift)
    assert (last > critical).mean() == pytest.approx(found, abs=0.004)


def exact(error: float) -> MeanError:
    """A standard error that is as good as known."""
    return MeanError(error, 0.0, 10**9, 0)


def test_a_look_by_hand() -> None:
    plan = Plan(margin=0.01)
    first = look(plan, Estimate(0.0, exact(0.002), (0.2,)))
    assert (first.ratio, first.decision) == (pytest.approx(5.0), "non-inferior")
    assert first.bound == pytest.approx(4.8769, abs=1e-4)
    assert first.low == pytest.approx(0.0 - 4.8769 * 0.002, abs=1e-6)
    with_few = look(plan, Estimate(0.0, MeanError(0.002, 0.0, 3, 0), (0.2,)))
    assert with_few.bound == pytest.approx(stats.t.isf(stats.norm.sf(4.876885), 3), rel=1e-5)
    assert with_few.decision == "continue"
    hopeless = look(plan, Estimate(-0.1, exact(0.005), (0.2,)))
    assert (hopeless.decision, hopeless.power < 1e-6) == ("futile", True)
    unknown = look(plan, Estimate(math.nan, MeanError(math.nan, math.nan, 0, 0), (0.2,)))
    assert (unknown.decision, unknown.low) == ("continue", pytest.approx(math.nan, nan_ok=True))


def test_the_last_look_alone_is_the_test_of_the_comparisons() -> None:
    error = MeanError(0.004, 0.3, 30, 8)
    for difference in (-0.003, -0.001, 0.001):
        found = look(Plan(margin=0.01), Estimate(difference, error, (1.0,)))
        is_small = error.p_greater(difference + 0.01) < 0.025
        assert (found.decision == "non-inferior") == is_small
        assert (found.low > -0.01) == is_small


def test_equal_values_everywhere_need_no_error() -> None:
    none = MeanError(0.0, 0.0, 5, 2)
    assert look(Plan(0.01), Estimate(0.0, none, (0.2,))).decision == "non-inferior"
    assert look(Plan(0.01), Estimate(-0.02, none, (0.2,))).decision == "futile"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: critical_values((0.5, 0.4), 0.025),
        lambda: critical_values((0.5, 1.0), 0.7),
        lambda: spent("haybittle", 0.025, 0.5),  # type: ignore[arg-type]
        lambda: Plan(margin=0.0),
        lambda: Plan(margin=0.01, futility=1.0),
        lambda: look(Plan(0.01), Estimate(0.0, exact(0.1), (0.2, 0.4))),
    ],
)
def test_bad_input_is_refused(wrong) -> None:
    with pytest.raises(DataError):
        wrong()


def a_study(
    rng: np.random.Generator,
    difference: float,
    *,
    subjects: float,
    trainings: float,
    rest: float,
    seeds: int = 2,
    per_fold: int = 8,
) -> dict[int, FoldValues]:
    """Five folds with these standard deviations (subjects: of the difference)."""
    values = {}
    for fold in range(5):
        shape = (2, seeds, per_fold)
        drawn = rng.normal(0, trainings, (2, seeds, 1)) + rng.normal(0, rest, shape)
        drawn[0] += difference + rng.normal(0, subjects, per_fold)
        names = np.array([f"{fold}-{number}" for number in range(per_fold)])
        values[fold] = FoldValues(names, names, drawn[0], drawn[1])
    return values


def ends(count: int, difference: float, plan: Plan, **spread: float) -> list:
    """The looks of many studies."""
    return [
        looks(a_study(np.random.default_rng([7, number]), difference, **spread), plan, range(5))
        for number in range(count)
    ]


def won(studies: list) -> float:
    return float(np.mean([found[-1][0].decision == "non-inferior" for found in studies]))


SPREAD = {"subjects": 0.011, "trainings": 0.003, "rest": 0.004}


@pytest.mark.parametrize("kind", ["obrien_fleming", "pocock"])
def test_studies_at_the_margin_are_wrong_at_the_level_or_less(kind) -> None:
    studies = ends(250, -0.01, Plan(0.01, spending=kind, futility=0.0), **SPREAD)
    assert won(studies) <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 250)
    assert won(studies) > 0.005  # the level is used, not merely kept


def test_studies_of_equal_and_of_poor_networks_end_early() -> None:
    equal = ends(80, 0.0, Plan(0.01), **SPREAD)
    assert won(equal) > 0.9
    assert np.mean([len(found) for found in equal]) < 4
    poor = ends(80, -0.1, Plan(0.01), **SPREAD)
    assert (won(poor), max(len(found) for found in poor) <= 2) == (0.0, True)
    assert np.mean([len(found) for found in poor]) < 1.1


def test_giving_up_early_costs_little_power() -> None:
    spread = {"subjects": 0.02, "trainings": 0.004, "rest": 0.004}
    patient = won(ends(150, 0.0, Plan(0.01, futility=0.0), **spread))
    hasty = won(ends(150, 0.0, Plan(0.01, futility=0.1), **spread))
    assert 0.3 < patient < 0.95  # power is neither nothing nor certain
    assert patient - hasty <= 0.03


def test_repeated_intervals_hold_at_all_looks_together() -> None:
    studies = ends(120, -0.012, Plan(0.01, futility=0.0), **SPREAD)
    missed = [any(not one.low <= -0.012 <= one.high for one, _ in found) for found in studies]
    assert np.mean(missed) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 120)


def small_study() -> pd.DataFrame:
    return trained_study(np.random.default_rng(3), {"ref": 0.0, "one": -0.004}, seeds=2)


PAIR = ("one", "ref")


def test_values_of_rows_give_the_error_of_the_comparisons() -> None:
    rows = small_study()
    rows.loc[rows["fold"] == 1, "fold"] = 0  # folds of different sizes
    found = part_of(list(fold_values(rows, PAIR, "dice").values()))
    runs = rows.rename(columns={"dice": "value"})
    sides = [trainings(runs[runs["preset"] == name]) for name in PAIR]
    table = runs.groupby(["preset", "case"])["value"].mean().unstack(0)
    difference = table["one"] - table["ref"]
    expected = mean_error(difference, table.index, sides)
    assert found.difference == pytest.approx(difference.mean())
    assert found.error.error == pytest.approx(expected.error)
    assert found.error.share == pytest.approx(expected.share)
    freedom = (expected.freedom, expected.freedom_trainings)
    assert (found.error.freedom, found.error.freedom_trainings) == freedom
    assert sum(found.variances) == pytest.approx(expected.error**2)
    assert (found.counts.cases, found.counts.subjects, found.counts.seeds) == (40, 40, 2)


def test_a_lower_metric_is_turned_round() -> None:
    rows = small_study().rename(columns={"dice": "hd95"})
    higher = small_study()
    one = part_of(list(fold_values(rows, PAIR, "hd95").values()))
    other = part_of(list(fold_values(higher, PAIR, "dice").values()))
    assert one.difference == pytest.approx(-other.difference)
    assert one.error.error == pytest.approx(other.error.error)


def test_looks_end_before_a_fold_that_one_side_lacks() -> None:
    rows, plan = small_study(), Plan(0.005, futility=0.0)
    whole = looks(fold_values(rows, PAIR, "dice"), plan, range(5))
    part = rows[~((rows["preset"] == "one") & (rows["fold"] > 1))]
    found = looks(fold_values(part, PAIR, "dice"), plan, range(5))
    assert len(found) == 2
    assert [one.critical for one, _ in found] == [one.critical for one, _ in whole[:2]]
    assert found[1][1].cases == 16


def test_sides_that_do_not_fit_are_refused() -> None:
    rows = small_study()
    fewer = rows[~((rows["preset"] == "one") & (rows["seed"] == 1) & (rows["fold"] == 0))]
    with pytest.raises(DataError, match="1 seeds against 2"):
        fold_values(fewer, PAIR, "dice")
    with pytest.raises(DataError, match="only one side has the case"):
        fold_values(rows[~((rows["preset"] == "one") & (rows["case"] == "s000"))], PAIR, "dice")


def test_a_reference_without_training_needs_no_seeds() -> None:
    rows = small_study()
    rows = rows[(rows["preset"] == "one") | (rows["seed"] == 0)]
    found = part_of(list(fold_values(rows, PAIR, "dice", untrained=["ref"]).values()))
    assert found.counts.seeds == 2
    # the error is that of the study's comparisons, in which the reference is taken as given, too
    table = compare_presets(rows, "dice", reference="ref", margin=0.01, untrained=["ref"])
    expected = table.to_dict("records")[0]
    assert found.error.error == pytest.approx(expected["standard_error"])
    assert found.error.share == pytest.approx(expected["share_trainings"])
    assert found.error.freedom_trainings == expected["freedom_trainings"] == 5


def test_against_a_given_reference_studies_at_the_margin_are_wrong_at_the_level_or_less() -> None:
    """The candidate's two trainings vary; the reference is one set of predictions."""
    count, won = 250, 0
    for number in range(count):
        rng = np.random.default_rng([13, number])
        study = a_study(rng, -0.01, subjects=0.011, trainings=0.0, rest=0.004)
        for fold, one in study.items():
            candidate = one.candidate + rng.normal(0, 0.003, (2, 1))
            sides = (candidate, one.reference[:1])
            study[fold] = FoldValues(one.cases, one.groups, *sides, trained=(True, False))
        found = looks(study, Plan(0.01, futility=0.0), range(5))
        won += found[-1][0].decision == "non-inferior"
    assert won / count <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / count)
    assert won / count > 0.005


def test_one_seed_leaves_trainings_out() -> None:
    rows = small_study()
    part = part_of(list(fold_values(rows[rows["seed"] == 0], PAIR, "dice").values()))
    assert (part.error.share, part.error.freedom, part.counts.seeds) == (0.0, 39, 1)


def test_shares_follow_the_cases_that_are_planned() -> None:
    rows = small_study()
    cases = {fold: set(rows.loc[rows["fold"] == fold, "case"]) for fold in range(5)}
    cases[4] |= {f"more{number}" for number in range(40)}
    values = fold_values(rows, PAIR, "dice")
    small = looks(values, Plan(0.005), range(5), planned=cases)
    even = looks(values, Plan(0.005), range(5))
    assert even[0][0].estimate.fractions[0] == pytest.approx(0.2)
    assert small[0][0].estimate.fractions[0] < 0.195


def test_a_common_test_set_still_learns_from_trainings() -> None:
    """Each fold predicts the same cases: information grows by trainings alone."""
    rng = np.random.default_rng(5)
    one = a_study(rng, 0.0, subjects=0.01, trainings=0.004, rest=0.004, per_fold=30)
    names = one[0].cases
    same = {
        fold: FoldValues(names, names, values.candidate, values.reference)
        for fold, values in one.items()
    }
    found = looks(same, Plan(0.0001, futility=0.0), range(5))
    shares = found[-1][0].estimate.fractions
    assert len(shares) == 5
    assert list(shares) == sorted(set(shares))
    assert found[-1][1].cases == 30
