"""Predictions that the job of several trainings makes, and the step that takes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prepared_cases import make_prepared
from tiny_training import TINY

from lunet.cli import main
from lunet.file_list import read_list
from lunet.inference.settings import PredictSettings
from lunet.reading import read_json
from lunet.settings import plain
from lunet.training.kept_results import PREDICTED, forget

CODE = "p"
TAKEN = "predicted by the job of the training"
MODEL = {"preset": "tiny", "module": "unet", "name": "UNet", "arguments": {"widths": [2, 2]}}
TASK = {"channels": ["MRI"], "dimensions": 3, "labels": {"inner": 1, "outer": 2}, "regions": {}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_prepared(folder)
    return folder


def train(data: Path, place: Path, *more: str) -> int:
    """Two runs in one job, as its rule calls it."""
    settings = {"task": TASK, "model": MODEL, "recipe": plain(replace(TINY, epochs=1))}
    command = [
        "train", "--settings", json.dumps(settings), "--code", "t",
        "--manifest", f"{data}/prepared/manifest.json", "--splits", f"{data}/splits.json",
        "--work", f"{place}/work", "--out", f"{place}/out", "--seed", "0", "1", *more,
    ]  # fmt: skip
    return main([*command, "--keep-results"])


def sections(**changes: Any) -> dict[str, Any]:
    """What the step ``predict`` reads."""
    predict = plain(PredictSettings()) | {"device": "cpu"} | changes
    return {"task": TASK, "model": MODEL, "predict": predict}


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that one job has trained and predicted, as a workflow asks for it."""
    folder = tmp_path_factory.mktemp("trained")
    asked = {"tiny": {"sections": sections(), "code": CODE}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUNET_PREDICTIONS", json.dumps(asked))
        assert train(data, folder, "--at-once", "2") == 0
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the two runs, and the environment of a step."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Path(shutil.copytree(trained, tmp_path / "trained"))


def predict(data: Path, place: Path, out: Path, *, ahead: bool = True, **changes: Any) -> int:
    """Run the step of the run with seed 1."""
    return main(step(data, place, out, ahead=ahead, **changes))


def step(data: Path, place: Path, out: Path, *, ahead: bool = True, **changes: Any) -> list[str]:
    """The words of the step's rule."""
    run = "fold-0/seed-1"
    command = [
        "predict", "--settings", json.dumps(sections(**changes)), "--code", CODE,
        "--weights", f"{place}/out/{run}", "--manifest", f"{data}/prepared/manifest.json",
        "--splits", f"{data}/splits.json", "--fold", "0", "--out", f"{out}",
    ]  # fmt: skip
    return [*command, *(["--ahead", f"{place}/work/{run}"] if ahead else [])]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def test_what_is_taken_equals_what_is_predicted(
    data: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(data, place, tmp_path / "taken") == 0
    assert TAKEN in capsys.readouterr().out
    assert predict(data, place, tmp_path / "made", ahead=False) == 0
    assert TAKEN not in capsys.readouterr().out
    taken = files(tmp_path / "taken")
    assert taken == files(tmp_path / "made")
    assert set(taken) == {"predictions.json", "case_04.nii.gz", "case_05.nii.gz"}
    # the step's own files, which it may replace
    assert read_list(tmp_path / "taken").keys() == read_list(tmp_path / "made").keys()
    assert predict(data, place, tmp_path / "taken", ahead=False) == 0


def test_taking_does_not_import_torch(data: Path, place: Path, tmp_path: Path) -> None:
    """It takes most of the time of a short step."""
    program = (
        "import sys; from lunet.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    )
    words = [sys.executable, "-c", program, *step(data, place, tmp_path / "taken")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert TAKEN in done.stdout
    assert done.stdout.endswith("0 False\n")


def test_maps_and_chosen_settings_are_taken_as_well(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {"probabilities": True, "choose": True, "flip_axes": [0]}
    asked = {"tiny": {"sections": sections(**wanted), "code": CODE}}
    monkeypatch.setenv("LUNET_PREDICTIONS", json.dumps(asked))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train(data, tmp_path) == 0
    assert predict(data, tmp_path, tmp_path / "taken", **wanted) == 0
    assert TAKEN in capsys.readouterr().out
    assert len(list((tmp_path / "taken/probabilities").iterdir())) == 2
    assert read_json(tmp_path / "taken/chosen.json")["cases"]


@pytest.mark.parametrize("what", ["settings", "weights", "data", "masks", "threads", "out"])
def test_nothing_else_is_taken(
    data: Path,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    out = tmp_path / "masks"
    if what == "weights":
        other = place / "out/fold-0/seed-0/weights.safetensors"
        (place / "out/fold-0/seed-1/weights.safetensors").unlink()
        other.rename(place / "out/fold-0/seed-1/weights.safetensors")
    elif what == "data":
        data = tmp_path / "others"
        make_prepared(data, cases=7)
    elif what == "masks":
        kept = place / "work/fold-0/seed-1" / PREDICTED / "case_04.nii.gz"
        kept.unlink()
        kept.write_bytes(b"damaged")
    elif what == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
    elif what == "out":
        assert predict(data, place, out, ahead=False) == 0
    changes = {"flip_axes": [1]} if what == "settings" else {}
    assert predict(data, place, out, **changes) == 0
    told = capsys.readouterr().out
    assert TAKEN not in told
    assert "segmented case_05" in told


def test_a_failure_leaves_it_to_the_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"tiny": {"sections": sections(flip_axes=[7]), "code": CODE}}
    monkeypatch.setenv("LUNET_PREDICTIONS", json.dumps(asked))
    assert train(data, tmp_path) == 0
    assert "not all predictions were made ahead" in capsys.readouterr().err
    assert (tmp_path / "out/fold-0/seed-1/run.json").is_file()
    assert "flip_axes" in (tmp_path / "out/fold-0/seed-1/train.log").read_text()


def test_a_person_and_a_run_alone_predict_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUNET_PREDICTIONS", raising=False)
    assert train(data, tmp_path) == 0
    assert not list(tmp_path.rglob(PREDICTED))


def test_what_is_in_its_place_is_forgotten(tmp_path: Path) -> None:
    run = "runs/a/fold-0/seed-0"
    kept = tmp_path / "work" / run / PREDICTED
    kept.mkdir(parents=True)
    (tmp_path / "results" / run / "predictions").mkdir(parents=True)
    forget(tmp_path / "work", tmp_path / "results")
    assert kept.is_dir()
    (tmp_path / "results" / run / "predictions/predictions.json").write_text("{}")
    forget(tmp_path / "work", tmp_path / "results")
    assert not kept.parent.exists()
