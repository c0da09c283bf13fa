"""Rivals: the export for nnU-Net, and its steps in an environment of its own (a stand-in)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nnunet_stand_in import make_environment
from prepared_cases import make_prepared

from lunet.cli import main
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, LunetError
from lunet.evaluation.external import take_predictions
from lunet.evaluation.external_settings import ExternalSettings
from lunet.evaluation.pairs import EvaluatedRun
from lunet.exchange.nnunet_export import DATASET, check_task, export_dataset, listing
from lunet.exchange.rival import plan_rival, train_rival
from lunet.exchange.rival_cost import measure_rival
from lunet.exchange.rival_process import require_tool
from lunet.exchange.rival_settings import NNUNET, RivalSettings
from lunet.task import Task

TESTED = ["case_04", "case_05"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set, exported and planned by the stand-in."""
    root = tmp_path_factory.mktemp("rival")
    make_prepared(root)
    python = make_environment(root / "nnunet")
    export_dataset(root / "prepared/manifest.json", root / "splits.json", root / "nnraw")
    plan_rival("3d_fullres", python=str(python), raw=root / "nnraw", out=root / "plan")
    return root


def settings(root: Path, **changes: int) -> RivalSettings:
    return RivalSettings(
        python=str(root / "nnunet/python"), **{"epochs": 2, "iterations": 3, **changes}
    )


def train(root: Path, work: Path, **changes: int) -> Path:
    train_rival(
        settings(root, **changes), fold=0, plan=root / "plan", work=work, out=work.parent / "out"
    )
    return work.parent / "out"


def epochs(work: Path) -> list[str]:
    (log,) = work.rglob("epochs.txt")
    return log.read_text().splitlines()


def test_the_export_has_the_cases_and_folds_of_the_study(prepared: Path) -> None:
    folder = prepared / "nnraw" / DATASET
    about = json.loads((folder / "dataset.json").read_text())
    assert about["labels"] == {"background": 0, "inner": 1, "outer": 2}
    assert about["numTraining"] == 6
    (fold,) = json.loads((folder / "splits_final.json").read_text())
    assert fold == {"train": [f"case_{n:02d}" for n in range(4)], "val": TESTED}
    image = folder / "imagesTr/case_00_0000.nii.gz"
    assert image.resolve() == (prepared / "raw/imagesTr/case_00.nii.gz").resolve()
    label = nib.load(folder / "labelsTr/case_00.nii.gz")
    raw = nib.load(prepared / "raw/labelsTr/case_00.nii.gz")
    assert np.array_equal(label.dataobj, raw.dataobj)
    assert np.allclose(label.affine, raw.affine)


def test_regions_are_exported_where_they_can_be_turned_back() -> None:
    labels = {"NCR": 1, "ED": 2, "ET": 3}
    nested = Task(("t1",), labels, {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)})
    about = listing(nested, 4)
    assert about["labels"] == {"background": 0, "WT": [1, 2, 3], "TC": [1, 3], "ET": [3]}
    assert about["regions_class_order"] == [2, 1, 3]
    apart = Task(("t1",), labels, {"A": (1, 2), "B": (3,)})
    assert listing(apart, 4)["labels"] == {"background": 0, **labels}


@pytest.mark.parametrize(
    ("task", "found"),
    [
        (Task(("t1",), {"a": 1}, dimensions=2), "slices"),
        (Task(("t1",), {"a": 1, "b": 3}), "found the indices 1, 3"),
    ],
)
def test_what_nnunet_cannot_train_on_is_refused(task: Task, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        check_task(task)


def test_a_fold_is_trained_and_comes_back_as_a_row(prepared: Path, tmp_path: Path) -> None:
    out = train(prepared, tmp_path / "work")
    assert epochs(tmp_path / "work") == ["0 of 2 x 3", "1 of 2 x 3"]
    record = json.loads((out / "training.json").read_text())
    assert (record["epochs"], record["nnunetv2"], record["network"]) == (2, "2.8.1", "3d_fullres")
    row = ExternalSettings(predictions=str(out), layout="nnunet")
    take_predictions(
        row,
        run=EvaluatedRun("nnunet", 0, 0),
        manifest_path=prepared / "prepared/manifest.json",
        splits_path=prepared / "splits.json",
        out=tmp_path / "run/predictions",
        log=lambda _: None,
    )
    taken = json.loads((tmp_path / "run/run.json").read_text())["external"]
    assert (taken["tested"], taken["missing"]) == (2, [])
    assert taken["training"] == record
    assert taken["splits"].endswith("splits_final.json")


@pytest.mark.slow
def test_an_interrupted_training_resumes_and_other_settings_start_anew(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    monkeypatch.setenv("STOP_AFTER", "0")
    with pytest.raises(LunetError, match="exit code 1"):
        train(prepared, work)
    assert not (tmp_path / "out").exists()
    monkeypatch.delenv("STOP_AFTER")
    train(prepared, work)
    assert epochs(work) == ["0 of 2 x 3", "1 of 2 x 3"]
    train(prepared, work, epochs=1)
    assert epochs(work) == ["0 of 1 x 3"]


def test_a_folder_of_others_is_not_emptied(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="no training of this step"):
        train(prepared, tmp_path / "work")
    assert (tmp_path / "work/thesis.tex").read_text() == "mine"


@pytest.mark.slow
def test_its_cost_is_measured_at_the_size_of_the_study(prepared: Path, tmp_path: Path) -> None:
    found = measure_rival(
        "3d_fullres",
        EfficiencySettings(
            size=(10, 9, 8), device="cpu", warmups=1, repeats=5, processes=2, budget_s=0.1
        ),
        name="nnunet",
        python=str(prepared / "nnunet/python"),
        plan=prepared / "plan",
        out=tmp_path / "cost.json",
    )
    assert json.loads((tmp_path / "cost.json").read_text()) == found
    # one convolution of 27 weights from one channel to three, with biases; strides 2, 4, 4 in z y x
    assert found["size"] == [8, 12, 12]
    assert found["parameters"] == 27 * 3 + 3
    assert found["macs"] == 27 * 3 * 8 * 12 * 12
    (latency,) = found["latency"]
    assert (latency["engine"], latency["precision"], latency["batch"]) == ("eager", "fp32", 1)
    assert latency["processes"] == 2
    assert latency["p50_ms"] > 0
    assert found["device"]["type"] == "cpu"


@pytest.mark.parametrize(
    ("version", "found"), [(None, "does not find nnunetv2"), ("2.1", "nnunetv2 2.1")]
)
def test_an_environment_without_nnunet_is_refused(
    tmp_path: Path, version: str | None, found: str
) -> None:
    python = make_environment(tmp_path, version=version)
    if version is None:  # the tests' own environment may have it
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    with pytest.raises(ConfigError, match=found) as caught:
        require_tool(NNUNET, str(python), "rivals.x.python")
    assert caught.value.where == "rivals.x.python"


def test_an_interpreter_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be started"):
        require_tool(NNUNET, "/nowhere/python", "rivals.x.python")


def test_the_commands(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "study.yaml"
    rival = {"python": str(prepared / "nnunet/python"), "epochs": 1, "iterations": 2}
    data = {"name": "balls", "path": str(prepared / "raw")}
    study = {"study": "x", "dataset": data, "rivals": {"nnunet": rival}}
    config.write_text(json.dumps(study | {"presets": ["unet_small_1f"]}))
    head = ["rival", "train", "--config", str(config), "--preset", "nnunet"]
    words = [*head, "--plan", str(prepared / "plan"), "--work", str(tmp_path / "w")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    masks = sorted(path.name for path in (tmp_path / "out/fold_0/validation").iterdir())
    assert masks == [f"{case}.nii.gz" for case in TESTED]
    assert main([*head, "--out", str(tmp_path / "out")]) == 2
    assert "--plan: missing, train needs it" in capsys.readouterr().err
