"""A folder of pictures, each a case: from import to metrics by the study's own commands."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lunet.cli import main
from lunet.study.study import Study, study_of

STUDY = {
    "study": "pictures",
    "dataset": {
        "name": "mine",
        "labels": {"disk": 1},
        "channels": ["grey"],
        "dimensions": 2,
        "groups": r"^(\d+)_",
    },
    "preprocess": {"window": [0, 255], "normalise": "minmax", "size": [32, 32]},
    "split": {"folds": 2, "validation": 0.3},
    "presets": ["unet2d_2f"],
    "folds": [0],
    "train": {
        "epochs": 2,
        "batch_size": 2,
        "grad_accumulation": 1,
        "engine": {
            "device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"
        },
    },
    "predict": {"probabilities": True},
    "lesions": {"enabled": True},
}  # fmt: skip


RUN = "runs/unet2d_2f/fold-0/seed-0"


def pictures(folder: Path) -> Path:
    """Twelve pictures of six subjects, 28 x 31 pixels, each with one bright disk."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    rows, columns = np.indices((28, 31))
    for number in range(12):
        centre = rng.uniform(10, 18, 2)
        disk = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 36
        grey = np.clip(60 + 120 * disk + rng.normal(0, 15, disk.shape), 0, 255).astype(np.uint8)
        name = f"{number // 2}_{number}.png"
        Image.fromarray(grey).save(folder / "images" / name)
        Image.fromarray((255 * disk).astype(np.uint8)).save(folder / "masks" / name)
    return folder


def step(study: Study, name: str, *words: object) -> None:
    settings = json.dumps(study.sections(name, "unet2d_2f"))
    assert main([name, *map(str, words), "--settings", settings]) == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    source = pictures(root / "source")
    words = ["import", str(source), "--labels", "disk=1", "--channels", "grey", "--groups"]
    assert main([*words, r"^(\d+)_", "--out", str(root / "raw")]) == 0
    study = study_of(STUDY | {"dataset": STUDY["dataset"] | {"path": str(root / "raw")}})
    manifest, splits = root / "prepared/manifest.json", root / "splits.json"
    data = ("--manifest", manifest, "--splits", splits, "--fold", 0)
    step(study, "audit", root / "raw", "--out", root / "audit")
    step(study, "preprocess", root / "raw", "--out", root / "prepared")
    step(study, "folds", "--manifest", manifest, "--out", splits)
    step(study, "train", *data, "--seed", 0, "--work", root / "state", "--out", root / RUN)
    predictions = root / RUN / "predictions"
    step(study, "predict", *data, "--weights", root / RUN, "--out", predictions)
    named = (*data, "--preset", "unet2d_2f", "--seed", 0, "--predictions", predictions)
    step(study, "evaluate", *named, "--out", root / RUN / "metrics.csv")
    froc = root / RUN / "froc.csv"
    step(study, "lesions", *named, "--out", root / RUN / "lesions.csv", "--froc", froc)
    return root / RUN


def test_a_row_per_picture_and_subjects_kept_apart(run: Path) -> None:
    with open(run / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    fold = json.loads((run.parents[3] / "splits.json").read_text())["folds"][0]
    assert sorted(row["case"] for row in rows) == sorted(fold["test"])
    subjects = [{name.split("_")[0] for name in fold[part]} for part in ("train", "test")]
    assert not subjects[0] & subjects[1]
    with open(run / "lesions.csv", newline="") as stream:
        assert {row["lesions"] for row in csv.DictReader(stream)} == {"1"}


def test_the_examples_are_drawn(run: Path, tmp_path: Path) -> None:
    words = ["figure", "examples", "--inputs", str(run / "metrics.csv"), "--out"]
    manifest = ["--manifest", str(run.parents[3] / "prepared/manifest.json")]
    assert main([*words, str(tmp_path / "examples"), *manifest]) == 0
    assert (tmp_path / "examples.png").stat().st_size


def test_the_mask_of_a_picture_is_a_picture_of_its_name_and_size(run: Path) -> None:
    masks = sorted((run / "predictions").glob("*.png"))
    assert len(masks) == len(
        json.loads((run / "predictions/predictions.json").read_text())["cases"]
    )
    for path in masks:
        with (
            Image.open(path) as mask,
            Image.open(run.parents[3] / "raw/imagesTr" / path.name) as image,
        ):
            assert mask.size == image.size


def test_distances_of_pictures_are_in_pixels(run: Path, tmp_path: Path) -> None:
    with open(run / "metrics.csv", newline="") as stream:
        columns = next(csv.reader(stream))
    assert {"hd95_px", "nsd_1_px", "volume_error_px"} <= set(columns)
    assert not {"hd95", "nsd_1", "volume_error_ml"} & set(columns)
    inputs = ["--inputs", str(run / "metrics.csv"), str(run / "run.json")]
    settings = '{"statistics": {"metric": "hd95", "margin": 1}}'
    for name in ("accuracy", "detection", "failures"):
        words = ["table", name, *inputs, "--settings", settings, "--out", str(tmp_path / name)]
        assert main(words) == 0
        text = (tmp_path / f"{name}.md").read_text() + (tmp_path / f"{name}.csv").read_text()
        assert "HD95 (px)" in text
        assert not re.search(r"\bmm\b|\bml\b|_ml", text)
    words = ["figure", "bland_altman", *inputs, "--out", str(tmp_path / "agreement")]
    assert main(words) == 0
    assert "mean_px" in (tmp_path / "agreement.csv").read_text()


def test_the_report_speaks_of_pixels(run: Path, tmp_path: Path) -> None:
    words = ["report", "--inputs", str(run / "metrics.csv"), str(run / "run.json")]
    words += ["--manifest", str(run.parents[3] / "prepared/manifest.json")]
    folders = ["--tables", str(tmp_path), "--figures", str(tmp_path)]
    assert main([*words, *folders, "--out", str(tmp_path / "report.html")]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "in pixels (no physical size is known)" in text
    assert " mm" not in text.partition("</style>")[2]
