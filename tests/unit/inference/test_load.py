"""Trained networks come back as they were, or say what is wrong with their file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_cases import label_of, make_prepared
from safetensors.torch import save_file
from small_networks import BINARY, THREE, UNET, save_run

import lunet
from lunet.cli import main
from lunet.data.prepared import read_manifest
from lunet.errors import DataError
from lunet.inference.description import Description, description_of
from lunet.models.build import build_for_task
from lunet.task import Task
from lunet.training.weights import save_weights


def test_a_run_comes_back(tmp_path: Path) -> None:
    trained = save_run(tmp_path, THREE)
    x = torch.randn(1, 1, 9, 10, 11)
    for source in (tmp_path, tmp_path / "weights.safetensors", str(tmp_path)):
        model = lunet.load_model(source)
        assert not model.training
        with torch.no_grad():
            torch.testing.assert_close(model(x), trained(x), rtol=0, atol=0)
    described = description_of(model)
    assert described.task == THREE
    assert described.model["preset"] == "tiny"
    assert described.training == {"epoch": 3, "fold": 0}


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        lunet.load_model(tmp_path / "none")
    with pytest.raises(DataError, match=r"neither weights.safetensors nor model.onnx"):
        lunet.load_model(tmp_path)
    (tmp_path / "torn.safetensors").write_bytes(b"\x10" * 50)
    with pytest.raises(DataError, match="not a safetensors file"):
        lunet.load_model(tmp_path / "torn.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DataError, match="foreign"):
        lunet.load_model(tmp_path / "foreign.safetensors")
    save_weights(tmp_path / "bare.safetensors", {"w": torch.zeros(2)}, {"task": BINARY.as_dict()})
    with pytest.raises(DataError, match="no section 'preprocess'"):
        lunet.load_model(tmp_path / "bare.safetensors")


def test_a_folder_of_runs_names_them(tmp_path: Path) -> None:
    trained = save_run(tmp_path / "fold-0" / "seed-0", THREE)
    x = torch.randn(1, 1, 9, 10, 11)
    with torch.no_grad():
        found = lunet.load_model(tmp_path / "fold-0")(x)  # its only seed
        torch.testing.assert_close(found, trained(x), rtol=0, atol=0)
    save_run(tmp_path / "fold-0" / "seed-1", THREE)
    for folder, names in (("fold-0", "seed-0, seed-1"), (".", "fold-0/seed-0, fold-0/seed-1")):
        with pytest.raises(DataError, match=f"Name one of the runs below it: {names}"):
            lunet.load_model(tmp_path / folder)


def test_weights_of_another_network(tmp_path: Path) -> None:
    description = Description(BINARY, {}, UNET)
    wider = Description(BINARY, {}, UNET | {"arguments": {"widths": [4, 4], "convs_per_block": 1}})
    path = tmp_path / "weights.safetensors"
    save_weights(path, build_for_task(wider.model, wider.task), description.as_dict())
    with pytest.raises(DataError, match="does not fit its own description"):
        lunet.load_model(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, value: float) -> None:
    description = Description(BINARY, {}, UNET)
    state = build_for_task(UNET, BINARY).state_dict()
    name = list(state)[3]
    state[name].view(-1)[0] = value
    path = tmp_path / "weights.safetensors"
    save_weights(path, state, description.as_dict())
    with pytest.raises(DataError, match=rf"1 of \d+ values of {name} are NaN or infinite"):
        lunet.load_model(path)


def test_weights_of_another_type_are_refused_by_name(tmp_path: Path) -> None:
    description = Description(BINARY, {}, UNET)
    state = build_for_task(UNET, BINARY).state_dict()
    name = next(iter(state))
    state[name] = state[name].view(torch.int32)  # the same bytes, as a changed header has them
    path = tmp_path / "weights.safetensors"
    save_weights(path, state, description.as_dict())
    with pytest.raises(DataError, match=rf"{name} is stored as torch\.int32"):
        lunet.load_model(path)


def test_a_study_step_with_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule's command: folder of a run, manifest, splits, fold; refused for another task."""
    make_prepared(tmp_path)
    manifest = read_manifest(tmp_path / "prepared")
    task = Task(channels=("MRI",), labels={"inner": 1, "outer": 2})
    assert manifest.task == task
    description = Description(task, dict(manifest.preprocess), UNET)
    save_weights(
        tmp_path / "run" / "weights.safetensors",
        build_for_task(description.model, description.task),
        description.as_dict(),
    )
    words = ["predict", "--settings", '{"predict": {"weights": "best"}}', "--fold", "0"]
    words += ["--manifest", f"{tmp_path}/prepared/manifest.json"]
    words += ["--splits", f"{tmp_path}/splits.json"]
    run = ["--weights", f"{tmp_path}/run"]
    assert main([*words, *run, "--out", f"{tmp_path}/a"]) == 0
    assert main([*words, *run, "--out", f"{tmp_path}/b"]) == 0
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [".lunet-files.json", "case_04.nii.gz", "case_05.nii.gz", "predictions.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    mask = lunet.predict(
        lunet.load_model(tmp_path / "run"), tmp_path / "raw/imagesTr/case_04.nii.gz"
    )
    assert mask.shape == label_of(4).shape
    import nibabel as nib

    stored = np.asanyarray(nib.load(tmp_path / "a" / "case_04.nii.gz").dataobj)
    np.testing.assert_array_equal(mask, stored)
    save_run(tmp_path / "other", BINARY)
    assert main([*words, "--weights", f"{tmp_path}/other", "--out", f"{tmp_path}/c"]) == 2
    assert "trained for" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
