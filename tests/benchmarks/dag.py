"""Time and memory of a dry run of studies with 450 and 4,500 runs.

    python tests/benchmarks/dag.py

Prints a row per study: runs, jobs, seconds (wall and CPU), largest resident memory.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
FOLDS = 5
SIZES = {450: 3, 4500: 30}


def dry_run(presets: list[str], seeds: int) -> tuple[int, float, float, float]:
    """Jobs, seconds, CPU seconds and MiB of a dry run of a study that has not begun."""
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "study": "scale",
            "dataset": {"name": "phantom"},
            "presets": presets,
            "variants": {"one_more": {"base": "lunet_small_4f"}},
            "folds": list(range(FOLDS)),
            "seeds": list(range(seeds)),
        }
        path = Path(folder, "config.yaml")
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "snakemake", "-s", str(PROJECT / "Snakefile")]
        command += ["-d", folder, "-n", "--quiet", "rules", "--configfile", str(path)]
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    match = re.search(r"^total +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    if match is None:
        raise SystemExit(f"the dry run failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(match[1]), time.perf_counter() - begin, cpu, after.ru_maxrss / 1024


def main() -> None:
    """Print the table; memory grows from row to row, so the largest is the row's own."""
    from lunet.study.presets import PAPER_PRESETS

    presets = [*PAPER_PRESETS, "one_more"]
    print("| runs | jobs | seconds | CPU seconds | MiB |\n|---|---|---|---|---|")
    for runs, seeds in SIZES.items():
        jobs, seconds, cpu, memory = dry_run(presets, seeds)
        print(f"| {runs} | {jobs} | {seconds:.1f} | {cpu:.1f} | {memory:.0f} |", flush=True)


if __name__ == "__main__":
    main()
