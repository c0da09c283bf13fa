"""The profiles name rules that exist and resources that are read; each rule's flags of sbatch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
import yte
from paths import ROOT
from patience import patient

STAND_INS = Path(__file__).parent / "slurm" / "stand_ins" / "slurm.py"
PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))
RULES = "\n".join(path.read_text() for path in (ROOT / "workflow").rglob("*.smk"))
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacctmgr", "sshare")


def load(path: Path) -> dict[str, Any]:
    return yte.process_yaml(path.read_text(), require_use_yte=True)


def plugin_resources() -> set[str]:
    """Names of resources that the SLURM plugin's own code asks a job for."""
    text = "".join(
        path.read_text()
        for name in ("snakemake_executor_plugin_slurm", "snakemake_executor_plugin_slurm_jobstep")
        for path in Path(str(resources.files(name))).glob("*.py")
    )
    found = re.findall(r"resources\.get\(\s*\"(\w+)\"|resources\.(\w+)", text)
    return {name for pair in found for name in pair} - {"get", "keys", "items"}


def rules() -> dict[str, str]:
    """Text of each rule, followed by that of the rule that it is made from (`use rule`)."""
    blocks = re.split(r"^(?:use rule (\w+) as|rule) (\w+)(?::| with:)", RULES, flags=re.MULTILINE)
    names, texts = blocks[2::3], blocks[3::3]
    own, bases = dict(zip(names, texts, strict=True)), dict(zip(names, blocks[1::3], strict=True))
    return {name: text + own.get(bases[name] or "", "") for name, text in own.items()}


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_rule_of_a_profile_exists(path):
    profile, known = load(path), set(rules())
    for section in ("set-resources", "set-threads", "groups"):
        assert set(profile.get(section, {})) <= known, section


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_resource_is_one_that_is_read(path):
    profile, known = load(path), plugin_resources()
    assert {"slurm_account", "slurm_partition", "runtime", "mem_mb", "slurm_extra"} <= known
    asked = [profile.get("default-resources", {}), *profile.get("set-resources", {}).values()]
    # for Snakemake alone: members of a group follow one another, or there are four at a time
    assert {name for section in asked for name in section} <= known | {"turn", "quarter"}
    in_rules = re.findall(r"resources:\n((?:        \w+=.*\n)+)", RULES)
    names = {name for block in in_rules for name in re.findall(r"^ +(\w+)=", block, re.MULTILINE)}
    assert "gpu" in names
    assert names <= known


def asking_for_a_gpu() -> set[str]:
    """Names of the rules whose resources hold a GPU."""
    return {name for name, text in rules().items() if "gpu=1" in text}


def test_every_rule_that_asks_for_a_gpu_is_sent_where_there_are_some():
    """SLURM refuses a GPU in a partition without any, so `plan: auto` could not run at all."""
    profile = load(ROOT / "profiles" / "slurm" / "config.yaml")
    asking = asking_for_a_gpu()
    assert {"plan", "measure", "train", "predict", "prune_control", "prune_predict"} <= asking
    sent = {
        rule
        for rule, given in profile["set-resources"].items()
        if given.get("slurm_partition") != profile["default-resources"]["slurm_partition"]
    }
    assert asking <= sent


def test_data_are_looked_at_before_anything_is_measured():
    priority = {
        name: int(match[1]) for name, text in rules().items()
        if (match := re.search(r"^    priority: (\d+)", text, flags=re.MULTILINE))
    }  # fmt: skip
    data = ("download", "audit", "plan", "preprocess", "folds")
    assert all(priority[rule] > priority["measure"] for rule in data)


def test_every_option_is_one_of_the_plugin():
    from snakemake_executor_plugin_slurm import ExecutorSettings

    known = {f"slurm-{name.replace('_', '-')}" for name in ExecutorSettings.__dataclass_fields__}
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert {name for name in profile if name.startswith("slurm-")} <= known


def test_memory_and_time_of_trainings_are_left_to_the_forecast():
    for path in PROFILES:
        train = load(path).get("set-resources", {}).get("train", {})
        assert not {"mem_mb", "runtime"} & set(train), path


def test_retries_stand_in_the_profile_only():
    assert load(ROOT / "profiles/slurm/config.yaml")["retries"] > 0
    assert not re.search(r"^\s+retries:", RULES, flags=re.MULTILINE)


def test_the_traps_of_the_plugin_are_avoided():
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert not (ROOT / "profiles/default").exists()
    assert "slurm-array-jobs" not in profile
    assert profile["rerun-incomplete"]
    # a failed group loses the outputs of all its members
    assert not {"train", "download", "preprocess"} & set(profile["groups"])


def test_account_and_partitions_come_from_the_environment(monkeypatch):
    for name in ("ACCOUNT", "CPU_PARTITION", "GPU_PARTITION"):
        monkeypatch.setenv(f"LUNET_{name}", name.lower())
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert profile["default-resources"]["slurm_account"] == "account"
    assert profile["default-resources"]["slurm_partition"] == "cpu_partition"
    assert profile["set-resources"]["train"]["slurm_partition"] == "gpu_partition"


PRESET = "lunet_small_1f"
CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": [PRESET],
    "folds": [0],
    "train": {"epochs": 100},
}


GIB = 2**30
TRIED = {"precision": "fp32", "memory_format": "contiguous", "compile": False}
FILES = {
    "efficiency.json": {
        "size": [48, 64, 48],
        "weights_bytes": 10_000,
        "device": {"type": "cuda"},
        "settings": {"device": "auto", "threads": 1},
        "training_engine": {
            "batch": 16,
            "process_bytes": 5 * GIB,
            "tried": [TRIED | {"step_ms": 5000.0, "growth_bytes": GIB}],
        },
    },
    "manifest.json": {
        "task": {"channels": ["MRI"], "dimensions": 3},
        "cases": [{"labelled": True, "shape": [48, 64, 48]}],
    },
    "splits.json": {
        "seed": 0,
        "held_out": [],
        "folds": [{"train": [*map(str, range(160))], "validation": [], "test": []}],
    },
}
# 100 epochs of 10 steps of 5 s, after 11 steps that are timed: twice that, and ten minutes
MINUTES = 10 + -(-2 * (100 * 10 * 5 + 11 * 5) // 60)
MIB = -(-1.5 * (5 * GIB + 2 * 160 * 48 * 64 * 48 * 5) // 2**20)


def copy_of_the_project(root: Path, config: dict[str, Any]) -> None:
    for name in ("workflow", "lunet", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "README.md"):
        shutil.copy2(ROOT / name, root / name)
    (root / "config").mkdir()
    (root / "config/config.yaml").write_text(yaml.safe_dump(config))


def write_files(folder: Path) -> None:
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))


@pytest.fixture(scope="module")
def submitted(tmp_path_factory) -> dict[str, list[str]]:
    """What a study of one run submits."""
    return submissions(tmp_path_factory.mktemp("flags"), CONFIG, "tables")


@pytest.fixture(scope="module")
def submitted_folds(tmp_path_factory) -> dict[str, list[str]]:
    """What a study of three folds submits that trains them in one job."""
    config = CONFIG | {"folds": [0, 1, 2], "folds_per_job": "all", "prior": False}
    scores = [f"results/s/runs/{PRESET}/fold-{fold}/seed-0/metrics.csv" for fold in range(3)]
    return submissions(tmp_path_factory.mktemp("folds"), config, *scores)


def submissions(root: Path, config: dict[str, Any], *targets: str) -> dict[str, list[str]]:
    """Job comment -> arguments of sbatch, of a study through stand-ins for SLURM's commands."""
    bin_, records, files = root / "bin", root / "records", root / "files"
    for folder in (bin_, records, files):
        folder.mkdir()
    for name in COMMANDS:
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_INS} {name} "$@"\n')
        (bin_ / name).chmod(0o755)
    copy_of_the_project(root, config)
    write_files(files)
    words = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
    path = [str(bin_), str(Path(__file__).with_name("stand_in")), os.environ["PATH"]]
    environment = {
        key: value for key, value in os.environ.items() if key[:5] not in ("LUNET", "SLURM")
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, "--", *targets],
        cwd=root,
        env=environment
        | {
            "PATH": os.pathsep.join(path),
            "STAND_IN_SLURM": str(records),
            "STAND_IN_FILES": str(files),
            "LUNET_SOURCE": str(root),
            "PYTHONPATH": str(root),
            "LUNET_ACCOUNT": "test",
        },
        capture_output=True,
        text=True,
        timeout=patient(150),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    flags = [json.loads(path.read_text()) for path in records.glob("*.flags")]
    return {words[words.index("--comment") + 1]: words for words in flags}


def value(words: list[str], option: str) -> str:
    """The value of ``--option value`` or ``--option=value``."""
    joined = [word.split("=", 1)[1] for word in words if word.startswith(f"{option}=")]
    return joined[0] if joined else words[words.index(option) + 1]


@pytest.mark.slow
def test_what_is_submitted(submitted):
    comments = sorted(comment.split("_wildcards")[0] for comment in submitted)
    assert comments == [
        "rule_audit",
        "rule_engine_engine",
        "rule_measure_measure",
        "rule_preprocess",
        "rule_prior_prior",
        f"rule_run_{PRESET}_predict",
        "rule_score_atlas_prior_0_evaluate",
        f"rule_score_{PRESET}_0_evaluate",
        "rule_train",
    ]


def test_folds_of_one_job_are_predicted_in_it_and_evaluated_without_a_gpu(submitted_folds):
    def of(part: str) -> list[str]:
        (words,) = (words for comment, words in submitted_folds.items() if part in comment)
        return words

    trained, scored = of("train_together"), of("evaluate")
    assert not any("rule_train_w" in comment for comment in submitted_folds)
    assert "predict" in next(comment for comment in submitted_folds if "train_together" in comment)
    assert "--gpus=1" in trained
    assert value(trained, "-p") == "gpu"
    assert value(trained, "--signal").startswith("TERM@")
    assert "--gpus=1" not in scored
    assert value(scored, "-p") == "cpu"
    # three trainings, and three predictions that are put in their place, one after the other
    # nothing was measured for these targets
    assert int(value(trained, "-t")) == 10 + 3 * (240 - 10) + 3 * 2
    assert int(value(trained, "--mem")) == 8000
    assert int(value(scored, "-t")) == 3 * 30
    assert int(value(scored, "--mem")) == 4000


def test_all_runs_of_a_preset_are_two_submissions(tmp_path):
    config = CONFIG | {"folds": [0, 1], "seeds": [0, 1], "runs_per_gpu": 2, "prior": False}
    config |= {"folds_per_job": "all", "seeds_per_job": "all"}
    runs = [f"fold-{fold}/seed-{seed}" for fold in (0, 1) for seed in (0, 1)]
    scores = [f"results/s/runs/{PRESET}/{run}/metrics.csv" for run in runs]
    submitted = submissions(tmp_path, config, *scores)
    steps = ("train", "predict", "evaluate")
    made = [comment for comment in submitted if any(step in comment for step in steps)]
    (score,) = (comment for comment in made if "evaluate" in comment)
    (train,) = (comment for comment in made if comment != score)
    assert train.startswith(f"rule_run_{PRESET}_predict_train_preset")
    assert score.startswith(f"rule_score_{PRESET}_evaluate_preset")
    # two times two trainings at the same time, and four predictions
    assert int(value(submitted[train], "-t")) == 10 + 2 * (240 - 10) + 4 * 2
    assert int(value(submitted[train], "--mem")) == 2 * 8000
    assert value(submitted[train], "--signal").startswith("TERM@")
    # four evaluations at the same time
    assert int(value(submitted[score], "-t")) == 10
    assert int(value(submitted[score], "--mem")) == 4 * 4000
    assert value(submitted[score], "--cpus-per-task") == "4"
    assert "--gpus=1" not in submitted[score]


def test_each_has_account_time_memory_and_a_name(submitted):
    for words in submitted.values():
        assert value(words, "-A") == "test"
        assert int(value(words, "-t")) >= 30
        assert int(value(words, "--mem")) >= 4000
        assert value(words, "--job-name").startswith("lunet_")
        assert not any(word.startswith("--array") for word in words)


def test_a_gpu_for_networks_only(submitted):
    for comment, words in submitted.items():
        wants = any(name in comment for name in ("engine", "train", "predict", "measure"))
        assert ("--gpus=1" in words) == wants, comment
        assert value(words, "-p") == ("gpu" if wants else "cpu"), comment


def test_a_training_is_told_before_its_limit(submitted):
    (train,) = (words for comment, words in submitted.items() if "train" in comment)
    assert value(train, "--signal").startswith("TERM@")
    assert value(train, "--cpus-per-task") == "2"


def test_a_training_is_given_what_was_forecast_when_it_was_submitted(submitted):
    """None of the files was there when Snakemake started."""
    (train,) = (words for comment, words in submitted.items() if "train" in comment)
    assert int(value(train, "-t")) == MINUTES
    assert int(value(train, "--mem")) == MIB


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("forecast")
    copy_of_the_project(root, CONFIG)
    return root


def foreseen(root: Path, *words: str) -> tuple[tuple[int, int], list[str]]:
    """Memory and minutes of the training in a dry run, and what was said of forecasts."""
    environment = os.environ | {"LUNET_SOURCE": str(root), "PYTHONPATH": str(root)}
    target = f"results/s/runs/{PRESET}/fold-0/seed-0/run.json"
    command = [sys.executable, "-m", "snakemake", target, "-n", "--profile", "profiles/local"]
    done = subprocess.run(
        [*command, *words], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    (line,) = (
        row for row in text.splitlines() if re.match(r" +resources: .*runtime=.*mem_mb=", row)
    )
    numbers = [int(re.search(rf"{name}=(\d+)", line)[1]) for name in ("mem_mb", "runtime")]
    return tuple(numbers), [row for row in text.splitlines() if "Without a forecast" in row]


@pytest.mark.slow
def test_resources_of_a_dry_run_with_forecast_and_without(checkout):
    assert foreseen(checkout) == ((8000, 240), [])
    places = {
        "efficiency.json": f"results/s/presets/{PRESET}",
        "manifest.json": "work/s/prepared",
        "splits.json": "results/s",
    }
    for name, place in places.items():
        (checkout / place).mkdir(parents=True, exist_ok=True)
        (checkout / place / name).write_text(json.dumps(FILES[name]))
    assert foreseen(checkout) == ((MIB, MINUTES), [])
    override = ("--set-resources", "train:mem_mb=123", "train:runtime=45")
    assert foreseen(checkout, *override) == ((123, 45), [])
    damaged = checkout / places["efficiency.json"] / "efficiency.json"
    damaged.write_text(damaged.read_text()[:100])
    numbers, (line,) = foreseen(checkout)
    assert numbers == (8000, 240)
    assert f"{places['efficiency.json']}/efficiency.json: is not JSON" in line
