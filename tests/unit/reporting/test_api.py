"""The Python side of a study: results as frames, and two networks compared."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from study_of_numbers import DICE, PARAMETERS, write_study

import lunet
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.result_files import from_inputs
from lunet.reporting.tables.claims import compared
from lunet.reporting.tables.index import write_table

PAIR = ("lunet_small_2f", "unet_small_4f")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), folds=2, cases=8, epochs=3)


def test_results_are_frames(study: Path) -> None:
    found = lunet.results(study)
    assert len(found.metrics) == (5 * 2 + 1) * 2 * 8 * 2
    assert set(found.metrics["preset"]) == {*DICE, "atlas_prior"}
    costs = found.costs.set_index("preset")
    assert costs["parameters"].to_dict() == PARAMETERS
    assert len(found.histories) == 5 * 2 * 2 * 3


def test_results_of_one_run(study: Path) -> None:
    run = lunet.results(study / "runs/unet_small_4f/fold-0/seed-1")
    keys = run.metrics[["preset", "fold", "seed"]].drop_duplicates()
    assert keys.to_dict("records") == [{"preset": "unet_small_4f", "fold": 0, "seed": 1}]
    with pytest.raises(lunet.LunetError, match=r"no efficiency\.json.*target `efficiency`"):
        _ = run.costs


def test_other_runs_of_the_folder_are_not_the_studys(study: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(study / "runs")
    (tmp_path / "by-hand").symlink_to(study / "runs")
    assert len(lunet.results(tmp_path).metrics) == len(lunet.results(study).metrics)


def test_tables_of_a_study(study: Path) -> None:
    with pytest.raises(lunet.LunetError, match="no table is made"):
        _ = lunet.results(study).claims
    sources = from_inputs([str(study / "runs")])
    settings = {"statistics": {"pairs": [list(PAIR)], "resamples": 100}}
    write_table("claims", sources, settings, study / "tables/claims")
    claims = lunet.results(study).claims
    assert claims["verdict"].tolist()[0] == "worse"
    assert "lunet_small_2f is worse than unet_small_4f" in claims["sentence"].tolist()[0]
    with pytest.raises(lunet.LunetError, match="tables of this study: claims"):
        lunet.results(study).table("claim")


def test_a_missing_folder_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(lunet.LunetError, match="does not exist"):
        lunet.results(tmp_path / "results")


def test_compare_is_the_studys_comparison(study: Path) -> None:
    folders = [study / "runs" / name for name in PAIR]
    found = lunet.compare(*folders, resamples=100)
    settings = StatisticsSettings(pairs=(PAIR,), resamples=100)
    rows = lunet.results(study).metrics
    own = compared(rows[rows["preset"].isin(PAIR)].reset_index(drop=True), settings)
    pd.testing.assert_frame_equal(found, own)


def test_compare_two_tables_of_folders(tmp_path: Path) -> None:
    """Tables of `lunet evaluate --reference --prediction` have neither preset nor subject."""
    rows = [{"case": f"c{i}", "label": "organ", "status": "ok", "dice": i / 40} for i in range(20)]
    frame = pd.DataFrame(rows)
    better = tmp_path / "better.csv"
    frame.assign(dice=frame["dice"] + 0.4).to_csv(better, index=False)
    (row,) = lunet.compare(better, frame, margin=0.02).to_dict("records")
    assert (row["preset"], row["reference"]) == ("candidate", "reference")
    assert (row["verdict"], row["n"], row["n_groups"]) == ("better", 20, 20)
    assert row["difference"] == pytest.approx(0.4)


def test_compare_refuses_what_is_not_two_networks(study: Path, tmp_path: Path) -> None:
    good = study / "runs" / PAIR[0]
    with pytest.raises(lunet.LunetError, match="one network on each side"):
        lunet.compare(study / "runs", good)
    with pytest.raises(lunet.LunetError, match=r"candidate: no column status"):
        lunet.compare(pd.DataFrame({"case": ["a"], "label": ["b"], "dice": [1.0]}), good)
    with pytest.raises(lunet.LunetError, match=r"compare\.margin"):
        lunet.compare(good, good, margin=-1.0)
    frame = pd.concat([lunet.results(good).metrics] * 2)
    with pytest.raises(lunet.LunetError, match="occur twice"):
        lunet.compare(frame, good)
