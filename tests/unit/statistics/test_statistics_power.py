"""Power: components of a pilot, predicted against simulated, what a design resolves."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lunet.errors import DataError
from lunet.statistics.looks import FoldValues, part_of
from lunet.statistics.power import (
    Components,
    Design,
    better_buy,
    components_of,
    error_of,
    power_of,
    resolvable,
    seeds_needed,
    subjects_needed,
)
from lunet.statistics.sequential import Estimate, Plan, look

TRUE = Components(subjects=0.02, trainings=0.006, rest=0.008)


def a_study(
    rng: np.random.Generator, spread: Components, design: Design, difference: float = 0.0
) -> list[FoldValues]:
    """Folds of a study with these components."""
    folds = []
    for fold, places in enumerate(np.array_split(np.arange(design.subjects), design.folds)):
        size = places.size
        drawn = rng.normal(0, spread.trainings, (2, design.seeds, 1))
        drawn = drawn + rng.normal(0, spread.rest, (2, design.seeds, size))
        drawn[0] += difference + rng.normal(0, spread.subjects, size)
        names = np.array([f"{fold}-{place}" for place in places])
        if spread.sides == 1:  # the reference is taken as given
            folds.append(FoldValues(names, names, drawn[0], np.zeros((1, size)), (True, False)))
            continue
        folds.append(FoldValues(names, names, drawn[0], drawn[1]))
    return folds


def simulated(
    spread: Components, design: Design, margin: float, difference: float, count: int
) -> float:
    """Share of studies that the test of one look finds non-inferior."""
    plan, won = Plan(margin), 0
    for number in range(count):
        part = part_of(a_study(np.random.default_rng([11, number]), spread, design, difference))
        found = look(plan, Estimate(part.difference, part.error, (1.0,)))
        won += found.decision == "non-inferior"
    return won / count


DESIGNS = [(24, 3, 4), (24, 5, 2), (60, 5, 1), (60, 5, 2)]
GRID = [(*design, difference) for design in DESIGNS for difference in (-0.006, 0.0)]


@pytest.mark.parametrize(("subjects", "folds", "seeds", "difference"), GRID)
def test_predicted_and_simulated_power_agree(subjects, folds, seeds, difference) -> None:
    design = Design(subjects, folds, seeds)
    found = simulated(TRUE, design, 0.012, difference, 1000)
    predicted = power_of(TRUE, design, margin=0.012, difference=difference)
    assert found == pytest.approx(predicted, abs=0.04 + 1e-9)


@pytest.mark.parametrize("difference", [-0.006, 0.0])
def test_predicted_and_simulated_power_agree_against_a_given_reference(difference: float) -> None:
    given, design = replace(TRUE, sides=1), Design(24, 5, 2)
    found = simulated(given, design, 0.012, difference, 1000)
    predicted = power_of(given, design, margin=0.012, difference=difference)
    assert found == pytest.approx(predicted, abs=0.04 + 1e-9)
    assert predicted > power_of(TRUE, design, margin=0.012, difference=difference)


@pytest.mark.parametrize("sides", [1, 2])
def test_components_of_a_pilot(sides: int) -> None:
    true = replace(TRUE, sides=sides)
    pilots = [
        [a_study(np.random.default_rng([number, 5]), true, Design(60, 5, 3))]
        for number in range(60)
    ]
    found = [components_of(pilot) for pilot in pilots]
    assert {one.sides for one in found} == {sides}
    for name in ("subjects", "trainings", "rest"):
        square = np.mean([getattr(one, name) ** 2 for one in found])
        assert math.sqrt(square) == pytest.approx(getattr(TRUE, name), rel=0.06)


def test_pairs_are_pooled_and_cases_of_a_subject_averaged() -> None:
    rng = np.random.default_rng(3)
    one, other = (a_study(rng, TRUE, Design(20, 2, 2)) for _ in range(2))
    pooled = components_of([one, other])
    square = (components_of([one]).rest ** 2 + components_of([other]).rest ** 2) / 2
    assert pooled.rest == pytest.approx(math.sqrt(square))
    twice = [
        FoldValues(
            np.concatenate([np.char.add(f.cases, "a"), np.char.add(f.cases, "b")]),
            np.tile(f.groups, 2),
            np.tile(f.candidate, 2),
            np.tile(f.reference, 2),
        )
        for f in one
    ]
    assert components_of([twice]) == components_of([one])


def test_one_seed_knows_no_variance_of_trainings() -> None:
    rng = np.random.default_rng(3)
    found = components_of([a_study(rng, TRUE, Design(40, 5, 1))])
    assert not found.knows_trainings
    assert found.trainings == 0
    mixed = [a_study(rng, TRUE, Design(40, 5, seeds)) for seeds in (1, 2)]
    assert components_of(mixed) == components_of(mixed[1:])


def test_without_trainings_it_is_the_power_of_the_t_test() -> None:
    spread, design = Components(0.019, 0.0, 0.0), Design(24, 1, 1)
    # the study that could have been known beforehand: 40 % power at a margin of 0.01
    found = power_of(spread, design, margin=0.01)
    shift = 0.01 / (0.019 / math.sqrt(24))
    assert found == pytest.approx(stats.nct.sf(stats.t.isf(0.025, 23), 23, shift), abs=1e-3)
    assert found == pytest.approx(0.69, abs=0.01)
    assert power_of(spread, design, margin=0.01, difference=-0.01) == pytest.approx(0.025, abs=1e-3)


def test_more_of_anything_helps_until_trainings_rule() -> None:
    few = Design(24, 5, 2)
    assert error_of(TRUE, few) > error_of(TRUE, Design(48, 5, 2)) > error_of(TRUE, Design(48, 5, 4))
    margin = resolvable(TRUE, few)
    assert power_of(TRUE, few, margin=margin) == pytest.approx(0.8, abs=1e-6)
    needed = subjects_needed(TRUE, 5, 2, margin=0.012)
    assert needed is not None
    assert power_of(TRUE, Design(needed, 5, 2), margin=0.012) >= 0.8
    assert power_of(TRUE, Design(needed - 1, 5, 2), margin=0.012) < 0.8
    assert subjects_needed(TRUE, 5, 2, margin=0.003) is None
    seeds = seeds_needed(TRUE, Design(120, 5, 2), margin=0.007)
    assert seeds is not None
    assert seeds > 2
    assert seeds_needed(TRUE, few, margin=0.001) is None


def test_what_hours_buy() -> None:
    by_seeds, by_subjects = better_buy(Components(0.001, 0.01, 0.001), Design(30, 3, 2))
    assert by_seeds < by_subjects
    by_seeds, by_subjects = better_buy(Components(0.03, 0.001, 0.001), Design(30, 3, 2))
    assert by_subjects < by_seeds


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: components_of([]),
        lambda: Components(-1.0, 0.0, 0.0),
        lambda: Components(math.nan, 0.0, 0.0),
        lambda: Design(3, 5, 1),
        lambda: Design(30, 5, 0),
        lambda: resolvable(TRUE, Design(30, 5, 2), power=1.0),
        lambda: components_of([a_study(np.random.default_rng(0), TRUE, Design(5, 5, 2))]),
    ],
)
def test_bad_input_is_refused(wrong) -> None:
    with pytest.raises(DataError):
        wrong()
