"""A folder of pictures, each a case: from import to metrics by the study's own commands."""

from __future__ import annotations

import csv
import json
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
    step(study, "train", *data, "--seed", 0, "--work", root / "state", "--out", root / "run")
    predictions = root / "run/predictions"
    step(study, "predict", *data, "--weights", root / "run", "--out", predictions)
    named = (*data, "--preset", "unet2d_2f", "--seed", 0, "--predictions", predictions)
    step(study, "evaluate", *named, "--out", root / "run/metrics.csv")
    froc = root / "run/froc.csv"
    step(study, "lesions", *named, "--out", root / "run/lesions.csv", "--froc", froc)
    return root / "run"


def test_a_row_per_picture_and_subjects_kept_apart(run: Path) -> None:
    with open(run / "metrics.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    fold = json.loads((run.parent / "splits.json").read_text())["folds"][0]
    assert sorted(row["case"] for row in rows) == sorted(fold["test"])
    subjects = [{name.split("_")[0] for name in fold[part]} for part in ("train", "test")]
    assert not subjects[0] & subjects[1]
    with open(run / "lesions.csv", newline="") as stream:
        assert {row["lesions"] for row in csv.DictReader(stream)} == {"1"}


def test_the_examples_are_drawn(run: Path, tmp_path: Path) -> None:
    words = ["figure", "examples", "--inputs", str(run / "metrics.csv"), "--out"]
    manifest = ["--manifest", str(run.parent / "prepared/manifest.json")]
    assert main([*words, str(tmp_path / "examples"), *manifest]) == 0
    assert (tmp_path / "examples.png").stat().st_size
