"""The search from end to end with a stand-in for trainings: answers, kills, ties, budget."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from stub_search import StubMaker, search_study

from lunet.errors import ConfigError, TrainingError
from lunet.study.smallest import pause_epoch
from lunet.study.smallest_run import find_smallest
from lunet.training.recipe import Recipe

GOOD, POOR = 0.88, 0.80
DICE = {
    "unet_small_4f": GOOD,
    "lunet_small_8f": GOOD,
    "lunet_small_6f": GOOD,
    "lunet_small_4f": POOR,
    "lunet_small_2f": POOR,
}


@pytest.fixture(autouse=True)
def _drawn_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test draws the figure; the others are about decisions."""
    if "planted" not in request.node.name:
        monkeypatch.setattr("lunet.reporting.smallest_figure.write_figure", lambda *_: None)


def ask(root: Path, maker: StubMaker, **changes):
    told: list[str] = []
    verdict = find_smallest(search_study(root, **changes), maker, told.append)
    return verdict, told


def decisions(root: Path) -> list[dict[str, str]]:
    with open(root / "results/search/smallest/decisions.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_planted_answer_is_found_with_few_trainings(tmp_path: Path) -> None:
    maker = StubMaker(DICE)
    verdict, told = ask(tmp_path, maker)
    assert (verdict["answer"], verdict["is_complete"]) == ("lunet_small_6f", True)
    assert verdict["trainings"] == len(maker.trained) == len(set(maker.trained))
    assert verdict["trainings_of_grid"] == 50
    assert "lunet_small_2f" not in {name for name, _, _ in maker.trained}
    sentence = verdict["sentence"]
    assert "smallest network (by MACs) not inferior to unet_small_4f by 0.01 Dice" in sentence
    assert "is lunet_small_6f: 6,000 parameters (1.5x as many), 0.5x its MACs" in sentence
    assert "Error of this answer at most 2.5 %" in sentence
    assert "lunet_small_4f: given up after 1 fold (-0.07" in sentence
    assert f"{len(maker.trained)} of 50 trainings" in sentence
    assert "One seed" not in sentence
    rows = decisions(tmp_path)
    assert [row["candidate"] for row in rows if row["look"] == "1"] == [
        "lunet_small_8f",
        "lunet_small_6f",
        "lunet_small_4f",
    ]
    assert rows[-1]["state"] == "given up"
    assert all(any(row["candidate"] in line for line in told) for row in rows)
    folder = tmp_path / "results/search/smallest"
    assert json.loads((folder / "verdict.json").read_text()) == verdict
    assert {"smallest.svg", "smallest.csv", "plan.json"} <= {p.name for p in folder.iterdir()}


def test_a_search_that_is_killed_anywhere_resumes_and_trains_nothing_twice(tmp_path: Path) -> None:
    whole = StubMaker(DICE)
    verdict, _ = ask(tmp_path / "whole", whole)
    trained: list = []
    for _ in range(100):
        maker = StubMaker(DICE, kill_after=3)
        try:
            found, _ = ask(tmp_path / "killed", maker)
        except KeyboardInterrupt:
            trained += maker.trained
            continue
        trained += maker.trained
        break
    assert found == verdict
    assert sorted(trained) == sorted(whole.trained)
    again = StubMaker(DICE)
    assert ask(tmp_path / "killed", again)[0] == verdict
    assert again.trained == []
    assert len(again.calls) == 3  # splits, costs, then all runs: Snakemake checks them once


def test_runs_of_an_ordinary_study_are_used(tmp_path: Path) -> None:
    study, maker = search_study(tmp_path), StubMaker(DICE)
    assert set(study.presets) == set(DICE)
    maker([f"{run}/metrics.csv" for run in study.runs(list(DICE))])
    assert len(maker.trained) == 50
    verdict, _ = ask(tmp_path, maker)
    assert len(maker.trained) == 50
    assert verdict["trainings"] < 50
    fresh, _ = ask(tmp_path / "fresh", StubMaker(DICE))
    assert verdict == fresh


def test_a_candidate_far_below_at_a_third_of_its_epochs_is_suspended(tmp_path: Path) -> None:
    maker = StubMaker(DICE, early={"lunet_small_4f": 0.6})
    verdict, told = ask(tmp_path, maker, early_gap=0.15)
    assert verdict["answer"] == "lunet_small_6f"
    assert [run for run in maker.paused if run[0] == "lunet_small_4f"] == [
        ("lunet_small_4f", 0, 0),
        ("lunet_small_4f", 0, 1),
    ]
    assert "lunet_small_4f" not in {name for name, _, _ in maker.trained}
    assert verdict["suspended"] == {"lunet_small_4f": pytest.approx(GOOD - 0.6)}
    assert "lunet_small_4f: suspended at a third of its epochs" in verdict["sentence"]
    assert any("suspended at a third of its epochs" in line for line in told)
    # two paused trainings of six minutes count
    assert verdict["device_hours"] == pytest.approx(0.1 * (verdict["trainings"] + 2))
    states = {one["name"]: one["state"] for one in verdict["candidates"]}
    assert (states["lunet_small_4f"], states["lunet_small_2f"]) == ("suspended", "not trained")
    again = StubMaker(DICE)
    assert ask(tmp_path, again, early_gap=0.15)[0] == verdict
    assert again.trained == again.paused == []


def test_nothing_is_suspended_where_nobody_asks_or_a_run_is_there(tmp_path: Path) -> None:
    early = {"lunet_small_4f": 0.6}
    maker = StubMaker(DICE, early=early)
    verdict, _ = ask(tmp_path / "never", maker)
    assert maker.paused == []
    assert verdict["suspended"] == {}
    study, maker = search_study(tmp_path / "there"), StubMaker(DICE, early=early)
    maker([f"{study.run('lunet_small_4f', 0, 1)}/metrics.csv"])
    verdict, _ = ask(tmp_path / "there", maker, early_gap=0.15)
    assert verdict["suspended"] == {}
    assert ("lunet_small_4f", 0, 0) in maker.trained


@pytest.mark.parametrize(
    ("epochs", "every", "wanted"), [(60, 1, 20), (60, 7, 21), (1, 1, 1), (2, 1, 1), (4, 10, 4)]
)
def test_the_epoch_of_the_early_look_is_validated(epochs: int, every: int, wanted: int) -> None:
    assert pause_epoch(Recipe(epochs=epochs, validate_every=every)) == wanted


def test_ties_in_cost_are_told(tmp_path: Path) -> None:
    dice = dict.fromkeys(DICE, GOOD)
    costs = {"lunet_small_2f": 1e6, "lunet_small_4f": 1e6, "unet_small_4f": 9e6}
    verdict, _ = ask(tmp_path, StubMaker(dice, costs))
    assert verdict["answer"] == "lunet_small_2f"  # fewer parameters at equal cost
    assert verdict["same_cost"] == ["lunet_small_4f"]
    assert "Of the same cost, and shown as well: lunet_small_4f." in verdict["sentence"]


def test_a_reference_that_is_beaten_is_told(tmp_path: Path) -> None:
    dice = {**DICE, "lunet_small_8f": GOOD + 0.05}
    verdict, _ = ask(tmp_path, StubMaker(dice))
    assert verdict["answer"] == "lunet_small_6f"
    assert "The reference itself is beaten by lunet_small_8f (+0.05" in verdict["sentence"]


def test_none_is_said_with_what_would_resolve_it(tmp_path: Path) -> None:
    dice = dict.fromkeys(DICE, POOR) | {"unet_small_4f": GOOD}
    verdict, _ = ask(tmp_path / "poor", StubMaker(dice))
    assert verdict["answer"] is None
    assert "No smaller network was shown" in verdict["sentence"]
    assert "search among larger networks" in verdict["sentence"]
    dice = dict.fromkeys(DICE, GOOD)
    verdict, _ = ask(tmp_path / "noisy", StubMaker(dice, cases=4, spread=0.03))
    assert verdict["answer"] is None
    assert "If lunet_small_8f is as good as the reference," in verdict["sentence"]


def test_the_budget_ends_the_search_and_a_larger_one_resumes_it(tmp_path: Path) -> None:
    first = StubMaker(DICE)
    verdict, _ = ask(tmp_path, first, budget_hours=1.0)
    assert (verdict["is_complete"], verdict["stopped_by_budget"]) == (False, True)
    assert verdict["device_hours"] <= 1.0
    assert "The budget of 1 device hours ended the search" in verdict["sentence"]
    second = StubMaker(DICE)
    verdict, _ = ask(tmp_path, second, budget_hours=10.0)
    assert (verdict["answer"], verdict["is_complete"]) == ("lunet_small_6f", True)
    assert not set(first.trained) & set(second.trained)


def test_the_largest_candidate_is_the_reference_if_none_is_named(tmp_path: Path) -> None:
    dice = {name: value for name, value in DICE.items() if name != "unet_small_4f"}
    verdict, _ = ask(tmp_path, StubMaker(dice), reference=None)
    assert (verdict["reference"], verdict["answer"]) == ("lunet_small_8f", "lunet_small_6f")


def test_candidates_that_are_not_cheaper_are_not_trained(tmp_path: Path) -> None:
    maker = StubMaker(DICE, {"unet_small_4f": 1e6})
    verdict, _ = ask(tmp_path, maker)
    assert maker.trained == []
    assert "No candidate costs less than unet_small_4f" in verdict["sentence"]


def test_several_families_and_bisection(tmp_path: Path) -> None:
    dice = DICE | {"unet_small_2f": POOR, "unet_small_3f": GOOD, "unet_small_1f": POOR}
    options = {"families": ["lunet_small", "unet_small"], "widths": [2, 3, 4, 6, 8]}
    dice |= {"lunet_small_3f": POOR, "unet_small_6f": GOOD, "unet_small_8f": GOOD}
    for strategy in ("descending", "bisect"):
        verdict, _ = ask(tmp_path / strategy, StubMaker(dice), strategy=strategy, **options)
        assert verdict["answer"] == "lunet_small_6f"
        states = {one["name"]: one["state"] for one in verdict["candidates"]}
        assert states["unet_small_8f"] == "not cheaper"


def test_the_smallest_of_the_other_families_is_told(tmp_path: Path) -> None:
    dice = DICE | {"unet_small_3f": GOOD, "unet_small_2f": POOR}
    options = {"families": ["lunet_small", "unet_small"], "widths": [2, 3, 6]}
    dice |= {"lunet_small_2f": POOR, "lunet_small_3f": POOR, "unet_small_6f": GOOD}
    verdict, _ = ask(tmp_path, StubMaker(dice), **options)
    names = {"lunet_small_6f": "lunet_small", "unet_small_3f": "unet_small"}
    (other,) = names.keys() - {verdict["answer"]}
    told = f"Of {names[other]}, {other} is not inferior either: "
    assert f" {told}{other[-2]},000 parameters (" in verdict["sentence"]
    assert verdict["sentence"].count("either") == 1


NNUNET = {"predictions": "/data/nnunet", "source": "nnU-Net"}
BESIDES = {name: value for name, value in DICE.items() if name != "unet_small_4f"}


def ask_against(root: Path, maker: StubMaker, rows: dict, **changes):
    study = search_study(root, rows, reference="other", **changes)
    return find_smallest(study, maker, lambda _: None)


def test_a_row_made_elsewhere_may_be_the_reference(tmp_path: Path) -> None:
    costs = {"parameters": 31_195_784, "macs": 6.5e6, "latency_ms": 1e-3, "device": "one A100"}
    maker = StubMaker(BESIDES | {"other": GOOD}, given={"other": costs})
    rows = {"external": {"other": NNUNET | {"cost": costs}}}
    verdict = ask_against(tmp_path, maker, rows, budget_hours=100)
    assert (verdict["answer"], verdict["reference_role"]) == ("lunet_small_6f", "external")
    assert verdict["reference_cost"] == 6.5e6
    states = {one["name"]: one["state"] for one in verdict["candidates"]}
    assert states["lunet_small_8f"] == "not cheaper"
    # it has one set of predictions per fold, for which nothing is trained
    folds = {fold for _, fold, _ in maker.trained}
    assert sorted(maker.taken) == [("other", fold, 0) for fold in sorted(folds)]
    assert verdict["trainings"] == len(maker.trained)
    assert verdict["trainings_of_grid"] == 40
    assert verdict["device_hours"] == pytest.approx(0.1 * len(maker.trained))
    sentence = verdict["sentence"]
    assert "is lunet_small_6f: 6,000 parameters (5.2e+03x fewer), 0.92x its MACs." in sentence
    assert "made elsewhere and are taken as given; another training of it may differ" in sentence
    for row in decisions(tmp_path):
        assert (row["reference"], row["seeds"], row["seeds_reference"]) == ("other", "2", "1")
        assert row["freedom_trainings"] == row["look"]  # those of the candidate alone
    again = StubMaker({}, given={"other": costs})
    assert ask_against(tmp_path, again, rows, budget_hours=100) == verdict
    assert again.trained == again.taken == []


def test_a_reference_without_cost_gives_no_ratio_and_is_no_limit(tmp_path: Path) -> None:
    maker = StubMaker(BESIDES | {"other": GOOD}, given={"other": {}})
    verdict = ask_against(tmp_path, maker, {"external": {"other": NNUNET}})
    assert (verdict["answer"], verdict["reference_cost"]) == ("lunet_small_6f", None)
    assert "is lunet_small_6f: 6,000 parameters. Error" in verdict["sentence"]
    assert decisions(tmp_path)[0]["candidate"] == "lunet_small_8f"
    poor = StubMaker(dict.fromkeys(BESIDES, POOR) | {"other": GOOD}, given={"other": {}})
    verdict = ask_against(tmp_path / "poor", poor, {"external": {"other": NNUNET}})
    assert "No network was shown to be not inferior to other" in verdict["sentence"]


def test_a_given_reference_below_the_floor_is_named(tmp_path: Path) -> None:
    dice = BESIDES | {"other": 0.3, "atlas_prior": 0.6}
    maker = StubMaker(dice, given={"other": {}}, spread=0.0)
    verdict = ask_against(tmp_path, maker, {"external": {"other": NNUNET}})
    assert "Check that its masks belong to these cases" in verdict["unlearned"]["other"]
    assert verdict["unlearned"]["other"] in verdict["sentence"]


def test_what_would_resolve_a_comparison_with_a_given_reference_counts_one_side(
    tmp_path: Path,
) -> None:
    dice = BESIDES | {"other": GOOD, "lunet_small_8f": GOOD + 0.02}
    maker = StubMaker(dice, given={"other": {}}, cases=4, spread=0.03)
    verdict = ask_against(tmp_path, maker, {"external": {"other": NNUNET}})
    assert verdict["answer"] is None
    said = r"If lunet_small_8f is as good as the reference, \d+ subjects would resolve it"
    assert re.search(said, verdict["sentence"])


def test_a_rival_or_a_reader_may_be_the_reference(tmp_path: Path) -> None:
    dice = BESIDES | {"other": GOOD}
    maker = StubMaker(dice, given={"other": {}}, rivals=["other"])
    rows = {"rivals": {"other": {"python": "python", "network": "3d_fullres"}}}
    verdict = ask_against(tmp_path / "rival", maker, rows)
    assert (verdict["answer"], verdict["reference_role"]) == ("lunet_small_6f", "rival")
    assert "other was trained once in each fold; another training of it" in verdict["sentence"]
    assert verdict["trainings"] == len(maker.trained) + len(maker.taken)
    hours = 0.1 * len(maker.trained) + 0.2 * len(maker.taken)
    assert verdict["device_hours"] == pytest.approx(hours)
    maker = StubMaker(dice, given={"other": {}})
    rows = {"external": {"other": NNUNET | {"role": "reader"}}}
    verdict = ask_against(tmp_path / "reader", maker, rows)
    assert (verdict["answer"], verdict["reference_role"]) == ("lunet_small_6f", "reader")
    assert "another reader may differ" in verdict["sentence"]


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"candidates": ["other"]}, "smallest.candidates", "trains its candidates"),
        ({"reference": "other", "early_gap": 0.2}, "smallest.early_gap", "validation scores"),
    ],
)
def test_what_a_row_of_others_cannot_be_is_refused(changes, where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        search_study(Path(), {"external": {"other": NNUNET}}, **changes)
    assert caught.value.where == where


def test_one_seed_is_said(tmp_path: Path) -> None:
    verdict, _ = ask(tmp_path, StubMaker(DICE), seeds=[0])
    assert "these trained networks, not their architectures" in verdict["sentence"]


def test_one_seed_of_the_study_becomes_two(tmp_path: Path) -> None:
    from lunet.settings import replace
    from lunet.study.study import Study

    study = Study(replace(search_study(tmp_path).config, {"seeds": [3]}))
    verdict = find_smallest(study, StubMaker(DICE), lambda _: None)
    assert verdict["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"families": []}, "neither families nor candidates"),
        ({"margin": 0}, "above 0"),
        ({"seeds": []}, "one or more"),
        ({"cost": "energy_j"}, "was not measured"),
        ({"reference": "unet_smal_4f"}, "unet_smal_4f"),
        ({"strategy": "up"}, "strategy"),
        ({"widht": [1]}, "did you mean 'widths'"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, changes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ask(tmp_path, StubMaker(DICE), **changes)


def test_a_maker_that_makes_nothing_ends_the_search(tmp_path: Path) -> None:
    maker = StubMaker(DICE)
    maker.train = lambda run, key: None  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="was not made"):
        ask(tmp_path, maker)


def test_networks_that_have_not_learnt_are_named(tmp_path: Path) -> None:
    dice = DICE | {"lunet_small_8f": 0.1, "lunet_small_6f": 0.5, "atlas_prior": 0.6}
    verdict, _ = ask(tmp_path, StubMaker(dice, spread=0.0))
    assert set(verdict["unlearned"]) == {"lunet_small_8f"}
    assert "lunet_small_8f is not above the floor" in verdict["sentence"]
    learnt, _ = ask(tmp_path / "learnt", StubMaker(DICE))
    assert learnt["unlearned"] == {}


def test_times_of_a_busy_machine_are_marked(tmp_path: Path) -> None:
    class Busy(StubMaker):
        def cost(self, preset: str):
            return super().cost(preset) | {"busy": preset == "lunet_small_6f"}

    sentence = ask(tmp_path, Busy(DICE), cost="latency_ms")[0]["sentence"]
    assert "measured on a busy machine" in sentence
    assert "The times of lunet_small_6f were measured on a busy machine" in sentence
    quiet = ask(tmp_path / "quiet", StubMaker(DICE), cost="latency_ms")[0]["sentence"]
    assert "busy" not in quiet
