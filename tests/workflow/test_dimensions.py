"""A 2D and a 3D network in one study, by the workflow: from the phantom to the claims."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from paths import ROOT

ENGINE = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"}
STUDY = {
    "study": "both",
    "dataset": {"name": "phantom", "phantom": {"subjects": 6, "scale": 0.5}},
    "preprocess": {"size": [32, 32, 32], "crop_labels": True},
    "split": {"folds": 2, "validation": 0.3},
    "variants": {
        "flat": {"base": "unet_small_1f", "dimensions": 2, "train": {"batch_size": 8}},
    },
    "presets": ["unet_small_1f", "flat"],
    "folds": [0],
    "seeds": [0],
    "prior": False,
    "train": {"epochs": 1, "batch_size": 1, "engine": ENGINE},
    "statistics": {"reference": "unet_small_1f", "resamples": 100},
    "efficiency": {
        "size": [32, 32, 32], "processes": 1, "warmups": 1, "repeats": 5, "batches": [1],
        "throughput_batch": 1, "memory_batches": [], "training_step": False,
    },
}  # fmt: skip
TARGETS = [f"results/both/tables/{name}.csv" for name in ("claims", "joint", "accuracy")]


def snakemake(root: Path, *words: str) -> str:
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY))
    command = [sys.executable, "-m", "snakemake", *TARGETS, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "2", "--configfile", "study.yaml", *words]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    logs = "".join(log.read_text() for log in root.glob("results/both/logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def test_both_share_one_preparation(tmp_path: Path) -> None:
    plan = snakemake(tmp_path, "--dry-run")
    jobs = [line.removeprefix("rule ").rstrip(":") for line in plan.splitlines()]
    assert jobs.count("preprocess") == 1
    assert jobs.count("train") == jobs.count("evaluate") == 2


@pytest.mark.slow
def test_both_are_trained_and_compared_as_volumes(tmp_path: Path) -> None:
    snakemake(tmp_path)
    with open(tmp_path / TARGETS[0], newline="") as stream:
        claims = list(csv.DictReader(stream))
    assert {row["preset"] for row in claims} == {"flat"}
    with open(tmp_path / TARGETS[1], newline="") as stream:
        costs = {row["preset"]: float(row["gmacs"]) for row in csv.DictReader(stream)}
    assert 0 < costs["flat"] < costs["unet_small_1f"]
