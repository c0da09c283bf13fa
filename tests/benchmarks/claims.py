"""How often claims are false, and intervals true, when equal presets are compared.

    python tests/benchmarks/claims.py [REPLICATES]

A grid over subjects, folds, seeds and the deviation of a training's mean. Each replicate compares
two presets with a third, all three equal: printed are the share of replicates with any false
verdict (at most 5 % is right), the same by sign flips of subjects alone, and the share of 95 %
intervals that hold the true difference of 0.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from simulated_study import trained_study

from lunet.statistics.paired import compare_presets


def main(replicates: int) -> None:
    """Print the grid."""
    print("subjects folds seeds  sd of a training  false  subjects alone  coverage")
    grid = itertools.product((20, 40), (1, 5), (1, 2, 3), (0.0, 0.01))
    for place, (subjects, folds, seeds, sd) in enumerate(grid):
        rng = np.random.default_rng(place)
        false, alone, covered = [], [], []
        for _ in range(replicates):
            rows = trained_study(
                rng,
                dict.fromkeys(("a", "b", "c"), 0.0),
                subjects=subjects,
                folds=folds,
                seeds=seeds,
                training_sd=sd,
            )
            table = compare_presets(
                rows, "dice", reference="a", margin=None, resamples=199, permutations=199
            )
            false.append(table["verdict"].isin(("better", "worse")).any())
            alone.append((table["p_permutation_holm"] <= 0.05).any())
            covered += list((table["ci_low"] <= 0) & (table["ci_high"] >= 0))
        shares = f"{np.mean(false):6.1%} {np.mean(alone):15.1%} {np.mean(covered):9.1%}"
        print(f"{subjects:8} {folds:5} {seeds:5} {sd:17.3f} {shares}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
