"""One study of 2D and 3D networks: each sees its form of the data, all are compared as volumes."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest
import tiny_dataset as tiny

from lunet.cli import main
from lunet.errors import ConfigError
from lunet.study.study import Study, study_of

ENGINE = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"}
NAMES = ["unet_small_1f", "flat"]
FLIPS = {"flip_axes": [0, 2], "flip_p": [0.5, 0.1]}
STUDY = {
    "study": "both",
    "dataset": {"name": "mine", "labels": {"front": 1, "back": 2}, "channels": ["MRI"]},
    "preprocess": {"size": [32, 32, 16]},
    "split": {"folds": 2, "validation": 0.3},
    "variants": {
        "flat": {"base": "unet2d_2f", "dimensions": 2, "train": {"batch_size": 4}},
        "same": {"base": "unet_small_1f", "dimensions": 2},
    },
    "presets": ["unet_small_1f", "flat", "same"],
    "folds": [0],
    "recipe": "paper_small",
    "train": {
        "epochs": 2, "batch_size": 1, "patch": [16, 32, 16], "engine": ENGINE,
        "augmentation": FLIPS,
    },
    "predict": {"flip_axes": [0, 2]},
    "statistics": {"reference": "unet_small_1f", "resamples": 100},
    "efficiency": {
        "size": [32, 32, 16], "processes": 1, "warmups": 1, "repeats": 5, "training_step": False,
        "batches": [1], "memory_batches": [], "throughput_batch": 1,
    },
}  # fmt: skip


def study(**changes: object) -> Study:
    return study_of(STUDY | {"dataset": STUDY["dataset"] | {"path": "raw"}} | changes)


def test_each_network_has_the_task_and_recipe_of_its_dimensions() -> None:
    both = study()
    assert both.sections("train", "unet_small_1f")["task"]["dimensions"] == 3
    flat = both.sections("train", "flat")
    assert flat["task"]["dimensions"] == 2
    assert flat["recipe"]["patch"] == [16, 32]
    assert flat["recipe"]["augmentation"]["flip_axes"] == [0]
    assert flat["recipe"]["augmentation"]["flip_p"] == [0.5]
    assert both.sections("predict", "flat")["predict"]["flip_axes"] == [0]
    assert both.sections("preprocess")["task"]["dimensions"] == 3
    stated = both.sections("register")["networks"]
    assert stated["same"]["dimensions"] == 2
    assert "dimensions" not in stated["unet_small_1f"]


def test_a_2d_preset_among_volumes_names_the_key() -> None:
    with pytest.raises(ConfigError, match="dimensions: 2"):
        study(presets=["unet2d_2f"], variants={})


def test_one_plan_cannot_serve_both() -> None:
    with pytest.raises(ConfigError, match="one patch and batch for all networks"):
        study(plan="auto")
    with pytest.raises(ConfigError, match="one patch and batch for all networks"):
        study(plan="auto", presets=["same"], statistics={})


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study by its own commands, on tiny volumes."""
    root = tmp_path_factory.mktemp("both")
    raw, out = tiny.make(root / "raw"), root / "results"
    both = study(dataset=STUDY["dataset"] | {"path": str(raw)})
    manifest, splits = root / "prepared/manifest.json", out / "splits.json"
    data = ("--manifest", manifest, "--splits", splits, "--fold", 0)

    def step(name: str, preset: str | None, *words: object) -> None:
        settings = json.dumps(both.sections(name, preset))
        assert main([name, *map(str, words), "--settings", settings]) == 0

    step("preprocess", None, raw, "--out", root / "prepared")
    step("folds", None, "--manifest", manifest, "--out", splits)
    for preset in NAMES:
        run = out / f"runs/{preset}/fold-0/seed-0"
        step("train", preset, *data, "--seed", 0, "--work", root / "state" / preset, "--out", run)
        step("predict", preset, *data, "--weights", run, "--out", run / "predictions")
        named = (*data, "--preset", preset, "--seed", 0, "--predictions", run / "predictions")
        step("evaluate", preset, *named, "--out", run / "metrics.csv")
        step("efficiency", preset, "--out", out / f"presets/{preset}/efficiency.json")
    return out


def test_all_are_compared_as_volumes(results: Path) -> None:
    tables = {path.parts[-4]: pd.read_csv(path) for path in results.glob("runs/*/*/*/metrics.csv")}
    assert set(tables) == set(NAMES)
    truth = tables["unet_small_1f"]
    for preset, table in tables.items():
        assert table["case"].tolist() == truth["case"].tolist()
        pd.testing.assert_series_equal(table["volume_reference_ml"], truth["volume_reference_ml"])
        for path in results.glob(f"runs/{preset}/*/*/predictions/*.nii.gz"):
            assert nib.load(path).shape == tiny.SHAPE


def test_costs_are_those_of_a_volume(results: Path, tmp_path: Path) -> None:
    grid = ["--results", str(results), "--presets", *NAMES]
    statistics = json.dumps({"statistics": STUDY["statistics"]})
    for table in ("efficiency", "claims"):
        words = ["table", table, *grid, "--settings", statistics, "--out", str(tmp_path / table)]
        assert main(words) == 0
    shown = pd.read_csv(tmp_path / "efficiency.csv").set_index("preset")
    for name, slices in zip(NAMES, (1, 16), strict=True):
        cost = json.loads((results / f"presets/{name}/efficiency.json").read_text())
        assert len(cost["size"]) == (3 if slices == 1 else 2)
        assert shown.loc[name, "gmacs"] == pytest.approx(slices * cost["macs"] / 1e9)
    assert "flat: its 16 slices" in (tmp_path / "efficiency.md").read_text()
    assert "flat" in (tmp_path / "claims.md").read_text()
