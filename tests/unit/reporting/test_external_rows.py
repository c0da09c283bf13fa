"""Rows of others in tables, figures and report: compared, drawn, and never taken for trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure
from study_of_numbers import DICE, write_external, write_study

from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.bounds import reader_means
from lunet.reporting.figures.cases import boxplot
from lunet.reporting.figures.paired import differences, ranks
from lunet.reporting.figures.pareto import pareto
from lunet.reporting.figures.style import style
from lunet.reporting.html.facts import read_facts
from lunet.reporting.html.methods import methods
from lunet.reporting.html.search import search_part
from lunet.reporting.origin import (
    external_of,
    externals,
    readers,
    rivals,
    trained,
    trained_by_others,
    untrained,
)
from lunet.reporting.power import pilot_rows
from lunet.reporting.registered import read_registration
from lunet.reporting.result_files import (
    Grid,
    ResultFiles,
    from_grid,
    read_cases,
    read_efficiency,
    read_runs,
)
from lunet.reporting.tables.claims import claims, compared
from lunet.reporting.tables.costs import efficiency, joint
from lunet.reporting.tables.index import write_table
from lunet.reporting.unlearned import unlearned_in

STATISTICS = StatisticsSettings(reference="unet_small_4f", resamples=100, margin=0.01)
OTHERS = ("nnunet", "tool", "reader")
TEXT_OF_READER = "inter-rater: reader"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_study(tmp_path_factory.mktemp("study"))
    write_external(root, "nnunet", 0.90, parameters=31_195_784)
    write_external(root, "tool", 0.82)
    write_external(root, "reader", 0.93, role="reader")
    return root


@pytest.fixture(scope="module")
def sources(results: Path) -> ResultFiles:
    grid = Grid(results, (*DICE, *OTHERS, "atlas_prior"), tuple(range(5)), (0, 1), None, OTHERS)
    return from_grid(grid, ("metrics", "runs", "efficiency"))


@pytest.fixture(scope="module")
def cases(sources: ResultFiles) -> pd.DataFrame:
    return read_cases(sources)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_each_row_is_known_by_its_record(sources: ResultFiles, cases: pd.DataFrame) -> None:
    assert trained(cases) == tuple(DICE)
    assert rivals(cases) == (*DICE, "nnunet", "tool")
    assert externals(cases) == ("nnunet", "tool")
    assert readers(cases) == ("reader",)
    assert set(untrained(cases)) == {*OTHERS, "atlas_prior"}
    assert {run["preset"] for run in read_runs(sources)} == set(DICE)
    assert "reader" not in read_efficiency(sources)
    # tables that need only metrics read the records of the external rows, too
    grid = Grid(sources.metrics[0].parents[4], OTHERS, (0,), (0, 1), None, OTHERS)
    assert readers(read_cases(from_grid(grid, ("metrics",)))) == ("reader",)
    by_hand = cases.drop(columns="role")
    assert untrained(by_hand) == ("atlas_prior",)


def test_missing_cases_of_all_folds_are_added_up() -> None:
    about = {"role": "model", "layout": "nnunet", "tested": 4, "splits": "splits_final.json"}
    runs: list[dict[str, Any]] = [
        {"preset": "x", "external": about | {"missing": ["a"]}},
        {"preset": "x", "external": about | {"missing": [], "splits": None}},
        {"preset": "trained"},
    ]
    row = external_of(runs)["x"]
    assert (row.tested, row.missing, row.is_checked) == (8, ("a",), False)


def test_models_are_compared_as_given_and_readers_only_if_named(cases: pd.DataFrame) -> None:
    table = compared(cases, STATISTICS).set_index(["preset", "label"])
    assert "reader" not in table.index.get_level_values(0)
    row = table.loc["nnunet", "mean over labels"]
    assert row["n_seeds"] == 2  # the reference's trainings are in the interval
    assert row["verdict"] == "better"
    assert "The predictions of nnunet were made elsewhere" in row["sentence"]
    assert "2 seeds of unet_small_4f" in row["sentence"]
    assert "2 seeds each" in table.loc["lunet_small_4f", "mean over labels"]["sentence"]
    assert "made elsewhere" not in table.loc["lunet_small_4f", "mean over labels"]["sentence"]
    named = StatisticsSettings(pairs=(("lunet_small_4f", "reader"), ("tool", "nnunet")))
    table = compared(cases, named)
    assert set(table["preset"]) == {"lunet_small_4f", "tool"}
    assert set(table.loc[table["preset"] == "tool", "n_seeds"]) == {0}


def test_a_single_training_of_others_is_not_a_single_training_of_the_study(
    cases: pd.DataFrame,
) -> None:
    note = claims(cases, STATISTICS).note
    assert "subjects and trainings as sources of chance" in note
    assert "one seed each" not in note


def test_costs_are_marked_as_stated_or_left_out_with_a_reason(
    sources: ResultFiles, cases: pd.DataFrame
) -> None:
    costs = read_efficiency(sources)
    for table in (efficiency(costs), joint(cases, costs, STATISTICS)):
        assert "Stated in the configuration, not measured here: nnunet." in table.note
        assert "No cost is given for tool" in table.note
    rows = {row["preset"]: row for row in joint(cases, costs, STATISTICS).records}
    assert rows["nnunet"]["parameters"] == 31_195_784
    assert rows["tool"]["parameters"] != rows["tool"]["parameters"]
    assert set(rows) == {*DICE, *OTHERS, "atlas_prior"}
    assert ", input 64 × 64 × 64 voxels" in efficiency(costs).caption


def test_readers_are_a_line_in_the_figures_and_costless_rows_are_named(
    sources: ResultFiles, cases: pd.DataFrame
) -> None:
    costs = read_efficiency(sources)
    mean = reader_means(cases, STATISTICS)["reader"]
    assert mean == pytest.approx(0.93, abs=0.01)
    with style():
        drawn = pareto(cases, costs, STATISTICS, axis="parameters")
        assert set(drawn.data["preset"]) == {*DICE, "nnunet"}
        assert any(text.startswith(TEXT_OF_READER) for text in texts(drawn.figure))
        assert any("tool (no cost given): Dice" in text for text in texts(drawn.figure))
        heights = [line.get_ydata()[0] for line in drawn.figure.axes[0].lines]
        assert any(height == pytest.approx(mean) for height in heights)
        compared_figure = differences(cases, STATISTICS, costs).figure
        assert any(text.startswith(TEXT_OF_READER) for text in texts(compared_figure))
        places = [line.get_xdata()[0] for line in boxplot(cases, STATISTICS).figure.axes[0].lines]
        assert any(place == pytest.approx(mean) for place in places)
        ranked = ranks(cases, STATISTICS).data
        assert set(ranked["preset"]) == {*DICE, "nnunet", "tool"}


def test_the_report_says_what_the_rows_are(sources: ResultFiles, results: Path) -> None:
    settings = {"statistics": {"reference": "unet_small_4f", "resamples": 100}}
    facts = read_facts(sources, settings, results=results)
    assert facts.counts["presets"] == len(DICE)
    assert facts.counts["seeds"] == 2
    assert facts.readers == ["reader"]
    text = methods(facts)
    assert "The predictions of nnunet were not made by this study (somebody)" in text
    assert "reader is a second reader (somebody)" in text
    assert "Whether tool was trained on cases of this data set is not recorded." in text


def test_others_are_no_pilot(results: Path) -> None:
    assert set(pilot_rows(results)["preset"]) == set(DICE)


def test_masks_of_others_that_are_below_the_floor_are_not_trained_for_longer(
    cases: pd.DataFrame,
) -> None:
    assert unlearned_in(cases, "dice") == {}
    wrong = cases["preset"].isin(["tool", "unet_small_4f"])
    found = unlearned_in(cases.assign(dice=cases["dice"].where(~wrong, 0.0)), "dice")
    assert set(found) == {"tool", "unet_small_4f"}
    assert "Check that its masks belong to these cases" in found["tool"]
    assert "Train for more epochs" in found["unet_small_4f"]


def test_a_rival_that_is_dropped_after_the_runs_is_told(
    results: Path, sources: ResultFiles, cases: pd.DataFrame, tmp_path: Path
) -> None:
    from lunet.files import write_json
    from lunet.settings import plain
    from lunet.statistics.registration import digest

    grid = {"presets": [*DICE, "nnunet", "tool"], "folds": [0, 1, 2, 3, 4], "seeds": [0, 1]}
    stated = {"statistics": plain(STATISTICS), **grid}
    path = tmp_path / "protocol.json"
    content = {"stated": stated, "digest": digest(stated), "time": "2020-01-01T00:00:00Z"}
    settings = {"external": {"nnunet": {}, "tool": {}}}
    write_json(path, content | {"settings": settings, "settings_digest": ""})
    known = ResultFiles(sources.metrics, runs=sources.runs, protocol=(path,))
    assert not read_registration(known, cases, STATISTICS).changes
    fewer = cases[cases["preset"] != "tool"]
    assert "presets were" in read_registration(known, fewer, STATISTICS).sentence


@pytest.mark.parametrize("name", ["accuracy", "summary", "detection", "limits", "failures"])
def test_every_table_of_scores_has_the_rows(
    name: str, sources: ResultFiles, tmp_path: Path
) -> None:
    settings = {"statistics": {"reference": "unet_small_4f", "resamples": 100}}
    table = pd.read_csv(write_table(name, sources, settings, tmp_path / name)[0])
    assert {*DICE, *OTHERS} <= set(table["preset"])


def test_a_rival_is_told_apart_from_predictions_made_elsewhere(tmp_path: Path) -> None:
    root = write_study(tmp_path)
    write_external(root, "nnunet", 0.90, parameters=31_195_784)
    for record in root.glob("runs/nnunet/*/seed-0/run.json"):
        run = json.loads(record.read_text())
        run["external"] |= {"training": {"epochs": 2}, "splits": "splits_final.json"}
        record.write_text(json.dumps(run))
    grid = Grid(root, (*DICE, "nnunet"), tuple(range(5)), (0, 1), None, ("nnunet",))
    sources = from_grid(grid, ("metrics", "runs", "efficiency"))
    cases = read_cases(sources)
    assert trained_by_others(cases) == ("nnunet",)
    assert externals(cases) == ()
    assert rivals(cases) == (*DICE, "nnunet")
    assert "nnunet" in untrained(cases)
    row = (
        compared(cases, STATISTICS).set_index(["preset", "label"]).loc["nnunet", "mean over labels"]
    )
    assert "nnunet was trained once in each fold" in row["sentence"]
    assert "made elsewhere" not in row["sentence"]
    settings = {"statistics": {"reference": "unet_small_4f", "resamples": 100}}
    text = methods(read_facts(sources, settings, results=root))
    assert "nnunet (somebody) was planned, trained and used for prediction by its own code" in text
    assert "no case was predicted by a model of nnunet that trained on it" in text
    assert "not made by this study" not in text


@pytest.mark.parametrize("cost", [5e9, None])
def test_the_answer_of_a_search_shows_a_reference_of_others(cost: float | None) -> None:
    candidate = {"name": "lunet_small_2f", "family": "lunet_small", "cost": 2e9, "parameters": 9}
    candidate |= {"state": "non-inferior", "folds": 3}
    candidate |= {"estimate": 0.001, "ci_low": -0.004, "ci_high": 0.006}
    found = {"sentence": "The smallest.", "reference": "nnunet", "reference_role": "external"}
    found |= {"reference_cost": cost, "metric": "dice", "margin": 0.01, "cost": "macs"}
    parts = [str(part) for part in search_part(found | {"candidates": [candidate]})]
    drawn, table = parts[1:]
    assert "Difference from nnunet (predictions made elsewhere) against cost" in drawn
    assert ("nnunet: 5,000,000,000 MACs, the reference" in drawn) == (cost is not None)
    assert "the reference" in table
    trained = found | {"reference_role": "trained", "candidates": [candidate]}
    assert "nnunet" not in str(search_part(trained)[2]).split("rows=")[1]
