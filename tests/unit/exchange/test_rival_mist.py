"""MIST as a rival: the steps of nnU-Net with another script (a stand-in for its environment)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mist_stand_in import make_mist_environment
from nnunet_stand_in import make_environment
from prepared_cases import make_prepared

from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, LunetError
from lunet.evaluation.external import take_predictions
from lunet.evaluation.external_settings import ExternalSettings
from lunet.evaluation.pairs import EvaluatedRun
from lunet.exchange.nnunet_export import DATASET, export_dataset
from lunet.exchange.rival import plan_rival, train_rival
from lunet.exchange.rival_cost import measure_rival
from lunet.exchange.rival_process import require_tool
from lunet.exchange.rival_settings import MIST, RivalSettings

TRAINED, TESTED = "case_case_00 case_case_01 case_case_02 case_case_03", ["case_04", "case_05"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set, exported and planned by the stand-in; the plan has been moved."""
    root = tmp_path_factory.mktemp("mask.nii.gz")  # MIST looks for files in the whole path
    make_prepared(root)
    python = make_mist_environment(root / "mist")
    export_dataset(root / "prepared/manifest.json", root / "splits.json", root / "raw_copy")
    plan_rival("mist_pocket", python=str(python), raw=root / "raw_copy", out=root / "first")
    (root / "first").rename(root / "plan")
    return root


def train(root: Path, work: Path, epochs: int = 2) -> Path:
    settings = RivalSettings(
        python=str(root / "mist/python"), network="mist_pocket", epochs=epochs, iterations=3
    )
    train_rival(settings, fold=0, plan=root / "plan", work=work, out=work.parent / "out")
    return work.parent / "out"


def epochs_of(work: Path) -> list[str]:
    (log,) = work.rglob("epochs.txt")
    return log.read_text().splitlines()


def test_the_data_are_described_to_mist(prepared: Path) -> None:
    about = json.loads((prepared / "plan" / DATASET / "mist.json").read_text())
    assert about["labels"] == [0, 1, 2]
    assert about["final_classes"] == {"inner": [1], "outer": [2]}
    config = json.loads((prepared / "plan" / DATASET / "config.json").read_text())
    assert config["model"]["architecture"] == "nnunet-pocket"


def test_a_fold_is_trained_on_its_cases_and_comes_back_as_a_row(
    prepared: Path, tmp_path: Path
) -> None:
    out = train(prepared, tmp_path / "work")
    assert epochs_of(tmp_path / "work") == [f"0 x 3: {TRAINED}", f"1 x 3: {TRAINED}"]
    record = json.loads((out / "training.json").read_text())
    assert (record["mist-medical"], record["network"]) == ("2.3.0", "mist_pocket")
    take_predictions(
        ExternalSettings(predictions=str(out), layout="nnunet"),
        run=EvaluatedRun("mist", 0, 0),
        manifest_path=prepared / "prepared/manifest.json",
        splits_path=prepared / "splits.json",
        out=tmp_path / "run/predictions",
        log=lambda _: None,
    )
    taken = json.loads((tmp_path / "run/run.json").read_text())["external"]
    assert (taken["tested"], taken["missing"], taken["training"]) == (2, [], record)
    assert sorted(path.name for path in (tmp_path / "run/predictions").glob("*.nii.gz")) == [
        f"{case}.nii.gz" for case in TESTED
    ]


@pytest.mark.slow
def test_an_interrupted_training_resumes(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOP_AFTER", "0")
    with pytest.raises(LunetError, match="exit code 1"):
        train(prepared, tmp_path / "work")
    monkeypatch.delenv("STOP_AFTER")
    train(prepared, tmp_path / "work")
    assert [line[:5] for line in epochs_of(tmp_path / "work")] == ["0 x 3", "1 x 3"]


def test_a_case_that_mist_fails_to_predict_is_not_passed_over(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_ON", "case_case_05")
    with pytest.raises(LunetError, match="exit code 1"):
        train(prepared, tmp_path / "work", epochs=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_its_cost_is_measured_at_the_size_of_the_study(prepared: Path, tmp_path: Path) -> None:
    found = measure_rival(
        "mist_pocket",
        EfficiencySettings(
            size=(10, 9, 8), device="cpu", warmups=1, repeats=5, processes=1, budget_s=0.1
        ),
        name="mist",
        python=str(prepared / "mist/python"),
        plan=prepared / "plan",
        out=tmp_path / "cost.json",
    )
    # one convolution of 27 weights from one channel to three; strides 4, 4, 2 in x y z
    assert found["size"] == [12, 12, 8]
    assert found["parameters"] == 27 * 3 + 3
    assert found["macs"] == 27 * 3 * 12 * 12 * 8
    assert found["network"] == "MIST (2.3.0), mist_pocket"


def test_the_environment_of_another_tool_is_refused(tmp_path: Path) -> None:
    python = make_environment(tmp_path)
    with pytest.raises(ConfigError, match="does not find mist-medical"):
        require_tool(MIST, str(python), "rivals.x.python")
