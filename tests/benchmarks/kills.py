"""Kill trainings at 100 random and chosen moments; print what was lost and what came out.

Example: OMP_NUM_THREADS=1 python tests/benchmarks/kills.py --kills 100
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).parents[1] / "helpers"),
    str(Path(__file__).parents[1] / "workflow"),
]

from kill_training import (  # noqa: E402
    ANYWHERE,
    MOMENTS,
    count_events,
    finish,
    log_of,
    start,
)
from tiny_training import EVERYTHING, job, prepare, results  # noqa: E402

from lunet.training.job import TrainingJob  # noqa: E402


def main() -> int:
    """Run the trials and print the table; 1 if any result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return _trials(Path(folder), arguments.kills, random.Random(arguments.seed))


def _trials(folder: Path, wanted: int, rng: random.Random) -> int:
    data = prepare(folder / "data")
    events = count_events(job(data, folder / "reference", EVERYTHING))
    expected = results(folder / "reference")
    kills: Counter[str] = Counter()
    equal: Counter[str] = Counter()
    trials: Counter[str] = Counter()
    while sum(kills.values()) < wanted:
        moment = rng.choice((*MOMENTS, ANYWHERE, ANYWHERE, ANYWHERE))
        task = job(data, folder / f"trial-{sum(trials.values())}", EVERYTHING)
        trials[moment] += 1
        kills[moment] += _disturb(task, moment, events, rng)
        equal[moment] += results(task.out.parent) == expected
    _print(kills, trials, equal)
    return int(equal != trials)


def _disturb(task: TrainingJob, moment: str, events: int, rng: random.Random) -> int:
    """Train to the end through one or many kills; returns their number."""
    kills = 0
    if moment != ANYWHERE:
        once = moment in (MOMENTS[0], MOMENTS[-1])
        kills += finish(start(task, moment, 1 if once else rng.randint(1, 10))) == -signal.SIGKILL
        code = finish(start(task))
    else:
        while (
            code := finish(start(task, ANYWHERE, rng.randint(1, events) + kills * events // 10))
        ) == -signal.SIGKILL:
            kills += 1
    if code:
        raise SystemExit(log_of(task))
    return kills


def _print(kills: Counter[str], trials: Counter[str], equal: Counter[str]) -> None:
    print("| moment of the kill | kills | trainings | equal bit for bit |")
    print("| --- | --- | --- | --- |")
    for moment in sorted(trials):
        print(f"| {moment} | {kills[moment]} | {trials[moment]} | {equal[moment]} |")
    print(f"| all | {kills.total()} | {trials.total()} | {equal.total()} |")


if __name__ == "__main__":
    sys.exit(main())
