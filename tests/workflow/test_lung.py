"""The lung-tumour study from a synthetic chest to lesion-wise tables and figures, end to end."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from paths import ROOT

from lunet.errors import ConfigError
from lunet.inference.probability_maps import FOLDER
from lunet.metrics.thresholds import FROC_THRESHOLDS
from lunet.study.config import read_mapping
from lunet.study.study import study_of

DEEP_EMA = {
    "base": "attention_unet2d_2f",
    "arguments": {"deep_supervision": True},
    "train": {"deep_supervision": [1.0, 0.4, 0.2, 0.1], "ema": {"decay": 0.9, "warmup_steps": 5}},
}
PRESETS = ["lattention_unet2d_2f", "deep_ema"]


def tiny() -> dict[str, Any]:
    """The shipped study of the phantom with two tiny networks, few chests and epochs."""
    mapping = read_mapping(ROOT / "config/lung_demo.yaml")
    mapping["dataset"]["phantom"] |= {"subjects": 6}
    mapping["train"] |= {"epochs": 3, "validate_every": 1}
    mapping["train"]["engine"] |= {"memory_format": "contiguous"}
    mapping["statistics"] = {"resamples": 100}
    return mapping | {"presets": PRESETS, "variants": {"deep_ema": DEEP_EMA}, "seeds": [0]}


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lung")
    (root / "study.yaml").write_text(yaml.safe_dump(tiny()))
    out = root / "results/lung_demo"
    made = ["tables/lesions.csv", "tables/accuracy.csv", "figures/froc.svg", "figures/curves.svg"]
    made += ["presets/deep_ema/examples.png"]
    targets = [str((out / name).relative_to(root)) for name in made]
    command = [sys.executable, "-m", "snakemake", *targets, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "2", "--configfile", "study.yaml"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    logs = "".join(log.read_text() for log in out.glob("logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return out


def test_slices_are_stacked_into_masks_and_maps_of_the_scans(results: Path) -> None:
    raw = results.parents[1] / "work/lung_demo/raw"
    run = results / "runs/deep_ema/fold-0/seed-0"
    masks = sorted((run / "predictions").glob("*.nii.gz"))
    assert len(masks) == 2
    half = 1 + int(np.flatnonzero(FROC_THRESHOLDS == 0.5)[0])
    for path in masks:
        scan, mask = nib.load(raw / "imagesTr" / path.name), nib.load(path)
        steps = nib.load(path.parent / FOLDER / path.name)
        assert mask.shape == scan.shape == steps.shape[:3]
        np.testing.assert_allclose(mask.affine, scan.affine)
        likely = np.asarray(steps.dataobj).reshape(mask.shape) >= half + 1
        labelled = np.asarray(mask.dataobj) > 0
        assert labelled[likely].all()
        assert (np.asarray(steps.dataobj).reshape(mask.shape)[labelled] >= half).all()


def test_results_are_per_patient_and_per_lesion(results: Path) -> None:
    raw, label = results.parents[1] / "work/lung_demo/raw", "cancer"
    for preset in PRESETS:
        run = results / f"runs/{preset}/fold-0/seed-0"
        cases, curve = rows_of(run / "lesions.csv"), rows_of(run / "froc.csv")
        assert {row["label"] for row in cases} == {label}
        assert [row["case"] for row in rows_of(run / "metrics.csv")] == [r["case"] for r in cases]
        for row in cases:
            truth = np.asarray(nib.load(raw / f"labelsTr/{row['case']}.nii.gz").dataobj) > 0
            assert float(row["pixel_accuracy_of_nothing"]) == pytest.approx(1 - truth.mean())
            points = [point for point in curve if point["case"] == row["case"]]
            assert len(points) == 128
            assert {point["lesions"] for point in points} == {row["lesions"]}
    table = rows_of(results / "tables/lesions.csv")
    assert [row["preset"] for row in table] == PRESETS
    assert {row["patients"] for row in table} == {"2"}
    assert "uninformative" in (results / "tables/lesions.md").read_text()
    log = (results / "logs/deep_ema/fold-0/seed-0/lesions.log").read_text()
    assert "pixel accuracy 0.9" in log
    assert "uninformative" in log


def test_figures_show_the_tumour_dice_and_the_froc(results: Path) -> None:
    curves = rows_of(results / "figures/curves.csv")
    assert {"dice", "train_loss", "val_loss"} <= {row["quantity"] for row in curves}
    froc = rows_of(results / "figures/froc.csv")
    assert {row["preset"] for row in froc} == set(PRESETS)
    assert {row["seed"] for row in froc} == {"all", "0"}


def test_the_shipped_study_asks_what_it_says() -> None:
    study = study_of(read_mapping(ROOT / "config/lung.yaml"))
    found = {
        (preset.arguments["attention"], bool(recipe.deep_supervision), recipe.ema.decay > 0)
        for name, (preset, recipe) in study.presets.items()
        if not name.startswith("lattention")
    }
    assert len(found) == 8
    assert study.config.seeds == (0, 1, 2)
    assert (study.task.dimensions, "lesions" in study.tables, "froc" in study.figures) == (
        2,
        True,
        True,
    )
    for preset, other in study.config.statistics.pairs:
        assert {preset, other} <= set(study.presets)


def test_lesions_without_probabilities_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"predict\.probabilities: false"):
        study_of(tiny() | {"predict": {}})
