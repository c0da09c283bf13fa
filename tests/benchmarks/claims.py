"""How often claims are false, and intervals true, in simulated studies.

    python tests/benchmarks/claims.py [STUDIES]

Each line is a kind of study of four presets, three of which are compared with the first: how often
any verdict of the study is false (at most 6 % is the goal), the same by sign flips of subjects
alone where nothing differs, and the share of 95 % intervals that hold the true difference (93 to
97 % is the goal; where it is more, the line says "wide"). Where a study has fewer than 3 seeds or
12 subjects a miss is a warning: reports say so beside such intervals. STUDIES
are simulated for each line (default 2000; a tenth of them with one seed, whose
intervals are bootstrapped one by one).
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
from claim_simulation import Design, outcome

EFFECTS = {
    "null": (0.0, 0.0, 0.0, 0.0),
    "planted": (0.0, 0.02, -0.003, -0.02),
    "margin": (0.0, -0.01, -0.01, -0.01),
}


def designs() -> list[tuple[str, Design]]:
    """The kinds of studies, by name."""
    found = []
    for seeds, folds, subjects in itertools.product((1, 2, 3, 5), (1, 5), (6, 12, 20, 40, 60)):
        for sd, (name, effects) in itertools.product((0.0, 0.005, 0.01, 0.02), EFFECTS.items()):
            if name == "null" or (sd == 0.01 and subjects in (6, 12, 40)):
                found.append((name, Design(subjects, folds, seeds, sd, effects)))
        if subjects in (12, 40):
            null = EFFECTS["null"]
            for tails in ("t3", "exponential"):
                found.append((tails, Design(subjects, folds, seeds, 0.01, null, tails)))
            found.append(("3 % fail", Design(subjects, folds, seeds, 0.01, null, failures=0.03)))
    return found


def is_off(found: dict[str, float], studies: int) -> bool:
    """Whether a goal is missed by more than two standard errors of the simulation itself."""
    most = 0.06 + 2 * math.sqrt(0.06 * 0.94 / studies)
    least = 0.93 - 2 * math.sqrt(0.93 * 0.07 / studies)
    return found["false"] > most or not found["coverage"] >= least


def main(studies: int) -> int:
    """Print the table; returns 1 if a goal is missed where it is one."""
    print("kind        seeds folds subjects  sd of a training  false  subjects alone  coverage")
    missed = 0
    for place, (name, design) in enumerate(designs()):
        number = studies if design.seeds > 1 else max(1, studies // 10)
        found = outcome(np.random.default_rng(place), design, number)
        note = ""
        if is_off(found, number):
            is_goal = design.seeds >= 3 and design.subjects >= 12
            note = "  MISSED" if is_goal else "  warning"
        missed += note == "  MISSED"
        note = note or ("  wide" if found["coverage"] > 0.97 else "")
        print(
            f"{name:12}{design.seeds:5}{design.folds:6}{design.subjects:9}"
            f"{design.training_sd:18.3f} {found['false']:6.1%}{found['subjects_alone']:16.1%}"
            f"{found['coverage']:10.1%}{note}",
            flush=True,
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
