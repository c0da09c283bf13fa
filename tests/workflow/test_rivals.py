"""A study with a rival: its jobs, what repeats them, and the whole way with a stand-in."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mist_stand_in import make_mist_environment
from nnunet_stand_in import make_environment
from paths import ROOT

from lunet.study.study import study_of

ENGINE = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"}
ROWS = ["unet_small_1f", "nnunet"]


class Names:
    """Wildcards of Snakemake."""

    def __init__(self, preset: str) -> None:
        self.preset = preset


def study(python: Path | str, /, **changes: Any) -> dict[str, Any]:
    rival = {"python": str(python), "epochs": 2, "iterations": 3} | changes
    return {
        "study": "x",
        "dataset": {
            "name": "phantom",
            "phantom": {"kind": "hippocampus", "subjects": 6, "scale": 0.5},
        },
        "preprocess": {"size": [16, 24, 16]},
        "split": {"folds": 3},
        "presets": ["unet_small_1f"],
        "folds": [0, 1],
        "seeds": [0],
        "train": {"epochs": 1, "batch_size": 4, "engine": ENGINE},
        "rivals": {"nnunet": rival, "other": rival | {"epochs": 5}},
        "statistics": {"reference": "nnunet", "resamples": 100, "margin": 0.05},
        "efficiency": {
            "size": [16, 24, 16],
            "warmups": 1,
            "repeats": 5,
            "processes": 1,
            "budget_s": 0.1,
            "throughput_batch": 0,
        },
    }


def snakemake(root: Path, config: dict[str, Any], *words: str, fails: bool = False) -> str:
    (root / "study.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", *words, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "2", "--configfile", "study.yaml"]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in root.glob("results/*/logs/**/*.log"))
    assert (done.returncode != 0) == fails, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def jobs(text: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


def test_more_epochs_of_a_rival_are_a_change_of_its_training_only() -> None:
    steps = ("rival_export", "rival_plan", "rival_train", "rival_cost", "train", "efficiency")

    def settings(**changes: Any) -> dict[str, str]:
        found = study_of(study("python", **changes))
        names = {step: "unet_small_1f" if step in ("train", "efficiency") else "nnunet"
                 for step in steps}  # fmt: skip
        return {step: found.settings(step)(Names(names[step])) for step in steps} | {
            "other": found.settings("rival_train")(Names("other"))
        }

    before = settings()
    assert settings(python="elsewhere") == before
    after = settings(epochs=9)
    assert [step for step in after if after[step] != before[step]] == ["rival_train"]
    after = settings(network="resenc_m")
    changed = {step for step in after if after[step] != before[step]}
    assert changed == {"rival_plan", "rival_train", "rival_cost", "other"}


def test_the_jobs_of_a_rival(tmp_path: Path) -> None:
    """One of nnU-Net and one of MIST, which have the same."""
    config = study(make_environment(tmp_path / "nnunet"))
    mist = str(make_mist_environment(tmp_path / "mist"))
    config["rivals"]["other"] |= {"python": mist, "network": "mist_pocket"}
    found = jobs(snakemake(tmp_path, config, "--dry-run"))
    assert found["rival_export"] == 1
    assert found["rival_plan"] == found["rival_cost"] == 2
    assert found["rival_train"] == found["rival"] == 4
    assert found["train"] == 2
    assert "external" not in found


def test_without_nnunet_nothing_starts(tmp_path: Path) -> None:
    told = snakemake(tmp_path, study(tmp_path / "python"), "--dry-run", fails=True)
    assert "rivals.nnunet.python" in told
    assert "cannot be started" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_rival_is_trained_compared_and_reported(tmp_path: Path) -> None:
    """The whole workflow with one rival, and then more epochs of it."""
    config = study(make_environment(tmp_path / "nnunet"))
    del config["rivals"]["other"]
    snakemake(tmp_path, config)
    results = tmp_path / "results/x"
    with open(results / "tables/claims.csv", encoding="utf-8", newline="") as stream:
        claims = list(csv.DictReader(stream))
    assert {(row["preset"], row["reference"]) for row in claims} == {("unet_small_1f", "nnunet")}
    assert all("nnunet was trained once in each fold" in row["sentence"] for row in claims)
    assert not any("made elsewhere" in row["sentence"] for row in claims)
    with open(results / "tables/joint.csv", encoding="utf-8", newline="") as stream:
        costs = {row["preset"]: row for row in csv.DictReader(stream)}
    assert float(costs["nnunet"]["parameters"]) == 84
    assert float(costs["nnunet"]["latency_p50_ms"]) > 0
    page = (results / "report.html").read_text()
    assert "planned, trained and used for prediction by its own code" in page
    assert "trained by this study for 2 epochs of 3 steps" in page
    assert "no case was predicted by a model of nnunet that trained on it" in page
    run = json.loads((results / "runs/nnunet/fold-1/seed-0/run.json").read_text())
    assert run["external"]["training"]["epochs"] == 2
    assert "Nothing to be done" in snakemake(tmp_path, config)
    config["rivals"]["nnunet"]["epochs"] = 3
    again = jobs(snakemake(tmp_path, config, "--dry-run", "results/x/tables/accuracy.csv"))
    assert again["rival_train"] == again["rival"] == 2
    assert not {"train", "predict", "rival_plan", "rival_export", "preprocess"} & set(again)
