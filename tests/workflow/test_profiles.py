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

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_rule_of_a_profile_exists(path):
    profile, known = load(path), set(re.findall(r"^rule (\w+):", RULES, flags=re.MULTILINE))
    for section in ("set-resources", "set-threads", "groups"):
        assert set(profile.get(section, {})) <= known, section


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_resource_is_one_that_is_read(path):
    profile, known = load(path), plugin_resources()
    assert {"slurm_account", "slurm_partition", "runtime", "mem_mb", "slurm_extra"} <= known
    asked = [profile.get("default-resources", {}), *profile.get("set-resources", {}).values()]
    assert {name for section in asked for name in section} <= known
    in_rules = re.findall(r"resources:\n((?:        \w+=.*\n)+)", RULES)
    names = {name for block in in_rules for name in re.findall(r"^ +(\w+)=", block, re.MULTILINE)}
    assert "gpu" in names
    assert names <= known


def test_every_option_is_one_of_the_plugin():
    from snakemake_executor_plugin_slurm import ExecutorSettings

    known = {f"slurm-{name.replace('_', '-')}" for name in ExecutorSettings.__dataclass_fields__}
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert {name for name in profile if name.startswith("slurm-")} <= known


def test_retries_stand_in_the_profile_only():
    assert load(ROOT / "profiles/slurm/config.yaml")["retries"] > 0
    assert not re.search(r"^\s+retries:", RULES, flags=re.MULTILINE)


def test_the_traps_of_the_plugin_are_avoided():
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert not (ROOT / "profiles/default").exists()
    assert profile["slurm-status-command"] == "squeue"
    assert "slurm-array-jobs" not in profile
    assert profile["rerun-incomplete"]
    # squeue forgets ended jobs after MinJobAge, 300 s unless a site says otherwise
    assert 3 * profile["slurm-init-seconds-before-status-checks"] <= 300
    # a failed group loses the outputs of all its members
    assert not {"train", "download", "preprocess"} & set(profile["groups"])


def test_account_and_partitions_come_from_the_environment(monkeypatch):
    for name in ("ACCOUNT", "CPU_PARTITION", "GPU_PARTITION"):
        monkeypatch.setenv(f"LUNET_{name}", name.lower())
    profile = load(ROOT / "profiles/slurm/config.yaml")
    assert profile["default-resources"]["slurm_account"] == "account"
    assert profile["default-resources"]["slurm_partition"] == "cpu_partition"
    assert profile["set-resources"]["train"]["slurm_partition"] == "gpu_partition"


CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet_small_1f"],
    "folds": [0],
}


@pytest.fixture(scope="module")
def submitted(tmp_path_factory) -> dict[str, list[str]]:
    """Job comment -> arguments of sbatch, of a study through stand-ins for SLURM's commands."""
    root = tmp_path_factory.mktemp("flags")
    bin_, records = root / "bin", root / "records"
    for folder in (bin_, records, root / "config"):
        folder.mkdir()
    for name in COMMANDS:
        (bin_ / name).write_text(f'#!/bin/sh\nexec {sys.executable} -S {STAND_INS} {name} "$@"\n')
        (bin_ / name).chmod(0o755)
    for name in ("workflow", "lunet", "profiles"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "README.md"):
        shutil.copy2(ROOT / name, root / name)
    (root / "config/config.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"]
    path = [str(bin_), str(Path(__file__).with_name("stand_in")), os.environ["PATH"]]
    environment = {
        key: value for key, value in os.environ.items() if key[:5] not in ("LUNET", "SLURM")
    }
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words, "tables"],
        cwd=root,
        env=environment
        | {
            "PATH": os.pathsep.join(path),
            "STAND_IN_SLURM": str(records),
            "LUNET_SOURCE": str(root),
            "PYTHONPATH": str(root),
            "LUNET_ACCOUNT": "test",
        },
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    flags = [json.loads(path.read_text()) for path in records.glob("*.flags")]
    return {words[words.index("--comment") + 1]: words for words in flags}


def value(words: list[str], option: str) -> str:
    """The value of ``--option value`` or ``--option=value``."""
    joined = [word.split("=", 1)[1] for word in words if word.startswith(f"{option}=")]
    return joined[0] if joined else words[words.index(option) + 1]


def test_what_is_submitted(submitted):
    comments = sorted(comment.split("_wildcards")[0] for comment in submitted)
    assert comments == [
        "rule_audit",
        "rule_measure",
        "rule_preprocess",
        "rule_score_evaluate_predict",
        "rule_score_evaluate_prior",
        "rule_train",
    ]


def test_each_has_account_time_memory_and_a_name(submitted):
    for words in submitted.values():
        assert value(words, "-A") == "test"
        assert int(value(words, "-t")) >= 30
        assert int(value(words, "--mem")) >= 4000
        assert value(words, "--job-name").startswith("lunet_")
        assert not any(word.startswith("--array") for word in words)


def test_a_gpu_for_networks_only(submitted):
    for comment, words in submitted.items():
        wants = any(name in comment for name in ("train", "predict", "measure"))
        assert ("--gpus=1" in words) == wants, comment
        assert value(words, "-p") == ("gpu" if wants else "cpu"), comment


def test_a_training_is_told_before_its_limit(submitted):
    (train,) = (words for comment, words in submitted.items() if "train" in comment)
    assert value(train, "--signal").startswith("TERM@")
    assert value(train, "--cpus-per-task") == "2"
