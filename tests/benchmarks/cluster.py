"""Submissions, and what a run costs beside its own work, through the test cluster.

By default the steps are stand-ins that take no time, so that all that is measured is overhead.
With ``--epochs 75`` they are real. The same runs are then also trained, predicted and evaluated
without a workflow, one process per core.

On a machine that others share, the same trainings take up to a tenth longer at one time than at
another. So two shares are printed: how much longer a way takes than without a workflow, and how
much of that is not training. ``training`` are the seconds of all epochs, by the records of the
runs, shared by the cores; should a way slow the epochs themselves, only these show it.

    python tests/workflow/slurm/cluster.py up
    python tests/benchmarks/cluster.py [--runs 32] [--epochs 75] [--only "all runs in one job"]
    python tests/workflow/slurm/cluster.py down
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "workflow/slurm"))

from studies import Checkout, configuration, new_checkout  # noqa: E402

FOLDS = 4
WAYS = {
    "a job per run": ("one", "one"),
    f"{FOLDS} folds in one job": ("all", "one"),
    "all runs in one job": ("all", "all"),
}
"""Keys ``folds_per_job`` and ``seeds_per_job``."""
CORES = len(os.sched_getaffinity(0))
PRESET = "lunet_small_1f"


def study(runs: int, epochs: int, folds_per_job: str, seeds_per_job: str) -> dict[str, Any]:
    """The configuration of a study of so many runs."""
    seeds = list(range(runs // FOLDS))
    config = configuration(epochs=max(epochs, 1)) | {"seeds": seeds, "folds": list(range(FOLDS))}
    config |= {"split": {"folds": FOLDS}, "runs_per_gpu": CORES}
    return config | {"folds_per_job": folds_per_job, "seeds_per_job": seeds_per_job}


def folders(runs: int) -> list[str]:
    """Folders of the runs below those of results or work."""
    seeds = range(runs // FOLDS)
    return [f"runs/{PRESET}/fold-{fold}/seed-{seed}" for seed in seeds for fold in range(FOLDS)]


@dataclass(frozen=True)
class Taken:
    """Submissions, seconds until all runs were evaluated, and those of training on all cores."""

    jobs: int
    seconds: float
    training: float


def training_seconds(results: Path, runs: int) -> float:
    """Seconds of the epochs of all runs, if all cores train all the time."""
    records = (results / run / "run.json" for run in folders(runs))
    return sum(json.loads(path.read_text())["device_seconds"] for path in records) / CORES


def measure(folder: Path, config: dict[str, Any], runs: int, epochs: int) -> Taken:
    """A study of so many runs."""
    checkout = new_checkout(folder, config)
    stand_ins = os.pathsep.join([str(TESTS / "workflow/stand_in"), os.environ["PATH"]])
    source = {} if epochs else {"LUNET_SOURCE": str(folder), "PATH": stand_ins}
    prepare(checkout, source)
    begin = time.perf_counter()
    targets = [f"results/s/{run}/metrics.csv" for run in folders(runs)]
    process = checkout.start(*targets, **source)
    if process.wait() != 0:
        raise SystemExit(checkout.output[-3000:])
    seconds = time.perf_counter() - begin
    jobs = checkout.output.count("has been submitted with SLURM jobid")
    training = training_seconds(folder / "results/s", runs) if epochs else 0.0
    return Taken(jobs, seconds, training)


def prepare(checkout: Checkout, source: dict[str, str]) -> None:
    """Bring the data to their end, locally."""
    process: subprocess.Popen[bytes] = checkout.start(
        "results/s/splits.json", profile="profiles/local", **source
    )
    if process.wait() != 0:
        raise SystemExit(checkout.output[-3000:])


def without_workflow(folder: Path, config: dict[str, Any], runs: int) -> Taken:
    """The same trainings, predictions and evaluations, one process per core."""
    checkout = new_checkout(folder, config)
    prepare(checkout, {})
    begin = time.perf_counter()
    program = [sys.executable, __file__, "--plain", str(runs)]
    with (folder / "plain.txt").open("wb") as log:
        subprocess.run(
            program, cwd=folder, env=checkout.environment(), check=True, stdout=log, stderr=log
        )
    seconds = time.perf_counter() - begin
    return Taken(0, seconds, training_seconds(folder / "plain", runs))


def plain(runs: int) -> None:
    """Train, predict and evaluate in the working folder, with its ``config/config.yaml``."""
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        pool.map(run_plainly, folders(runs), chunksize=1)


def run_plainly(run: str) -> None:
    """Train, predict and evaluate one run, in this process."""
    from lunet.cli import main as lunet

    out = Path("plain", run)
    fold, seed = (part.partition("-")[2] for part in run.split("/")[2:])
    settings = ["--config", "config/config.yaml", "--preset", PRESET]
    data = ["--manifest", "work/s/prepared/manifest.json", "--splits", "results/s/splits.json"]
    steps = [
        ["train", *settings, "--seed", seed, "--work", f"{out}/work", "--out", f"{out}"],
        ["predict", *settings, *data, "--weights", f"{out}", "--out", f"{out}/predictions"],
        ["evaluate", *settings, "--predictions", f"{out}/predictions", "--out", f"{out}/m.csv"],
    ]
    for step in steps:
        if lunet([*step, "--fold", fold]) != 0:
            raise SystemExit(f"{step[0]} of {run} failed")


def main() -> None:
    """Print a row per way of submitting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=16, help=f"a multiple of {FOLDS}")
    parser.add_argument("--epochs", type=int, default=0, help="0: steps that take no time")
    parser.add_argument("--only", choices=WAYS, help="only this way (and without a workflow)")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        return plain(given.plain)
    print("| way | runs | submissions | seconds | training | longer by | beside training |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        least = None
        if given.epochs:
            config = study(given.runs, given.epochs, "one", "one")
            least = without_workflow(Path(folder, "plain"), config, given.runs)
            tell("no workflow", given.runs, least, None)
        for number, way in enumerate([given.only] if given.only else WAYS):
            config = study(given.runs, given.epochs, *WAYS[way])
            taken = measure(Path(folder, str(number)), config, given.runs, given.epochs)
            tell(way, given.runs, taken, least)
    return None


def tell(way: str, runs: int, taken: Taken, least: Taken | None) -> None:
    """Print a row."""
    shares = ["", ""]
    if least is not None:
        more = taken.seconds - least.seconds, taken.training - least.training
        shares = [f"{100 * s / least.seconds:.0f} %" for s in (more[0], more[0] - more[1])]
    times = [f"{taken.seconds:.0f}", f"{taken.training:.0f}" if taken.training else ""]
    cells = [way, runs, taken.jobs or "", *times, *shares]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
