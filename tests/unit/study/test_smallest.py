"""Decisions of the search: sequences, shared levels, ties, moot families, budget."""

from __future__ import annotations

import math
import sys

import pytest
from paths import ROOT

from lunet.reporting.costs import per_volume
from lunet.reporting.search_grid import SearchGrid
from lunet.reporting.smallest import cost_of, reference_cost
from lunet.study.smallest import (
    Candidate,
    Finding,
    affordable,
    cheaper,
    needed,
    next_round,
    projected_gap,
    search,
)

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
from smallest import suspended

REFERENCE = Candidate("ref", "unet", 100.0, 1000)


def family(name: str, costs: list[float]) -> list[Candidate]:
    return [Candidate(f"{name}{place}", name, cost, 10) for place, cost in enumerate(costs)]


def judge_of(outcomes: dict[str, tuple[str, int]], asked: list | None = None):
    def judge(one: Candidate, level: float) -> Finding:
        if asked is not None:
            asked.append((one.name, level))
        return Finding(*outcomes.get(one.name, ("continue", 0)))  # type: ignore[arg-type]

    return judge


def test_a_network_of_slices_costs_what_a_volume_costs() -> None:
    """Or each network of slices would seem smaller than any of volumes."""
    own = {"macs": 100, "parameters": 7, "energy": {"joules_per_volume": 0.5}}
    costs = per_volume({"flat": own | {"size": [16, 16]}, "solid": own | {"size": [16, 16, 12]}})
    kinds = ("macs", "energy_j", "parameters")
    assert [cost_of(costs["solid"], kind, "solid") for kind in kinds] == [100, 0.5, 7]
    assert [cost_of(costs["flat"], kind, "flat") for kind in kinds] == [1200, 6, 7]


def test_a_cost_of_others_counts_only_where_it_is_known_and_of_no_machine() -> None:
    stated = {"given": True, "parameters": 7, "macs": 100, "latency": [{"batch": 1, "p50_ms": 5}]}
    measured = {key: stated[key] for key in stated if key != "given"}
    assert [reference_cost(stated, kind) for kind in ("parameters", "macs")] == [7, 100]
    assert reference_cost(stated, "latency_ms") == math.inf
    assert reference_cost(measured, "latency_ms") == 5
    assert reference_cost(measured, "energy_j") == math.inf


def test_the_next_smaller_one_is_tested_only_after_the_larger() -> None:
    families, _ = cheaper(family("a", [10, 50, 30]), REFERENCE)
    assert [one.cost for one in families["a"]] == [50, 30, 10]
    asked: list = []
    found = search(families, judge_of({"a1": ("non-inferior", 2)}, asked), level=0.025)
    assert asked == [("a1", 0.025), ("a2", 0.025)]
    assert found.answer is not None
    assert (found.answer.name, found.is_complete) == ("a1", False)
    assert next_round(found, SearchGrid("ref", (0, 1, 2), (0, 1))) == [
        [("ref", 0, 0), ("ref", 0, 1), ("a2", 0, 0), ("a2", 0, 1)]
    ]
    once = SearchGrid("ref", (0, 1, 2), (3, 4), is_given=True)
    assert next_round(found, once) == [[("ref", 0, 0), ("a2", 0, 3), ("a2", 0, 4)]]
    asked.clear()
    outcomes = {"a1": ("non-inferior", 2), "a2": ("futile", 1)}
    found = search(families, judge_of(outcomes, asked), level=0.025)
    assert found.is_complete
    assert [name for name, _ in asked] == ["a1", "a2"]  # a0 is smaller than a failure
    runs = needed(found, SearchGrid("ref", (4, 2, 7), (0,)))
    assert runs == [("ref", 4, 0), ("ref", 2, 0), ("a1", 4, 0), ("a1", 2, 0), ("a2", 4, 0)]


def test_families_share_the_level() -> None:
    families, _ = cheaper([*family("a", [10]), *family("b", [20])], REFERENCE)
    asked: list = []
    search(families, judge_of({}, asked), level=0.025)
    assert [level for _, level in asked] == [0.0125, 0.0125]


def test_ties_in_cost_are_ordered_and_answered_by_parameters() -> None:
    tied = [Candidate("x", "a", 10.0, 500), Candidate("y", "a", 10.0, 300)]
    other = Candidate("w", "b", 10.0, 300)
    families, _ = cheaper([*tied, other], REFERENCE)
    assert [one.name for one in families["a"]] == ["x", "y"]
    outcomes = dict.fromkeys("xyw", ("non-inferior", 1))
    found = search(families, judge_of(outcomes), level=0.025)
    assert found.answer is not None
    assert found.answer.name == "w"  # equal cost and parameters: by name, always the same


def test_who_costs_as_much_as_the_reference_is_left_out() -> None:
    candidates = [*family("a", [99.0, 100.0, 101.0]), REFERENCE]
    families, left_out = cheaper(candidates, REFERENCE)
    assert [one.name for one in families["a"]] == ["a0"]
    assert [one.name for one in left_out] == ["a1", "a2"]
    assert search({}, judge_of({}), level=0.025).is_complete
    assert search({}, judge_of({}), level=0.025).answer is None


def test_a_family_that_cannot_win_is_not_trained_on() -> None:
    families, _ = cheaper([*family("a", [10]), *family("b", [40, 20])], REFERENCE)
    found = search(families, judge_of({"a0": ("non-inferior", 3)}), level=0.025)
    assert found.is_complete
    assert [path.is_moot for path in found.paths] == [False, True]
    # a smaller member could still win
    families, _ = cheaper([*family("a", [10]), *family("b", [40, 5])], REFERENCE)
    assert not search(families, judge_of({"a0": ("non-inferior", 3)}), level=0.025).is_complete


@pytest.mark.parametrize("count", range(1, 10))
def test_bisection_finds_the_smallest_in_as_many_tests_as_it_corrects_for(count: int) -> None:
    members, _ = cheaper(family("a", [float(n) for n in range(1, count + 1)]), REFERENCE)
    for smallest in range(1, count + 2):
        asked: list = []
        good = {
            one.name: ("non-inferior" if one.cost >= smallest else "not shown", 1)
            for one in members["a"]
        }
        found = search(members, judge_of(good, asked), level=0.02, strategy="bisect")
        assert (found.answer.cost if found.answer else count + 1) == smallest
        assert len(asked) <= math.ceil(math.log2(count + 1))
        assert {level for _, level in asked} == {0.02 / math.ceil(math.log2(count + 1))}


def test_the_budget_stops_a_round_before_it_is_begun() -> None:
    rounds = [[("ref", 1, 0), ("a", 1, 0)], [("ref", 1, 0), ("b", 1, 0)]]
    done = {("ref", 0, 0): 2.0, ("a", 0, 0): 1.0}
    # ref 2 + a 1 = 3, then b as long as the longest: 2
    assert affordable(rounds, done, None, 3.0) == [*rounds[0], ("b", 1, 0)]
    assert affordable(rounds, done, 8.0, 3.0) == [*rounds[0], ("b", 1, 0)]
    assert affordable(rounds, done, 7.9, 3.0) == rounds[0]
    assert affordable(rounds, done, 5.0, 3.0) == []
    # runs that exist already cost nothing more
    finished = done | dict.fromkeys([("ref", 1, 0), ("a", 1, 0)], 1.0)
    assert affordable(rounds[:1], finished, 5.0, 5.0) == rounds[0]


def test_the_early_look_loses_few_networks_that_only_learn_more_slowly() -> None:
    """None that learns half as fast, almost all that never get near; see the benchmark."""
    assert suspended(2.0, 0.02, studies=300, gap=0.15, delay=0.1) == 0
    assert suspended(30.0, 0.02, studies=300, gap=0.15) > 0.9


def test_the_projection_adds_the_latest_gain() -> None:
    reference = [(epoch, 0.8) for epoch in range(1, 31)]
    rising, flat = [(5, 0.3), (10, 0.5)], [(5, 0.5), (10, 0.5)]
    assert projected_gap([rising], [reference], 10) == pytest.approx(0.8 - 0.7)
    assert projected_gap([flat], [reference], 10) == pytest.approx(0.3)
    assert projected_gap([[]], [reference], 10) == pytest.approx(0.8)
    assert projected_gap([rising, flat], [reference] * 2, 10) == pytest.approx(0.2)


def test_nothing_is_projected_before_the_reference_has_learnt() -> None:
    late = [(epoch, 0.8 * epoch / 30) for epoch in range(1, 31)]
    assert projected_gap([[(10, 0.0)]], [late], 10) == -math.inf
