"""Jobs per minute through the test cluster, and what a run costs beside its own work.

The steps are stand-ins that take no time, so that all that is measured is overhead.

    python tests/workflow/slurm/cluster.py up
    python tests/benchmarks/cluster.py [--runs 16]
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

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "workflow/slurm"))

from studies import Checkout, configuration, new_checkout  # noqa: E402

PACK = 8
WAYS = {
    "profiles/slurm": [],
    # a run's steps together, and several runs in one submission
    f"{PACK} runs packed": [
        *("--groups", "train=run", "predict=run", "evaluate=run"),
        *("--group-components", f"run={PACK}"),
        *("--resources", "gpu=1", "--set-resource-scopes", "gpu=local"),
    ],
}


def measure(folder: Path, runs: int, options: list[str]) -> tuple[int, float]:
    """Submissions, and seconds until all runs were done."""
    config = configuration(epochs=1) | {"seeds": list(range(runs))}
    checkout = new_checkout(folder, config)
    stand_ins = os.pathsep.join([str(TESTS / "workflow/stand_in"), os.environ["PATH"]])
    source = {"LUNET_SOURCE": str(folder), "PATH": stand_ins}
    prepare(checkout, source)
    targets = [f"results/s/runs/lunet_small_1f/fold-0/seed-{i}/metrics.csv" for i in range(runs)]
    begin = time.perf_counter()
    process = checkout.start(*targets, *options, **source)
    if process.wait() != 0:
        raise SystemExit(checkout.output[-3000:])
    submitted = checkout.output.count("has been submitted with SLURM jobid")
    return submitted, time.perf_counter() - begin


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
    parser.add_argument("--runs", type=int, default=16)
    runs = parser.parse_args().runs
    print("| way | runs | submissions | seconds | submissions per minute | seconds per run |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for way, options in WAYS.items():
            place = Path(folder, way.replace("/", "-").replace(" ", "-"))
            jobs, seconds = measure(place, runs, options)
            cells = [way, runs, jobs, f"{seconds:.0f}", f"{60 * jobs / seconds:.0f}"]
            print(f"| {' | '.join(map(str, cells))} | {seconds / runs:.1f} |", flush=True)


if __name__ == "__main__":
    main()
