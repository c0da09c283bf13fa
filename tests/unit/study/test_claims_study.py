"""The study of the abstract's claims: matched pairs, skips and bottleneck, and their figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT
from study_of_numbers import DICE, write_study

import lunet
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.claims import pair_data, skip_designs, skips
from lunet.reporting.figures.index import write_figure
from lunet.reporting.outputs import figure_row, table_row
from lunet.reporting.result_files import Grid, from_grid, read_cases, read_efficiency
from lunet.reporting.tables.index import make_table
from lunet.study.config import load, parse
from lunet.study.study import Study

CONFIG = ROOT / "config"
PARAMETERS = {
    "lunet_small_6f": 22_081,
    "lunet_small_12f": 87_289,
    "lunet_small_18f": 195_625,
    "lunet_small_24f": 347_089,
    "unet_small_1f": 22_362,
    "unet_small_2f": 88_807,
    "unet_small_3f": 199_336,
    "unet_small_4f": 353_949,
}
PAIRS = [["lunet_small_4f", "unet_small_4f"], ["lunet_small_2f", "unet_small_2f"]]
SETTINGS = {"statistics": {"resamples": 100, "pairs": PAIRS}}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), folds=2, cases=12, epochs=2)


def grid(results: Path, kinds: tuple[str, ...]):
    return from_grid(Grid(results, (*DICE, "atlas_prior"), (0, 1), (0, 1)), kinds)


def test_matched_pairs_have_the_parameters_that_the_study_says() -> None:
    counted = {
        name: sum(p.numel() for p in lunet.build_model(name).parameters()) for name in PARAMETERS
    }
    assert counted == PARAMETERS
    matched = load(CONFIG / "claims.yaml").statistics.pairs[:4]
    for lean, wide in matched:
        assert 0.97 < counted[lean] / counted[wide] <= 1


@pytest.mark.parametrize("name", ["claims", "claims_demo"])
def test_bottlenecks_of_the_study_differ_in_skips_and_width_alone(name: str) -> None:
    study = Study(load(CONFIG / f"{name}.yaml"))
    runs = [
        {"preset": preset, "settings": {"model": study.sections("train", preset)["model"]}}
        for preset in study.presets
    ]
    designs = skip_designs(runs)
    by_skips = designs.groupby("skips")["bottleneck"].apply(sorted)
    assert by_skips["with skips"] == by_skips["without skips"]
    assert len(by_skips["with skips"]) == {"claims": 5, "claims_demo": 2}[name]
    assert {"pairs", "skips"} <= set(study.figures)


def test_figures_are_drawn_for_studies_that_ask_their_question() -> None:
    base = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["unet_small_1f", "bare"]}
    bare = {"base": "unet_small_1f", "arguments": {"skip_levels": []}}
    plain = Study(parse(base | {"variants": {"bare": {"base": "unet_small_1f"}}}))
    assert not {"pairs", "skips"} & set(plain.figures)
    without = Study(parse(base | {"variants": {"bare": bare}}))
    assert "skips" in without.figures
    named = {"statistics": {"pairs": [["bare", "unet_small_1f"]]}}
    asked = Study(parse(base | {"variants": {"bare": bare}} | named))
    assert {"pairs", "skips"} <= set(asked.figures)


def test_pairs_show_both_scores_sizes_and_the_verdict(results: Path, tmp_path: Path) -> None:
    found = grid(results, figure_row("pairs").needs)
    statistics = StatisticsSettings(resamples=100, pairs=tuple(map(tuple, PAIRS)))
    data = pair_data(read_cases(found), read_efficiency(found), statistics)
    assert list(data["preset"]) == ["lunet_small_4f", "lunet_small_2f"]
    assert list(data["parameters"]) == [9_929, 2_569]
    assert list(data["parameters_reference"]) == [353_949, 88_807]
    assert list(data["verdict"]) == ["non-inferior", "not resolved"]  # two trainings per fold
    assert (data["mean"] - data["mean_reference"]).tolist() == pytest.approx(
        data["difference"].tolist()
    )
    assert (data["low_reference"] < data["mean_reference"]).all()
    paths = write_figure("pairs", found, SETTINGS, tmp_path / "pairs")
    assert [path.suffix for path in paths] == [".svg", ".pdf", ".png", ".csv"]
    assert len(pd.read_csv(paths[-1])) == 2


def test_claims_of_pairs_are_about_them_alone(results: Path) -> None:
    pairs = [*PAIRS, ["lunet_small_2f", "atlas_prior"]]
    settings = {"statistics": {"resamples": 100, "pairs": pairs}}
    table = make_table("claims", grid(results, table_row("claims").needs), settings)
    assert {(row["preset"], row["reference"]) for row in table.records} == set(map(tuple, pairs))
    sentences = {(r["reference"], r["label"]): r["sentence"] for r in table.records}
    assert "is better than atlas_prior" in sentences["atlas_prior", "mean over labels"]


def designed(preset: str, widths: list[int], skip_levels: object = "all") -> dict:
    arguments = {"widths": widths, "skip_levels": skip_levels}
    return {"preset": preset, "settings": {"model": {"name": "UNet", "arguments": arguments}}}


def test_skips_are_drawn_against_the_bottleneck(results: Path) -> None:
    runs = [
        designed("unet_small_4f", [2, 4, 16]),
        designed("lunet_small_4f", [2, 4, 2]),
        designed("unet_small_2f", [2, 4, 16], []),
        designed("lunet_small_2f", [2, 4, 2], [1]),
        designed("mednext_small", [4, 4, 4]),
    ]
    designs = skip_designs(runs)
    assert designs["preset"].tolist() == [run["preset"] for run in runs[:4]]
    assert designs["bottleneck"].tolist() == [16, 2, 16, 2]
    cases = read_cases(grid(results, ("metrics",)))
    drawing = skips(cases, runs, StatisticsSettings(resamples=100))
    axes = drawing.figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "with skips", "without skips", "skips at level 1",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "16"]
    with_skips = drawing.data[drawing.data["skips"] == "with skips"].set_index("bottleneck")
    assert with_skips.loc[16, "mean"] == pytest.approx(DICE["unet_small_4f"], abs=0.02)
