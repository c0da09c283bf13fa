"""Evaluation of runs and folders: pairing, missing and extra files, grids, maps."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from prepared_cases import AFFINE, label_of, make_prepared

from lunet.cli import main
from lunet.errors import DataError
from lunet.evaluation.evaluation import EvaluatedRun, Folders, evaluate_folders, evaluate_run
from lunet.metrics.case import evaluate_case
from lunet.metrics.settings import EvaluateSettings

SETTINGS = EvaluateSettings(tolerances=(1.0, 2.0))
STRUCTURES = {"inner": (1,), "all": (1, 2)}


def save(path: Path, mask: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(mask, affine), path)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_prepared(folder)
    return folder


def evaluate(study: Path, predictions: Path, out: Path) -> list[dict[str, str]]:
    evaluate_run(
        study / "prepared" / "manifest.json",
        study / "splits.json",
        predictions,
        run=EvaluatedRun("p", 0, 7),
        settings=SETTINGS,
        out=out,
        log=lambda _: None,
    )
    return read(out)


def test_rows_of_a_run(study: Path, tmp_path: Path) -> None:
    shifted = np.roll(label_of(4), 1, axis=0)
    save(tmp_path / "p" / "case_04.nii.gz", shifted)
    save(tmp_path / "p" / "case_05.nii.gz", label_of(5))
    rows = evaluate(study, tmp_path / "p", tmp_path / "m.csv")
    assert list(rows[0])[:6] == ["preset", "fold", "seed", "case", "group", "label"]
    assert [(r["case"], r["label"]) for r in rows] == [
        (case, label) for case in ("case_04", "case_05") for label in ("inner", "outer")
    ]
    assert {(r["preset"], r["fold"], r["seed"]) for r in rows} == {("p", "0", "7")}
    assert [float(r["dice"]) for r in rows[2:]] == [1, 1]
    expected = evaluate_case(
        label_of(4), shifted, spacing=(1.5, 1, 2), labels={"inner": 1}, tolerances=(1.0, 2.0)
    ).iloc[0]
    for column in ("dice", "hd95", "assd", "nsd_1", "nsd_2", "volume_error_ml"):
        assert float(rows[0][column]) == pytest.approx(expected[column])


def test_a_missing_prediction_is_a_miss(study: Path, tmp_path: Path) -> None:
    save(tmp_path / "p" / "case_05.nii.gz", label_of(5))
    rows = evaluate(study, tmp_path / "p", tmp_path / "m.csv")
    assert [r["status"] for r in rows] == ["missed", "missed", "ok", "ok"]
    assert [float(r["dice"]) for r in rows] == [0, 0, 1, 1]
    diagonal = np.linalg.norm(np.array([18, 20, 16]) * (1.5, 1, 2))
    assert float(rows[0]["hd95"]) == pytest.approx(diagonal)


@pytest.mark.parametrize("stranger", ["case_00", "somebody"])
def test_a_prediction_of_no_expected_case_is_refused(
    study: Path, tmp_path: Path, stranger: str
) -> None:
    save(tmp_path / "p" / f"{stranger}.nii.gz", label_of(0))
    with pytest.raises(DataError, match=stranger):
        evaluate(study, tmp_path / "p", tmp_path / "m.csv")
    assert not (tmp_path / "m.csv").exists()


def test_no_predictions_at_all(study: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(DataError, match="no predictions at all"):
        evaluate(study, tmp_path / "p", tmp_path / "m.csv")


def test_another_grid_is_refused(study: Path, tmp_path: Path) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += 1
    for mask, affine, words in (
        (label_of(4)[:-1], AFFINE, "shape"),
        (label_of(4), moved, "grid is 1 mm away"),
    ):
        save(tmp_path / "p" / "case_04.nii.gz", mask, affine)
        with pytest.raises(DataError, match=words):
            evaluate(study, tmp_path / "p", tmp_path / "m.csv")


def folders(tmp_path: Path, **more: object) -> Folders:
    return Folders(tmp_path / "r", tmp_path / "p", STRUCTURES, **more)


def test_any_two_folders(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "r" / f"c{number}.nii.gz", label_of(number))
    save(tmp_path / "p" / "c0.nii", label_of(0))  # another suffix, the same case
    save(tmp_path / "p" / "c1.nii.gz", np.zeros_like(label_of(1)))
    evaluate_folders(folders(tmp_path), SETTINGS, tmp_path / "m.csv", log=lambda _: None)
    rows = read(tmp_path / "m.csv")
    assert list(rows[0])[:2] == ["case", "label"]
    assert [(r["case"], r["label"], r["status"]) for r in rows] == [
        ("c0", "inner", "ok"),
        ("c0", "all", "ok"),
        ("c1", "inner", "missed"),
        ("c1", "all", "missed"),
        ("c2", "inner", "missed"),
        ("c2", "all", "missed"),
    ]


def test_the_command_prints_the_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        save(tmp_path / "r" / f"c{number}.nii.gz", label_of(number))
    save(tmp_path / "p" / "c0.nii.gz", label_of(0))
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/p"]
    assert main([*words, "--labels", "inner=2", "--out", f"{tmp_path}/m.csv"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("inner: mean Dice 0.5, ")
    assert line.endswith("(1 ok, 1 missed)")


def test_extra_predictions_are_an_error_or_counted(tmp_path: Path) -> None:
    save(tmp_path / "r" / "a.nii.gz", label_of(0))
    save(tmp_path / "p" / "a.nii.gz", label_of(0))
    save(tmp_path / "p" / "b.nii.gz", label_of(0))
    with pytest.raises(DataError, match=r"1 prediction.*--ignore-extra"):
        evaluate_folders(folders(tmp_path), SETTINGS, tmp_path / "m.csv", log=lambda _: None)
    lines: list[str] = []
    evaluate_folders(
        folders(tmp_path, ignore_extra=True), SETTINGS, tmp_path / "m.csv", log=lines.append
    )
    assert "1 prediction(s) without a reference" in lines[0]
    assert len(read(tmp_path / "m.csv")) == 2


def test_names_without_voxels_and_values_without_name_are_told(tmp_path: Path) -> None:
    for folder in "rp":
        save(tmp_path / folder / "a.nii.gz", label_of(1))
    lines: list[str] = []
    mistaken = Folders(tmp_path / "r", tmp_path / "p", {"inner": (1,), "slip": (7,)})
    evaluate_folders(mistaken, SETTINGS, tmp_path / "m.csv", log=lines.append)
    assert lines[:3] == [
        "warning: slip=7 is in no file; references and predictions hold 1, 2",
        "warning: values without a label in the references are not scored: "
        "2; if this is slip, add --reference-map 2=7",
        "warning: values without a label in the predictions are not scored: "
        "2; if this is slip, add --map 2=7",
    ]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("white", "more", "advice"),
    [
        ("r", ["--labels", "organ=1"], ["--reference-map", "255=1"]),
        ("p", ["--labels", "organ=1"], ["--map", "255=1"]),
        ("p", [], ["--map", "255=1"]),
        ("r", [], ["--map", "1=255"]),
    ],
)
def test_masks_of_0_and_255_are_told_how_to_match(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    white: str,
    more: list[str],
    advice: list[str],
) -> None:
    for folder in "rp":
        disk(tmp_path / folder / "a.png", (0, 255 if folder == white else 1))
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/p"]
    words += [*more, "--out", f"{tmp_path}/m.csv"]
    assert main(words) == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "warning" in line)
    assert line.endswith("add " + " ".join(advice))
    assert main([*words, *advice]) == 0
    assert "warning" not in capsys.readouterr().err
    assert float(read(tmp_path / "m.csv")[0]["dice"]) == 1


def test_maps_of_a_cross_data_set_test(tmp_path: Path) -> None:
    """A network with one label (5) against references with two parts of it."""
    save(tmp_path / "r" / "a.nii.gz", label_of(0))
    save(tmp_path / "p" / "a.nii.gz", ((label_of(0) > 0) * 5).astype(np.uint8))
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/p"]
    words += ["--out", f"{tmp_path}/m.csv", "--labels", "whole=1"]
    assert main([*words, "--map", "5=1", "--reference-map", "2=1"]) == 0
    assert float(read(tmp_path / "m.csv")[0]["dice"]) == 1
    assert main([*words, "--map", "5=1"]) == 0
    assert float(read(tmp_path / "m.csv")[0]["dice"]) < 0.5


def test_labels_without_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a listing above the folder; else the values, also where a map changes what they mean."""
    for folder in ("labelsTr", "p"):
        save(tmp_path / folder / "a.nii.gz", label_of(0))
    words = ["evaluate", "--reference", f"{tmp_path}/labelsTr", "--prediction", f"{tmp_path}/p"]
    words += ["--out", f"{tmp_path}/m.csv"]

    def labels(*more: str) -> list[str]:
        assert main([*words, *more]) == 0
        return [row["label"] for row in read(tmp_path / "m.csv")]

    values = [f"label_{value}" for value in np.unique(label_of(0)) if value]
    assert len(values) > 1
    assert labels() == values
    listing = {"labels": {"0": "background", "1": "head", "2": "tail"}, "modality": {"0": "MRI"}}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert labels() == ["head", "tail"]
    assert "head=1 tail=2" in capsys.readouterr().err
    assert labels("--map", "2=1", "--reference-map", "2=1") == ["label_1"]
    save(tmp_path / "labelsTr" / "a.nii.gz", np.zeros_like(label_of(0)))
    (tmp_path / "dataset.json").unlink()
    assert main(words) == 2
    assert "nothing but background" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--reference", "r", "--prediction", "p"], "r: does not exist"),
        (["--reference", "r", "--labels", "a=1"], "--prediction"),
        (["--reference", "r", "--prediction", "p", "--labels", "a"], "NAME=INDEX"),
        (["--reference", "r", "--prediction", "p", "--labels", "a=1", "--map", "x=1"], "OLD=NEW"),
        (["--preset", "x"], "--manifest"),
        (["--reference", "none", "--prediction", "p", "--labels", "a=1"], "none: does not exist"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert main(["evaluate", "--out", str(tmp_path / "m.csv"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert list(tmp_path.iterdir()) == []


def test_starts_without_torch() -> None:
    code = "import sys, lunet.evaluation.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_volumes_of_a_sheared_scan_come_from_its_determinant(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[:3, 2] = [0.0, 0.6, 0.8]
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1:5, 1:5, 1:5] = 1
    for folder in ("reference", "prediction"):
        save(tmp_path / folder / "a.nii.gz", mask, sheared)
    words = ["evaluate", "--labels", "organ=1", "--out", f"{tmp_path}/m.csv"]
    words += ["--reference", f"{tmp_path}/reference", "--prediction", f"{tmp_path}/prediction"]
    assert main(words) == 0
    assert float(read(tmp_path / "m.csv")[0]["volume_ml"]) == pytest.approx(64 * 0.8 / 1000)


def disk(path: Path, values: tuple[int, int] = (0, 1)) -> Path:
    rows, columns = np.indices((20, 30))
    inside = (rows - 10) ** 2 + (columns - 12) ** 2 < 25
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(inside, values[1], values[0]).astype(np.uint8)).save(path)
    return path


def test_pictures_are_measured_in_pixels_unless_their_size_is_given(tmp_path: Path) -> None:
    disk(tmp_path / "r/a.png")
    disk(tmp_path / "p/a.png")
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/p"]
    assert main([*words, "--out", f"{tmp_path}/px.csv"]) == 0
    assert main([*words, "--pixel-mm", "0.5", "--out", f"{tmp_path}/mm.csv"]) == 0
    (px,), (mm,) = read(tmp_path / "px.csv"), read(tmp_path / "mm.csv")
    assert "hd95" not in px
    assert float(px["hd95_px"]) == float(mm["hd95"]) == 0
    assert float(mm["volume_ml"]) == pytest.approx(float(px["volume_px"]) * 0.25 / 1000)


def test_pixels_and_millimetres_do_not_mix(tmp_path: Path) -> None:
    disk(tmp_path / "r/a.png")
    save(tmp_path / "r/b.nii.gz", label_of(4))
    found = Folders(tmp_path / "r", tmp_path / "r", {"inner": (1,)})
    with pytest.raises(DataError, match="one unit in all cases"):
        evaluate_folders(found, SETTINGS, tmp_path / "m.csv", log=lambda _: None)


def test_a_threshold_turns_probabilities_into_a_mask(tmp_path: Path) -> None:
    label = label_of(4)
    save(tmp_path / "r/a.nii.gz", 2 * (label == 1).astype(np.uint8))
    maps = np.where(label == 1, 0.6, 0.2).astype(np.float32)
    save(tmp_path / "p/a.nii.gz", maps[..., None])
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/p"]
    words += ["--labels", "inner=2", "--out", f"{tmp_path}/m.csv"]
    for threshold, expected in (("0.5", 1.0), ("0.7", 0.0)):
        assert main([*words, "--threshold", threshold]) == 0
        assert [float(row["dice"]) for row in read(tmp_path / "m.csv")] == [expected]


def test_a_threshold_is_for_maps_of_one_structure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "r/a.nii.gz", label_of(4))
    words = ["evaluate", "--reference", f"{tmp_path}/r", "--prediction", f"{tmp_path}/r"]
    words += ["--threshold", "0.5", "--out", f"{tmp_path}/m.csv", "--labels"]
    assert main([*words, "inner=1", "outer=2"]) != 0
    assert "maps of one structure" in capsys.readouterr().err
    assert main([*words, "inner=1"]) != 0
    assert "probabilities from 0 to 1" in capsys.readouterr().err


def test_a_run_of_a_configuration_is_named_by_its_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "{study: s, dataset: {name: d, path: ., labels: {inner: 1}, channels: [MR]}, "
    Path("c.yaml").write_text(text + "presets: [unet_small_4f], evaluate: {tolerances: [2]}}")
    words = ["evaluate", "--config", "c.yaml", "--out", "m.csv"]
    assert main(words) == 2
    assert "--preset: missing, a preset of c.yaml: unet_small_4f" in capsys.readouterr().err
    assert main([*words, "--preset", "unet_small_4f"]) == 2
    assert "manifest.json: is missing, the evaluation needs" in capsys.readouterr().err
    # two folders take labels and tolerances from it
    for folder in "rp":
        save(tmp_path / folder / "a.nii.gz", label_of(4))
    assert main([*words, "--reference", "r", "--prediction", "p"]) == 0
    (row,) = read(tmp_path / "m.csv")
    assert row["label"] == "inner"
    assert "nsd_2" in row
    assert "nsd_1" not in row
