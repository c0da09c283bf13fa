"""Post-processing is chosen on validation cases: the best wins, test cases are never looked at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from prepared_cases import make_prepared
from small_networks import save_run

from lunet.cli import main
from lunet.data.folds import read_splits
from lunet.data.ground_truth import read_reference
from lunet.errors import DataError
from lunet.inference.decode import postprocess
from lunet.inference.postprocess_search import candidate_settings, choose_postprocessing, mean_dice
from lunet.inference.predict_run import predict_run
from lunet.inference.settings import PredictSettings
from lunet.task import Task

BINARY = Task(channels=("MRI",), labels={"ball": 1})


def test_what_is_tried() -> None:
    asked = PredictSettings(flip_axes=(0,), threshold=0.45)
    tried = candidate_settings(asked, BINARY)
    assert tried[0] == asked
    assert len(tried) == len(set(tried)) == 6 * 2 * 2
    softmax = Task(channels=("MRI",), labels={"a": 1, "b": 2})
    assert {option.threshold for option in candidate_settings(asked, softmax)} == {0.45}


def test_the_best_on_validation_wins(tmp_path: Path) -> None:
    manifest = make_prepared(tmp_path)
    fold = read_splits(tmp_path / "splits.json").folds[0]
    asked = []

    def predictor(case, settings):
        """Right where x is not flipped, but with a far speck of label 1."""
        asked.append(case.id)
        truth, _ = read_reference(manifest, case.id)
        truth = np.roll(truth, len(settings.flip_axes), axis=0)
        truth[0, 0, 0] = 1
        return np.stack([truth == index for index in (0, 1, 2)]).astype(np.float32)

    settings = PredictSettings(flip_axes=(0,))
    chosen, dice = choose_postprocessing(
        manifest, fold.validation, predictor, settings, log=lambda _: None
    )
    assert chosen == dataclasses.replace(settings, flip_axes=(), largest_component=True)
    assert dice == pytest.approx(1, abs=1e-6)
    assert set(asked) == set(fold.validation)
    with pytest.raises(DataError, match="no validation cases"):
        choose_postprocessing(manifest, (), predictor, settings)


def test_a_study_s_run_records_its_choice(tmp_path: Path) -> None:
    manifest = make_prepared(tmp_path)
    save_run(tmp_path / "run", manifest.task)
    predict_run(
        tmp_path / "run",
        manifest.path,
        tmp_path / "splits.json",
        fold=0,
        out=tmp_path / "out",
        settings=PredictSettings(choose=True, flip_axes=(0, 1)),
        log=lambda _: None,
    )
    record = json.loads((tmp_path / "out" / "chosen.json").read_text())
    assert record["cases"] == ["case_03"]
    assert set(record) == {"cases", "dice", "threshold", "flip_axes", "largest_component"}
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2


def test_a_choice_is_repeated_on_new_scans(tmp_path: Path, capsys) -> None:
    """chosen.json of a study's run changes the masks of `lunet predict`, as the options would."""
    manifest = make_prepared(tmp_path)
    save_run(tmp_path / "run", BINARY, seed=3)  # its probabilities are 0.33 to 0.36
    scan = next((tmp_path / "raw" / "imagesTr").iterdir())
    head = ["predict", "--weights", f"{tmp_path}/run", str(scan), "--out"]

    def mask(name: str, *options: str) -> bytes:
        assert main([*head, str(tmp_path / name), *options]) == 0
        return (tmp_path / name / scan.name).read_bytes()

    record = {"cases": ["case_03"], "dice": 0.5, "threshold": 0.345, "flip_axes": [0, 2]}
    file = tmp_path / "chosen.json"
    file.write_text(json.dumps(record | {"largest_component": True}))
    options = ["--threshold", "0.345", "--flip-axes", "0", "2", "--largest-component"]
    chosen = mask("a", "--chosen", str(file))
    assert chosen == mask("b", *options)
    assert chosen != mask("c")
    # an option by hand wins over the file
    lower = ["--threshold", "0.335"]
    assert mask("d", "--chosen", str(file), *lower) == mask("e", *options, *lower) != chosen
    # and what a study's own run has recorded is such a file
    save_run(tmp_path / "three", manifest.task)
    predict_run(
        tmp_path / "three",
        manifest.path,
        tmp_path / "splits.json",
        fold=0,
        out=tmp_path / "out",
        settings=PredictSettings(choose=True, flip_axes=(1,)),
        log=lambda _: None,
    )
    mask("f", "--chosen", str(tmp_path / "out" / "chosen.json"))
    for text in ("[1]", '{"threshold": 0.5}', '{"threshold": '):
        file.write_text(text)
        assert main([*head, str(tmp_path / "g"), "--chosen", str(file)]) == 2
        assert "chosen.json" in capsys.readouterr().err
    file.write_text(json.dumps(record | {"largest_component": True, "threshold": 7}))
    assert main([*head, str(tmp_path / "g"), "--chosen", str(file)]) == 2
    assert "chosen.json.threshold" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


def test_mean_dice_leaves_out_what_neither_has() -> None:
    truth = np.array([[0, 1, 1, 0]], np.uint8)
    found = np.array([[0, 1, 0, 0]], np.uint8)
    task = Task(channels=("MRI",), labels={"a": 1, "b": 2})
    assert mean_dice(truth, found, task) == pytest.approx(2 / 3)
    assert np.isnan(mean_dice(truth * 0, found * 0, task))
    assert postprocess([np.array([[0.1, 0.6]])], BINARY, PredictSettings()).tolist() == [[0, 1]]
