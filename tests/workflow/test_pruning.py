"""The target `pruning` from a configuration to tables and figures, with a kill in the middle."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from paths import ROOT
from patience import patient

RUN = Path("pruning/unet_small_1f/stamp/fold-0/seed-0")
CONFIG = {
    "study": "p",
    "dataset": {"name": "phantom", "phantom": {"kind": "hippocampus", "subjects": 6, "seed": 0}},
    "preprocess": {"size": [16, 24, 16], "crop_labels": True},
    "split": {"folds": 3},
    "presets": ["lunet_small_1f"],
    "folds": [0],
    "train": {
        "batch_size": 2,
        "engine": {
            "device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"
        },
    },
    "statistics": {"resamples": 100},
    "prune": {
        "preset": "unet_small_1f",
        "strategies": ["stamp", "flat"],
        "channels_per_step": 4,
        "recovery_epochs": 2,
        "iterations": 6,
    },
}  # fmt: skip
FILES = (
    "weights.safetensors", "last.safetensors", "history.csv", "trajectory.csv", "test_curve.csv",
)  # fmt: skip

pytestmark = pytest.mark.slow


def command(root: Path, *words: str) -> subprocess.Popen[str]:
    """Start a program of the environment in the study's folder, in a session of its own.

    The package is the copy in that folder, so that an edit of the project amid the test is none.
    """
    binaries = str(Path(sys.executable).parent)
    environment = os.environ | {
        "LUNET_SOURCE": str(root),
        "PYTHONPATH": str(root),
        "PATH": os.pathsep.join([binaries, os.environ["PATH"]]),
    }
    return subprocess.Popen(
        words, cwd=root, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def done(process: subprocess.Popen[str]) -> str:
    """What the program said; it must have succeeded."""
    text, _ = process.communicate(timeout=patient(75))
    assert process.returncode == 0, text
    return text


def snakemake(root: Path, *words: str) -> subprocess.Popen[str]:
    profile = ["--profile", "profiles/local", "--configfile", "c.yaml"]
    return command(root, sys.executable, "-m", "snakemake", *profile, *words)


def dry_run(root: Path) -> dict[str, int]:
    text = done(snakemake(root, "-n", "--quiet", "rules", "--", "pruning"))
    rows = re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)
    return {rule: int(count) for rule, count in rows if rule not in ("total", "pruning")}


def write_config(root: Path, **prune: object) -> None:
    changed = CONFIG | {"prune": CONFIG["prune"] | prune}  # type: ignore[operator]
    (root / "c.yaml").write_text(yaml.safe_dump(changed))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished pruning study, whose first pruning was killed and started again."""
    root = tmp_path_factory.mktemp("study")
    for name in ("lunet", "workflow", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "Snakefile", root)
    write_config(root)
    done(snakemake(root, "--quiet", "all", "--", "results/p/splits.json"))
    state = root / "work/p" / RUN / "state.pt"
    started = snakemake(root, "--quiet", "all", "--", f"results/p/{RUN}/run.json")
    while not state.exists() and started.poll() is None:
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    started.communicate()
    assert state.exists()
    assert not (root / "results/p" / RUN / "run.json").exists()
    done(snakemake(root, "--unlock"))
    done(snakemake(root, "--quiet", "all", "--", "pruning"))
    return root


def test_it_went_on_and_equals_an_undisturbed_run(study: Path) -> None:
    assert "resumes in iteration" in (study / f"results/p/logs/{RUN}/prune.log").read_text()
    done(
        command(
            study,
            "lunet",
            "prune",
            "--config",
            "c.yaml",
            "--strategy",
            "stamp",
            "--out",
            "undisturbed",
            "--work",
            "undisturbed-work",
        )
    )
    for name in FILES:
        killed = (study / "results/p" / RUN / name).read_bytes()
        assert killed == (study / "undisturbed" / name).read_bytes(), name
    assert not (study / "work/p" / RUN).exists()


def test_tables_and_figures_tell_all_strategies(study: Path) -> None:
    results = study / "results/p"
    table = rows(results / "tables/pruning.csv")
    assert [row["preset"] for row in table] == ["unet_small_1f_stamp", "unet_small_1f_flat"]
    stamp, flat = table
    trajectory = rows(results / RUN / "trajectory.csv")
    best = max(trajectory, key=lambda row: (float(row["dice"]), -int(row["parameters"])))
    assert float(stamp["parameters"]) == int(best["parameters"])
    assert float(stamp["validation_dice"]) == pytest.approx(float(best["dice"]), rel=1e-6)
    assert float(stamp["best_on_test_optimistic"]) >= float(stamp["test_dice_prepared"])
    assert stamp["epochs"] == flat["epochs"] == "13.0"
    assert float(stamp["device_hours"]) > 0
    scores = [float(row["dice"]) for row in rows(results / RUN / "metrics.csv")]
    assert float(stamp["test_mean"]) == pytest.approx(sum(scores) / len(scores), abs=1e-6)
    printed = (results / "tables/pruning.md").read_text()
    assert "≤ " in printed
    assert "an upper bound, not a result" in printed
    verdicts = rows(results / "tables/pruning_comparisons.csv")
    assert {row["reference"] for row in verdicts} == {"unet_small_1f_stamp"}
    channels = rows(results / "figures/pruning_channels.csv")
    assert [row["iteration"] for row in channels] == [row["iteration"] for row in trajectory]
    hours = rows(results / "figures/pruning_hours.csv")
    assert [row["preset"] for row in hours] == [row["preset"] for row in table]
    assert [row["kind"] for row in hours] == ["search", "control"]
    shown = rows(results / "figures/pruning_dice.csv")
    assert {row["network"] for row in shown} == {row["preset"] for row in table}


def test_one_more_seed_prunes_that_seed_only(study: Path) -> None:
    assert dry_run(study) == {}
    write_config(study, seeds=[0, 1])
    drawn = {"pruning_table": 2, "pruning_figure": 3}
    new = {"prune": 1, "prune_control": 1, "prune_predict": 2, "prune_evaluate": 2}
    assert dry_run(study) == drawn | new
    write_config(study, recovery_epochs=3)
    assert dry_run(study) == drawn | new
    write_config(study)
