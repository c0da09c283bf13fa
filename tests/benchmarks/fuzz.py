"""Damage every reader's file, many times, and say how each ended.

    OMP_NUM_THREADS=1 python tests/benchmarks/fuzz.py [FILES PER READER] [SEED]

The default, 120 files per reader, is about 5,000 in all and takes a few minutes. Exit code 1 if a
reader raised anything but an error of lunet's own, took two minutes, or printed a page.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from readers_under_test import Reader, damaged, readers, survives


def run(reader: Reader, count: int, seed: str) -> tuple[int, int]:
    """Files that were refused, and that ended in another way, which is printed."""
    whole, refused, bad = reader.path.read_bytes(), 0, 0
    for number in range(count):
        content = damaged(whole, Random(f"{seed}/{reader.name}/{number}"))
        try:
            refused += survives(reader, content) is not None
        except Exception:
            bad += 1
            print(f"{reader.name}, file {number} of seed {seed}: {content[:300]!r}")
            traceback.print_exc(limit=-3)
    return refused, bad


def main() -> int:
    """Run all readers."""
    warnings.simplefilter("ignore")
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 120
    seed = sys.argv[2] if len(sys.argv) > 2 else "0"
    total = wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for reader in readers(Path(folder)):
            refused, bad = run(reader, count, seed)
            total, wrong = total + count, wrong + bad
            print(f"{reader.name}: {count} damaged, {refused} refused, {bad} wrong", flush=True)
    print(f"{total} damaged files, {wrong} ended wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
