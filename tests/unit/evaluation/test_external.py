"""External rows: what is taken from folders of other tools and of nnU-Net, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from external_rows import nnunet_results, predict, renumbered, same
from PIL import Image
from prepared_cases import AFFINE, label_of, make_prepared

from lunet.cli import main
from lunet.data.layouts.open import open_dataset
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import DatasetSettings, PreprocessSettings
from lunet.errors import ConfigError, DataError
from lunet.evaluation.evaluation import evaluate_run
from lunet.evaluation.external import take_predictions
from lunet.evaluation.external_labels import check_labels, theirs_to_ours
from lunet.evaluation.external_settings import ExternalSettings
from lunet.evaluation.external_source import source_digest
from lunet.evaluation.pairs import EvaluatedRun
from lunet.metrics.settings import EvaluateSettings
from lunet.settings import build_settings
from lunet.task import Task

NAMES = {"inner": 1, "outer": 2}
TASK = Task(("MRI",), NAMES)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_prepared(folder)
    return folder


@pytest.fixture
def labels(prepared: Path) -> Path:
    return prepared / "raw/labelsTr"


@pytest.fixture
def fold(prepared: Path) -> dict[str, Any]:
    return json.loads((prepared / "splits.json").read_text())["folds"][0]


def take(prepared: Path, out: Path, **settings: Any) -> dict[str, np.ndarray]:
    """Take fold 0 of the row ``theirs``; returns the masks."""
    take_predictions(
        build_settings(ExternalSettings, settings, "external.theirs"),
        run=EvaluatedRun("theirs", 0, 0),
        manifest_path=prepared / "prepared/manifest.json",
        splits_path=prepared / "splits.json",
        out=out / "predictions",
        log=lambda _: None,
    )
    return {
        path.name.removesuffix(".nii.gz"): np.asarray(nib.load(path).dataobj)
        for path in sorted((out / "predictions").glob("*.nii.gz"))
    }


def refused(prepared: Path, out: Path, **settings: Any) -> str:
    """The single line with which fold 0 is refused, without a record."""
    with pytest.raises((ConfigError, DataError)) as caught:
        take(prepared, out, **settings)
    assert not (out / "run.json").exists()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_masks_of_a_folder_are_taken_and_missing_ones_recorded(
    prepared: Path, labels: Path, tmp_path: Path
) -> None:
    predict(labels, ["case_00", "case_04"], tmp_path / "theirs", same)
    masks = take(prepared, tmp_path / "out", predictions=str(tmp_path / "theirs"))
    assert list(masks) == ["case_04"]  # case_05 has none, and case_00 is tested in no fold
    assert (masks["case_04"] == label_of(4)).all()
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["external"]["missing"] == ["case_05"]
    assert record["external"]["tested"] == 2
    assert record["data"] == read_manifest(prepared / "prepared/manifest.json").digest
    out = tmp_path / "metrics.csv"
    evaluate_run(
        prepared / "prepared/manifest.json",
        prepared / "splits.json",
        tmp_path / "out/predictions",
        run=EvaluatedRun("theirs", 0, 0),
        settings=EvaluateSettings(),
        out=out,
        log=lambda _: None,
    )
    with open(out, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows if row["status"] == "missed"] == ["case_05"] * 2


@pytest.mark.parametrize(
    "names", [{"17": "inner", "53": "outer"}, {17: 1, 53: 2}, {17: "inner", 53: 2, 4: "background"}]
)
def test_other_numbers_are_mapped(
    prepared: Path, labels: Path, tmp_path: Path, names: Mapping[Any, Any]
) -> None:
    predict(labels, ["case_04", "case_05"], tmp_path / "theirs", renumbered({1: 17, 2: 53}))
    masks = take(prepared, tmp_path / "out", predictions=str(tmp_path / "theirs"), map=names)
    assert (masks["case_05"] == np.roll(label_of(5), 1, axis=0)).all()


def test_numbers_above_255_can_be_mapped(prepared: Path, labels: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    for number in (4, 5):
        mask = label_of(number).astype(np.int16)
        big = np.where(mask > 0, mask + np.int16(1000), np.int16(2035))
        nib.save(nib.Nifti1Image(big, AFFINE), tmp_path / f"theirs/case_0{number}.nii.gz")
    names = {"1001": "inner", "1002": "outer"}
    masks = take(prepared, tmp_path / "out", predictions=str(tmp_path / "theirs"), map=names)
    assert (masks["case_04"] == label_of(4)).all()


def test_the_map_may_name_labels_of_their_dataset_json() -> None:
    declared = Task(("CT",), {"core": 3, "shell": 4, "other": 5})
    names = {"core": "inner", "shell": "outer"}
    assert theirs_to_ours(TASK, names, declared, "external.x") == {3: 1, 4: 2}
    swapped = Task(("CT",), {"inner": 2, "outer": 1})
    assert theirs_to_ours(TASK, {}, swapped, "external.x") == {2: 1, 1: 2}
    assert theirs_to_ours(TASK, {}, None, "external.x") is None


@pytest.mark.parametrize(
    ("names", "declared", "words"),
    [
        ({"core": "inner", "shell": "outer"}, None, "number of 'core' is not known"),
        ({"core": "inner", "rim": "outer"}, {"core": 3, "shell": 4}, "rim: is not a label in"),
        ({}, {"core": 3, "shell": 4}, "their dataset.json has the labels core = 3, shell = 4"),
    ],
)
def test_names_that_their_dataset_json_does_not_explain_are_refused(
    names: dict[str, str], declared: dict[str, int] | None, words: str
) -> None:
    task = Task(("CT",), declared) if declared else None
    with pytest.raises(DataError, match=r"external\.x\.map") as caught:
        theirs_to_ours(TASK, names, task, "external.x")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"1": "innner", "2": "outer"}, "m.1: found 'innner'"),
        ({"1": 1, "2": 3}, "m.2: found 3"),
        ({"1": "inner"}, "nothing is mapped to outer"),
    ],
)
def test_a_map_that_does_not_fit_the_labels_is_refused(names: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_labels(TASK, names, "m")
    assert words in str(caught.value)


def test_folders_without_predictions_are_refused(
    prepared: Path, labels: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    line = refused(prepared, out, predictions=str(tmp_path / "nowhere"))
    assert line.startswith("external.theirs.predictions: ")
    assert "does not exist" in line
    (tmp_path / "empty").mkdir()
    assert "no label files" in refused(prepared, out, predictions=str(tmp_path / "empty"))
    predict(labels, ["case_00"], tmp_path / "others")
    line = refused(prepared, out, predictions=str(tmp_path / "others"))
    assert "no prediction of the 2 test cases of fold 0" in line


def test_unknown_twice_and_misplaced_masks_are_refused(
    prepared: Path, labels: Path, tmp_path: Path
) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    predict(labels, ["case_04"], theirs)
    shutil.copy(theirs / "case_04.nii.gz", theirs / "patient.nii.gz")
    line = refused(prepared, out, predictions=str(theirs))
    assert "without a reference: patient" in line
    (theirs / "patient.nii.gz").unlink()
    shutil.copy(theirs / "case_04.nii.gz", theirs / "case_04.nii")
    assert "same case name" in refused(prepared, out, predictions=str(theirs))
    (theirs / "case_04.nii").unlink()
    nib.save(nib.Nifti1Image(label_of(4), np.eye(4)), theirs / "case_04.nii.gz")
    assert "mm away from the grid" in refused(prepared, out, predictions=str(theirs))
    nib.save(nib.Nifti1Image(label_of(4)[1:], AFFINE), theirs / "case_04.nii.gz")
    assert "shape 17 x 20 x 16" in refused(prepared, out, predictions=str(theirs))


def test_unknown_numbers_are_refused_with_the_key_to_set(
    prepared: Path, labels: Path, tmp_path: Path
) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    predict(labels, ["case_04", "case_05"], theirs, renumbered({1: 17, 2: 53}))
    line = refused(prepared, out, predictions=str(theirs))
    assert "label value(s) 17, 53" in line
    assert "external.theirs.map" in line
    line = refused(prepared, out, predictions=str(theirs), map={"11": 1, "12": 2})
    assert "every mask is empty after the map; the files hold 17, 53" in line


def test_nnunet_results_are_understood(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    model = nnunet_results(tmp_path, labels, [fold], names=NAMES, missing=["case_05"])
    masks = take(prepared, tmp_path / "out", predictions=str(model), layout="nnunet")
    assert list(masks) == ["case_04"]
    record = json.loads((tmp_path / "out/run.json").read_text())["external"]
    assert record["splits"].endswith("nnUNet_preprocessed/Dataset004_Phantom/splits_final.json")
    assert record["missing"] == ["case_05"]


def test_labels_of_nnunet_with_other_numbers_are_found_by_name(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    model = nnunet_results(tmp_path, labels, [fold], names={"inner": 2, "outer": 1})
    predict(labels, fold["test"], model / "fold_0/validation", renumbered({1: 2, 2: 1}))
    masks = take(prepared, tmp_path / "out", predictions=str(model), layout="nnunet")
    assert (masks["case_04"] == np.roll(label_of(4), 1, axis=0)).all()


def test_a_case_that_was_trained_on_is_refused_by_name(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    leaky = fold | {"train": [*fold["train"], "case_05"], "test": ["case_04"]}
    model = nnunet_results(tmp_path, labels, [leaky], names=NAMES)
    predict(labels, ["case_05"], model / "fold_0/validation")
    row = {"predictions": str(model), "layout": "nnunet"}
    line = refused(prepared, tmp_path / "out", **row)
    assert "case case_05 was predicted by a model that trained on it" in line
    assert "split.file" in line


def test_another_split_is_refused_with_or_without_its_file(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    first = {"train": ["case_00", "case_05"], "validation": [], "test": ["case_04"]}
    second = {"train": ["case_00", "case_04"], "validation": [], "test": ["case_05"]}
    model = nnunet_results(tmp_path, labels, [first, second], names=NAMES)
    row = {"predictions": str(model), "layout": "nnunet"}
    words = "split differs: the study tests case case_05 in fold 0"
    assert words in refused(prepared, tmp_path / "out", **row)
    (tmp_path / "nnUNet_preprocessed/Dataset004_Phantom/splits_final.json").unlink()
    assert words in refused(prepared, tmp_path / "out", **row)
    predict(labels, ["case_04"], model / "fold_1/validation")
    assert "predicted twice" in refused(prepared, tmp_path / "out", **row)


def test_folders_that_are_no_training_of_nnunet_are_refused(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    model, out = nnunet_results(tmp_path, labels, [fold], names=NAMES), tmp_path / "out"
    line = refused(prepared, out, predictions=str(model.parent), layout="nnunet")
    assert f"Name {model}" in line
    (model / "fold_0").rename(model / "fold_3")
    line = refused(prepared, out, predictions=str(model), layout="nnunet")
    assert "fold_0/validation does not exist (fold_3)" in line
    (model / "fold_3").rename(model / "fold_all")
    line = refused(prepared, out, predictions=str(model), layout="nnunet")
    assert "trained on every case" in line


def test_a_split_file_that_is_missing_or_has_fewer_folds_is_refused(
    prepared: Path, labels: Path, fold: dict[str, Any], tmp_path: Path
) -> None:
    model, out = nnunet_results(tmp_path, labels, [fold], names=NAMES), tmp_path / "out"
    row = {"predictions": str(model), "layout": "nnunet"}
    line = refused(prepared, out, **row, splits=str(tmp_path / "none.json"))
    assert line.startswith("external.theirs.splits: ")
    (tmp_path / "few.json").write_text("[]")
    line = refused(prepared, out, **row, splits=str(tmp_path / "few.json"))
    assert "0 folds" in line
    (tmp_path / "few.json").write_text('[{"train": ["a"]}]')
    assert "val" in refused(prepared, out, **row, splits=str(tmp_path / "few.json"))


def test_the_digest_is_about_the_test_cases_of_the_fold(labels: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    predict(labels, ["case_03", "case_04"], theirs)
    settings = ExternalSettings(str(theirs))
    before = source_digest(settings, "x", 0, ["case_04", "case_05"])
    predict(labels, ["case_03"], theirs, same)
    assert source_digest(settings, "x", 0, ["case_04", "case_05"]) == before
    predict(labels, ["case_05"], theirs)
    added = source_digest(settings, "x", 0, ["case_04", "case_05"])
    predict(labels, ["case_04"], theirs, same)
    edited = source_digest(settings, "x", 0, ["case_04", "case_05"])
    assert len({before, added, edited}) == 3
    assert source_digest(ExternalSettings("/nowhere"), "x", 0, None) == ""


def test_a_repeated_step_removes_masks_that_are_gone(
    prepared: Path, labels: Path, tmp_path: Path
) -> None:
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    predict(labels, ["case_04", "case_05"], theirs)
    assert len(take(prepared, out, predictions=str(theirs))) == 2
    (theirs / "case_05.nii.gz").unlink()
    assert list(take(prepared, out, predictions=str(theirs))) == ["case_04"]


def test_the_command_takes_a_row_of_a_configuration_and_states_its_cost(
    prepared: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(labels, ["case_04", "case_05"], tmp_path / "theirs")
    config = tmp_path / "study.yaml"
    config.write_text(
        f"""
study: x
dataset: {{name: mine, path: {prepared / "raw"}, channels: [MRI], labels: {{inner: 1, outer: 2}}}}
external:
  theirs: {{predictions: {tmp_path / "theirs"}, cost: {{parameters: 7, memory_mib: 2}}}}
"""
    )
    words = ["external", "--config", str(config), "--preset"]
    grid = ["--manifest", str(prepared / "prepared/manifest.json")]
    grid += ["--splits", str(prepared / "splits.json"), "--out", str(tmp_path / "out/predictions")]
    assert main([*words, "theirs", *grid]) == 0
    assert len(list((tmp_path / "out/predictions").glob("*.nii.gz"))) == 2
    assert main([*words, "theirs", "--out", str(tmp_path / "efficiency.json")]) == 0
    cost = json.loads((tmp_path / "efficiency.json").read_text())
    assert (cost["parameters"], cost["macs"], cost["latency"]) == (7, None, [])
    assert cost["peak_measured_bytes"] == 2 * 2**20
    assert main([*words, "their", *grid]) == 2
    assert "external.their: is not configured" in capsys.readouterr().err


@pytest.mark.parametrize(("pixel_mm", "column"), [(None, "hd95_px"), (0.25, "hd95")])
def test_masks_of_pictures_are_taken_at_their_pixel_size(
    tmp_path: Path, pixel_mm: float | None, column: str
) -> None:
    disk = sum((axis - 10) ** 2 for axis in np.indices((20, 24))) < 25
    for part, grey in (("images", 50 + 100 * disk), ("masks", disk)):
        (tmp_path / part).mkdir()
        Image.fromarray(grey.astype(np.uint8)).save(tmp_path / part / "a.png")
    settings = DatasetSettings(name="x", path=str(tmp_path), pixel_mm=pixel_mm)
    dataset = open_dataset(tmp_path, settings)
    prepare_dataset(dataset, PreprocessSettings(), tmp_path / "prepared", log=lambda _: None)
    fold = {"train": [], "validation": [], "test": ["a"]}
    content = {"seed": 0, "held_out": [], "folds": [fold]}
    (tmp_path / "splits.json").write_text(json.dumps(content))
    take(tmp_path, tmp_path / "out", predictions=str(tmp_path / "masks"))
    evaluate_run(
        tmp_path / "prepared/manifest.json",
        tmp_path / "splits.json",
        tmp_path / "out/predictions",
        run=EvaluatedRun("theirs", 0, 0),
        settings=EvaluateSettings(),
        out=tmp_path / "metrics.csv",
        log=lambda _: None,
    )
    with open(tmp_path / "metrics.csv", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (float(row["dice"]), float(row[column])) == (1, 0)
