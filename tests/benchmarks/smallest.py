"""Simulated searches with a known answer: how often it is wrong, right, and what it costs.

Families of networks with planted differences from the reference are searched by the real decision
code (lunet.study.smallest, lunet.statistics.looks); only the trainings are drawn. An answer is
wrong if it is a network that is truly inferior by the margin or more.

    python tests/benchmarks/smallest.py --studies 1000
    python tests/benchmarks/smallest.py --early

With --early, instead: how often a network that ends as good as the reference, but learns more
slowly, would be suspended at a third of its epochs (the loss of power of that rule).
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from lunet.reporting.search_grid import SearchGrid
from lunet.statistics.looks import FoldValues, looks
from lunet.statistics.sequential import Plan
from lunet.study.smallest import (
    EARLY_SHARE,
    Candidate,
    Finding,
    Search,
    cheaper,
    needed,
    projected_gap,
    search,
)

MARGIN, LEVEL, FOLDS, SEEDS, CASES = 0.01, 0.025, 5, 2, 37
# of the hippocampus: subjects' differences, trainings, a subject under one training
SUBJECTS_SD, TRAININGS_SD, REST_SD = 0.019, 0.003, 0.008
WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16)
FAMILIES = {"unet_small": 3.0, "lunet_small": 1.0, "lunet_large": 2.0}


@dataclass(frozen=True)
class Shape:
    """Differences from the reference of the eight widths, per family, narrow to wide."""

    name: str
    differences: Mapping[str, tuple[float, ...]]
    margin: float = MARGIN


def steps(good_from: int, below: float = -MARGIN, then: float = -0.03) -> tuple[float, ...]:
    """As good as the reference from the width on, ``below`` just under it, then ``then``."""
    places = range(len(WIDTHS))
    return tuple(0.0 if p >= good_from else below if p == good_from - 1 else then for p in places)


SHAPES = (
    Shape(
        "next smaller one exactly at the margin",
        {"unet_small": steps(5), "lunet_small": steps(4), "lunet_large": steps(3)},
    ),
    Shape(
        "all candidates exactly at the margin", dict.fromkeys(FAMILIES, (-MARGIN,) * len(WIDTHS))
    ),
    Shape(
        "a cliff of 0.05",
        {name: steps(place, -0.05, -0.1) for name, place in zip(FAMILIES, (5, 4, 3), strict=True)},
    ),
    Shape(
        "a gentle slope",
        {name: tuple(-0.02 * 0.6**place for place in range(len(WIDTHS))) for name in FAMILIES},
    ),
)


def networks() -> list[Candidate]:
    """All candidates with their costs."""
    return [
        Candidate(f"{family}_{width}f", family, factor * width, int(1000 * factor * width))
        for family, factor in FAMILIES.items()
        for width in WIDTHS
    ]


REFERENCE = Candidate("reference", "", 100.0, 100_000)


def drawn(rng: np.random.Generator, truth: Mapping[str, float]) -> dict[str, dict[int, FoldValues]]:
    """Values of every network and of the reference it is compared with."""
    found: dict[str, dict[int, FoldValues]] = {name: {} for name in truth}
    for fold in range(FOLDS):
        names = np.array([f"{fold}-{place}" for place in range(CASES)])
        reference = _trained(rng, 0.0)
        for name, difference in truth.items():
            found[name][fold] = FoldValues(names, names, _trained(rng, difference), reference)
    return found


def _trained(rng: np.random.Generator, difference: float) -> np.ndarray:
    # half of the subjects' variance on each side makes SUBJECTS_SD of their difference
    own = rng.normal(0, SUBJECTS_SD / np.sqrt(2), CASES)
    luck = rng.normal(0, TRAININGS_SD, (SEEDS, 1))
    return difference + own + luck + rng.normal(0, REST_SD, (SEEDS, CASES))


def one_study(shape: Shape, strategy: str, number: int) -> tuple[bool, bool, int, float]:
    """Whether the answer of a study is wrong, right; its trainings; its folds per candidate."""
    rng = np.random.default_rng([number, SHAPES.index(shape)])
    candidates = networks()
    place = {f"{family}_{width}f": p for family in FAMILIES for p, width in enumerate(WIDTHS)}
    truth = {one.name: shape.differences[one.family][place[one.name]] for one in candidates}
    values = drawn(rng, truth)

    def judge(one: Candidate, level: float) -> Finding:
        found = looks(values[one.name], Plan(shape.margin, level), range(FOLDS))
        outcome = found[-1][0].decision
        return Finding("not shown" if outcome == "continue" else outcome, len(found))

    families, _ = cheaper(candidates, REFERENCE)
    found: Search = search(families, judge, level=LEVEL, strategy=strategy)  # type: ignore[arg-type]
    good = [one for one in candidates if truth[one.name] > -shape.margin]
    best = min(good, key=lambda one: one.rank, default=None)
    wrong = found.answer is not None and truth[found.answer.name] <= -shape.margin
    grid = SearchGrid(REFERENCE.name, tuple(range(FOLDS)), tuple(range(SEEDS)))
    runs = needed(found, grid)
    depth = [step.finding.folds for step in found.steps]
    return wrong, found.answer == best, len(runs), float(np.mean(depth))


def suspended(
    slower: float,
    noise: float,
    *,
    studies: int,
    gap: float,
    delay: float = 0.0,
    end: float = 0.85,
    fast: float = 1 / 12,
    epochs: int = 60,
) -> float:
    """Share of studies in which a network that ends as good as the reference is suspended.

    Validation curves are ``end * (1 - exp(-t / tau))`` of the share t of the epochs, with
    independent normal noise; tau is ``fast`` for the reference and ``slower`` times that for the
    candidate, which begins to learn after the share ``delay``.
    """
    rng = np.random.default_rng(0)
    numbers = np.arange(1, epochs + 1)
    at = round(EARLY_SHARE * epochs)

    def curves(tau: float, start: float) -> list[list[tuple[int, float]]]:
        times = np.maximum(0, numbers / epochs - start)
        scores = end * (1 - np.exp(-times / tau)) + rng.normal(0, noise, (SEEDS, epochs))
        return [list(zip(numbers.tolist(), row, strict=True)) for row in scores.clip(0, 1)]

    lost = 0
    for _ in range(studies):
        candidate = [curve[:at] for curve in curves(slower * fast, delay)]
        lost += projected_gap(candidate, curves(fast, 0.0), at) > gap
    return lost / studies


def early(studies: int, gap: float = 0.15) -> None:
    """Print the loss of power of the early look: a row per speed and delay, a column per noise."""
    noises = (0.01, 0.02, 0.04)
    print(f"{studies} studies each; suspended where the projected gap exceeds {gap}, {SEEDS} seeds")
    print("times slower  delay  " + "  ".join(f"sd {noise}" for noise in noises))
    for slower, delay in itertools.product((1.0, 1.5, 2.0, 3.0, 4.0), (0.0, 0.1, 0.2)):
        losses = [suspended(slower, sd, studies=studies, gap=gap, delay=delay) for sd in noises]
        shown = "  ".join(f"{100 * loss:5.1f} %" for loss in losses)
        print(f"{slower:12.2f}  {delay:5.1f}  {shown}", flush=True)


def main() -> None:
    """Print a row per shape and strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--strategies", nargs="+", default=["descending", "bisect"])
    parser.add_argument("--early", action="store_true")
    arguments = parser.parse_args()
    if arguments.early:
        early(arguments.studies)
        return
    grid = (len(networks()) + 1) * FOLDS * SEEDS
    print(f"{arguments.studies} studies each; {FOLDS} folds of {CASES} subjects, {SEEDS} seeds")
    print(f"{'shape':40} {'strategy':10}  wrong   right  trainings of {grid}  folds/test  s")
    with ProcessPoolExecutor(arguments.processes) as pool:
        for shape in SHAPES:
            for strategy in arguments.strategies:
                start = time.perf_counter()
                work = partial(one_study, shape, strategy)
                rows = np.array(list(pool.map(work, range(arguments.studies), chunksize=20)))
                wrong, right, runs, folds = rows.mean(axis=0)
                print(
                    f"{shape.name:40} {strategy:10} {100 * wrong:5.1f} % {100 * right:5.1f} % "
                    f"{runs:8.1f} {100 * runs / grid:6.1f} % {folds:8.2f}"
                    f" {time.perf_counter() - start:10.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
