"""Submissions, and what a run costs beside its own training, through the test cluster.

By default the steps are stand-ins that take no time, so that all that is measured is overhead.
With ``--epochs 200`` trainings are real; the overhead is then the cores' time that no training
computed in, as a share of the trainings' processor time. It includes predictions and evaluations.

    python tests/workflow/slurm/cluster.py up
    python tests/benchmarks/cluster.py [--runs 32] [--epochs 200]
    python tests/workflow/slurm/cluster.py down
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "workflow/slurm"))

from studies import Checkout, configuration, new_checkout  # noqa: E402

FOLDS = 4
WAYS = {"a job per run": "one", f"{FOLDS} folds in one job": "all"}


def measure(folder: Path, runs: int, epochs: int, folds_per_job: str) -> tuple[int, float, float]:
    """Submissions, seconds until all runs were done, and processor seconds of the trainings."""
    seeds = list(range(runs // FOLDS))
    config = configuration(epochs=max(epochs, 1)) | {"seeds": seeds, "folds": list(range(FOLDS))}
    config |= {"split": {"folds": FOLDS}, "folds_per_job": folds_per_job}
    checkout = new_checkout(folder, config)
    stand_ins = os.pathsep.join([str(TESTS / "workflow/stand_in"), os.environ["PATH"]])
    source = {} if epochs else {"LUNET_SOURCE": str(folder), "PATH": stand_ins}
    prepare(checkout, source)
    folders = [
        f"results/s/runs/lunet_small_1f/fold-{fold}/seed-{seed}"
        for fold in range(FOLDS)
        for seed in seeds
    ]
    begin = time.perf_counter()
    process = checkout.start(*(f"{run}/metrics.csv" for run in folders), **source)
    if process.wait() != 0:
        raise SystemExit(checkout.output[-3000:])
    seconds = time.perf_counter() - begin
    submitted = checkout.output.count("has been submitted with SLURM jobid")
    return submitted, seconds, processor_seconds(folder) if epochs else 0.0


def processor_seconds(folder: Path) -> float:
    """What all trainings computed, as Snakemake measured it."""
    paths = (folder / "results/s/logs").rglob("train.benchmark.tsv")
    return sum(pd.read_csv(path, sep="\t")["cpu_time"].sum() for path in paths)


def prepare(checkout: Checkout, source: dict[str, str]) -> None:
    """Bring the data to their end, locally."""
    process: subprocess.Popen[bytes] = checkout.start(
        "results/s/splits.json", profile="profiles/local", **source
    )
    if process.wait() != 0:
        raise SystemExit(checkout.output[-3000:])


def main() -> None:
    """Print a row per way of submitting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=16, help=f"a multiple of {FOLDS}")
    parser.add_argument("--epochs", type=int, default=0, help="0: steps that take no time")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    print("| way | runs | submissions | seconds | seconds per run | overhead |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for number, (way, key) in enumerate(WAYS.items()):
            place = Path(folder, str(number))
            jobs, seconds, trained = measure(place, given.runs, given.epochs, key)
            overhead = f"{100 * (cores * seconds / trained - 1):.0f} %" if trained else ""
            cells = [
                way,
                given.runs,
                jobs,
                f"{seconds:.0f}",
                f"{seconds / given.runs:.1f}",
                overhead,
            ]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
