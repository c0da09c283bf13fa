"""Small studies in copies of the project, run through the test cluster."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "helpers"))

from patience import patient

PROJECT = Path(__file__).resolve().parents[3]
RUN = "results/s/runs/lunet_small_1f/fold-0/seed-0"
WEIGHTS = f"{RUN}/weights.safetensors"
TRAIN_LOG = "results/s/logs/lunet_small_1f/fold-0/seed-0/train.log"
STATE = "work/s/runs/lunet_small_1f/fold-0/seed-0"
SUMMARY = "results/s/presets/lunet_small_1f/summary.csv"
SECRET = "hunter2-never-to-be-seen"


def configuration(*, epochs: int) -> dict[str, Any]:
    """A study of one run that asks for no GPU; about 0.1 s per epoch on a free core."""
    config = yaml.safe_load(Path(__file__).with_name("small.yaml").read_text())
    config["study"], config["train"]["epochs"] = "s", epochs
    return config


@dataclass(frozen=True)
class Checkout:
    """A copy of the project with a study in it."""

    root: Path

    @property
    def log(self) -> str:
        """The training's log so far."""
        path = self.root / TRAIN_LOG
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def output(self) -> str:
        """What Snakemake told its user, over all starts."""
        path = self.root / "snakemake.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def digest(self) -> str:
        """SHA-256 of the weights and the history: equal for equal trainings, bit for bit."""
        files = [self.root / RUN / name for name in ("weights.safetensors", "history.csv")]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def epoch(self) -> int:
        """The last epoch that the training's log tells of; 0 before the first."""
        lines = [line for line in self.log.splitlines() if line.startswith("epoch ")]
        return int(lines[-1].split()[1].split("/")[0]) if lines else 0

    def start(
        self, *words: str, profile: str = "profiles/slurm", **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start Snakemake, which polls quickly here."""
        command = [sys.executable, "-m", "snakemake", "--profile", profile, *words]
        if profile == "profiles/slurm":
            command += ["--slurm-init-seconds-before-status-checks", "3"]
        with (self.root / "snakemake.txt").open("ab") as stream:
            return subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment() | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    def run(self, *words: str, seconds: float = 60, **options: str) -> int:
        """Run Snakemake to its end; its exit code. It fails, and is ended, after
        ``patient(seconds)``."""
        process = self.start(*words, **options)
        limit = patient(seconds)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"not done within {limit:.0f} s:\n{self.output[-3000:]}") from None

    def environment(self) -> dict[str, str]:
        """As a user has it: this checkout's package, an account, and a secret."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("LUNET_", "SLURM_", "SBATCH_"))
        }
        return kept | {
            "PYTHONPATH": str(self.root),
            "LUNET_ACCOUNT": "test",
            "SECRET_TOKEN": SECRET,
            "OMP_NUM_THREADS": "1",
            "GIT_CEILING_DIRECTORIES": str(self.root.parent),
        }

    def jobs(self, *states: str) -> list[str]:
        """Numbers of this checkout's jobs in SLURM's queue; of all states if none is given."""
        command = ["squeue", "-h", "-o", "%A %T %Z"]
        rows = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = [line.split(maxsplit=2) for line in rows.splitlines()]
        wanted = states or ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")
        here = str(self.root)
        return [number for number, state, place in found if place == here and state in wanted]

    def copy(self, folder: Path) -> Checkout:
        """The same checkout elsewhere, with what was computed."""
        ignored = shutil.ignore_patterns("__pycache__", "log", "locks", "source", "snakemake.txt")
        shutil.copytree(self.root, folder, ignore=ignored)
        return Checkout(folder)


def new_checkout(folder: Path, config: dict[str, Any]) -> Checkout:
    """A copy of the project without results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("Snakefile", "README.md"):
        shutil.copy2(PROJECT / name, folder / name)
    for name in ("workflow", "lunet", "profiles"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    return Checkout(folder)


def prepared(folder: Path, config: dict[str, Any]) -> Checkout:
    """A checkout whose data are prepared (locally), ready to train."""
    made = new_checkout(folder, config)
    assert made.run("results/s/splits.json", profile="profiles/local") == 0, made.output
    return made


def call(*command: str) -> str:
    """Run a command that must succeed; what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
