"""Real slices with lung tumours, from PNG and JPEG files to masks: import, overfit, prediction."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_training
from PIL import Image

from lunet.cli import main
from lunet.data.prepared import read_manifest
from lunet.files import write_json
from lunet.study.presets import find_preset
from lunet.training.recipe import Engine, Optimiser, Recipe, Schedule
from lunet.training.run import run_training

pytestmark = pytest.mark.slow
GROUPS = r"^(\d+)_"


def most_tumour(source: Path, count: int) -> list[str]:
    """Stems of the PNG slices with most tumour pixels."""
    sizes = {
        path.stem: int(np.count_nonzero(np.asarray(Image.open(path))))
        for path in (source / "masks").glob("*.png")
    }
    return sorted(sizes, key=lambda name: -sizes[name])[:count]


@pytest.fixture(scope="module")
def prepared(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four slices with most tumour, imported and prepared at 2 x 2 pixels."""
    source, root = real_data / "lung_tumour_slices", tmp_path_factory.mktemp("slices")
    names = most_tumour(source, 4)
    for name in names:
        for part in ("images", "masks"):
            (root / "four" / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part / f"{name}.png", root / "four" / part)
    words = ["import", str(root / "four"), "--labels", "tumour=1", "--groups", GROUPS]
    assert main([*words, "--out", str(root / "raw")]) == 0
    settings = ["dataset.name=four", f"dataset.path={root / 'raw'}", "dataset.dimensions=2"]
    settings += ["dataset.labels={tumour: 1}", "dataset.channels=[image]"]
    settings += ["preprocess.spacing=[2, 2]", "preprocess.window=[0, 255]"]
    settings += ["preprocess.normalise=minmax", "preprocess.orientation=keep"]
    words = ["preprocess", str(root / "raw"), "--out", str(root / "prepared")]
    assert main([*words, *(word for text in settings for word in ("--set", text))]) == 0
    fold = {"train": names, "validation": names, "test": names}
    write_json(root / "prepared/splits.json", {"seed": 0, "held_out": [], "folds": [fold]})
    return root / "prepared"


@pytest.fixture(scope="module")
def overfitted(prepared: Path) -> Path:
    """A small network that was trained on nothing but the four slices."""
    recipe = Recipe(
        epochs=160,
        batch_size=4,
        validate_every=10,
        optimiser=Optimiser("adam", 1e-2),
        schedule=Schedule("cosine"),  # at a constant rate it depends on luck when one stops
        loss={"dice_bce_2d": 1.0},
        engine=Engine("cpu", "fp32", "channels_last", "off", threads=1),
    )
    preset = find_preset("lattention_unet2d_12f")
    model = {"module": preset.module, "name": preset.network, "arguments": preset.arguments}
    task = read_manifest(prepared).task
    place = prepared.parent / "run"
    run_training(
        tiny_training.job(prepared, place, recipe, task=task, model=model | {"preset": "small"})
    )
    return place / "out"


def test_four_slices_are_learnt_by_heart(overfitted: Path) -> None:
    with open(overfitted / "history.csv", newline="") as stream:
        scores = [float(row["dice"]) for row in csv.DictReader(stream) if row["dice"]]
    assert max(scores) > 0.8


def test_prediction_of_a_folder_with_threshold_and_overlay(
    overfitted: Path, prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    four, out = prepared.parent / "four", tmp_path / "out"
    words = ["predict", "--weights", str(overfitted), str(four / "images"), "--device", "cpu"]
    assert main([*words, "--out", str(out), "--threshold", "0.5", "--overlay"]) == 0
    assert "something labelled in 4 of 4 image(s)" in capsys.readouterr().err
    pictures = ["--reference", str(four / "masks"), "--reference-map", "255=1"]
    table = str(tmp_path / "metrics.csv")
    pictures += ["--prediction", str(out), "--labels", "tumour=1", "--out", table]
    (out / "overlays").rename(tmp_path / "overlays")
    assert main(["evaluate", *pictures]) == 0
    with open(table, newline="") as stream:
        scores = [float(row["dice"]) for row in csv.DictReader(stream)]
    assert len(scores) == 4
    assert np.mean(scores) > 0.75  # at full resolution; the network saw half of it
    for path in (four / "images").iterdir():
        mask = np.asarray(Image.open(out / path.name))
        shown = np.asarray(Image.open(tmp_path / "overlays" / f"{path.stem}_overlay.png"))
        assert shown.shape == (*mask.shape, 3)
        coloured = (shown.max(axis=2) != shown.min(axis=2)).astype(np.uint8)
        np.testing.assert_array_equal(coloured, mask)
    assert main([*words, "--out", str(tmp_path / "sure"), "--threshold", "0.95"]) == 0
    sizes = [
        sum(int(np.count_nonzero(np.asarray(Image.open(p)))) for p in folder.glob("*.png"))
        for folder in (tmp_path / "sure", out)
    ]
    assert 0 < sizes[0] < sizes[1]


def test_a_jpeg_slice_is_read_like_a_png(overfitted: Path, real_data: Path, tmp_path: Path) -> None:
    image = next((real_data / "lung_tumour_slices/jpeg/images").glob("*.jp*g"))
    words = ["predict", "--weights", str(overfitted), str(image), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    mask = np.asarray(Image.open(tmp_path / f"{image.stem}.png"))
    assert mask.shape == np.asarray(Image.open(image)).shape[:2]
    assert set(np.unique(mask)) <= {0, 1}
