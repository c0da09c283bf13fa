"""A study uses a plan: a file gives way to the configuration, a step's plan wins over it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

from lunet.commands.arguments import read_settings
from lunet.data.plan import NetworkCost
from lunet.efficiency.step_cost import costliest
from lunet.errors import ConfigError
from lunet.study.config import parse
from lunet.study.study import study_of

PLAN = """\
preprocess: {spacing: [1.0, 1.0, 2.5], window: [-100.0, 200.0]}
train: {patch: [64, 64, 32], batch_size: 2}
predict: {patch: [64, 64, 32]}
"""
STUDY = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet_small_2f", "unet_small_2f"],
    "folds": [0],
}

EVERY_STEP = {
    "transfer": {
        "other": {
            "dataset": {"name": "phantom"},
            "map": {"Anterior": "Anterior", "Posterior": "Posterior"},
        }
    },
    "prune": {"preset": "unet_small_2f"},
}
TARGETS = (
    "runs/lunet_small_2f/fold-0/seed-0/metrics.csv",
    "transfer/other/runs/lunet_small_2f/fold-0/seed-0/metrics.csv",
    "pruning/unet_small_2f/stamp/fold-0/seed-0/metrics.csv",
    "presets/lunet_small_2f/efficiency.json",
    "presets/lunet_small_2f/architecture.svg",
)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN)
    return path


def test_a_named_plan_fills_what_the_configuration_leaves_open(plan: Path) -> None:
    own = {"plan": str(plan), "train": {"batch_size": 4}, "preprocess": {"window": [-50.0, 50.0]}}
    study = study_of(STUDY | own)
    recipe = study.sections("train", "lunet_small_2f")["recipe"]
    assert (recipe["patch"], recipe["batch_size"]) == ([64, 64, 32], 4)
    assert study.config.preprocess.spacing == (1.0, 1.0, 2.5)
    assert study.config.preprocess.window == (-50.0, 50.0)
    assert study.config.predict.patch == (64, 64, 32)
    with pytest.raises(ConfigError, match="does not exist"):
        parse(STUDY | {"plan": str(plan.with_name("none.yaml"))})


def test_a_step_s_plan_replaces_settings(plan: Path) -> None:
    study = study_of(STUDY | {"plan": "auto", "train": {"batch_size": 4}})
    assert study.config.predict.patch is None  # nothing is known before the step has run
    for step, section, key, value in (
        ("preprocess", "preprocess", "window", [-100.0, 200.0]),
        ("train", "recipe", "batch_size", 2),
        ("predict", "predict", "patch", [64, 64, 32]),
        ("transfer", "predict", "patch", [64, 64, 32]),
        ("prune", "recipe", "patch", [64, 64, 32]),
        ("efficiency", "training_step", "batch_size", 2),
        ("efficiency", "efficiency", "size", [64, 64, 32]),
    ):
        text = json.dumps(study.sections(step, "lunet_small_2f"))
        arguments = argparse.Namespace(settings=text, plan=str(plan))
        assert read_settings(arguments, step)[section][key] == value


def test_whole_volumes_are_measured_at_the_planned_size(plan: Path) -> None:
    plan.write_text("preprocess: {size: [48, 48, 32]}\ntrain: {batch_size: 2}\n")
    study = study_of(STUDY | {"plan": "auto", "efficiency": {"repeats": 7}})
    text = json.dumps(study.sections("efficiency", "lunet_small_2f"))
    found = read_settings(argparse.Namespace(settings=text, plan=str(plan)), "efficiency")
    assert (found["efficiency"]["size"], found["efficiency"]["repeats"]) == ([48, 48, 32], 7)


def test_the_plan_holds_for_the_costliest_network() -> None:
    small, large = NetworkCost(10, 100, (8, 8)), NetworkCost(90, 50, (12, 4))
    assert costliest([small, large]) == NetworkCost(90, 100, (24, 8))


def test_the_plan_is_a_step_only_where_it_is_asked_for(tmp_path: Path) -> None:
    for plan, planned in (("auto", True), (None, False)):
        roots = {"results": str(tmp_path / "r"), "work": str(tmp_path / "w")}
        config = tmp_path / "config.yaml"
        config.write_text(json.dumps(STUDY | EVERY_STEP | {"plan": plan, "roots": roots}))
        targets = [f"{tmp_path}/r/s/{name}" for name in TARGETS]
        command = [sys.executable, "-m", "snakemake", "-n", "-p", "--configfile", str(config)]
        command += ["--directory", str(tmp_path), "-s", str(ROOT / "Snakefile"), "--", *targets]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert ("rule plan:" in shown.stdout) is planned
        steps = ("preprocess", "train", "predict", "transfer", "prune", "efficiency")
        for step in (*steps, "figure architecture"):
            lines = [text for text in shown.stdout.splitlines() if f"lunet {step} " in text]
            assert len(lines) == (2 if step == "predict" else 1)
            for line in lines:
                assert (f"--plan {tmp_path}/r/s/plan.yaml" in line) is planned
