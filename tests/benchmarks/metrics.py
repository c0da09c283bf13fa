"""Time and memory of the surface metrics beside MONAI, surface-distance and MedPy.

    python tests/benchmarks/metrics.py [--rounds 5] [--sizes hippocampus ...] [--medpy]

All tools see the same pairs in the same process, one round after the other in random order; the
table gives medians of CPU time on one thread and ratios to lunet. lunet computes all metrics of
``evaluate_case`` (overlap, HD, HD95, ASSD, MASD, NSD, volumes); the others what their row says.
MONAI is given one-hot tensors, surface-distance and MedPy boolean masks, made beforehand. Memory
is the growth of the resident set during one call in a fresh process (Linux alone).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Size:
    """A volume to measure on."""

    shape: tuple[int, int, int]
    labels: int
    spacing: tuple[float, float, float]


SIZES = {
    "hippocampus": Size((48, 64, 48), 2, (1.0, 1.0, 1.0)),
    "256x256x128": Size((256, 256, 128), 3, (1.0, 1.0, 1.5)),
    "512x512x100": Size((512, 512, 100), 3, (0.8, 0.8, 2.5)),
}


def phantom(size: Size, seed: int = 0) -> tuple[Labels, Labels]:
    """Noise-deformed ellipsoids, and a prediction with wavy borders and false islands."""
    rng = np.random.default_rng(seed)
    reference = np.zeros(size.shape, np.uint8)
    prediction = np.zeros(size.shape, np.uint8)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in size.shape]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    for label in range(1, size.labels + 1):
        centre, radius = rng.uniform(-0.35, 0.35, 3), rng.uniform(0.25, 0.5, 3)
        field = sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius, strict=True))
        field = field + 0.15 * _noise(size.shape, 16, rng)
        reference[field < 1] = label
        wavy = 0.08 * _noise(size.shape, 12, rng) + 0.03 * _noise(size.shape, 6, rng)
        prediction[field + wavy < 1] = label
    for label in (*range(1, size.labels + 1),) * 3:
        corner = [rng.integers(2, n - 6) for n in size.shape]
        prediction[tuple(slice(c, c + 4) for c in corner)] = label
    return reference, prediction


def _noise(shape: tuple[int, ...], step: int, rng: np.random.Generator) -> NDArray[np.float32]:
    coarse = rng.normal(size=[max(3, n // step) for n in shape]).astype(np.float32)
    return ndimage.zoom(coarse, [n / c for n, c in zip(shape, coarse.shape, strict=True)], order=1)


def lunet_all(size: Size, pair: tuple[Labels, Labels]) -> Callable[[], object]:
    from lunet.metrics.case import evaluate_case

    labels = {str(index): index for index in range(1, size.labels + 1)}
    return lambda: evaluate_case(*pair, spacing=size.spacing, labels=labels)


def monai_hd95(size: Size, pair: tuple[Labels, Labels]) -> Callable[[], object]:
    from monai.metrics import compute_hausdorff_distance

    y, y_pred = _one_hot(size, pair)
    return lambda: compute_hausdorff_distance(y_pred, y, percentile=95, spacing=size.spacing)


def monai_all(size: Size, pair: tuple[Labels, Labels]) -> Callable[[], object]:
    """HD, HD95, ASSD and NSD (voxel-counted, the default and the fastest) in four calls."""
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    y, y_pred = _one_hot(size, pair)
    limits = [1.0] * size.labels

    def run() -> object:
        return (
            compute_hausdorff_distance(y_pred, y, spacing=size.spacing),
            compute_hausdorff_distance(y_pred, y, percentile=95, spacing=size.spacing),
            compute_average_surface_distance(y_pred, y, symmetric=True, spacing=size.spacing),
            compute_surface_dice(y_pred, y, limits, spacing=size.spacing),
        )

    return run


def _one_hot(size: Size, pair: tuple[Labels, Labels]) -> list[object]:
    import torch

    torch.set_num_threads(1)
    classes = np.arange(size.labels + 1, dtype=np.uint8)[:, None, None, None]
    return [torch.from_numpy(array[None] == classes)[None] for array in pair]


def surface_distance_all(size: Size, pair: tuple[Labels, Labels]) -> Callable[[], object]:
    """HD, HD95, mean distances and NSD from one ``compute_surface_distances`` per label."""
    for name, value in (("Inf", np.inf), ("NaN", np.nan)):
        if not hasattr(np, name):
            setattr(np, name, value)  # version 0.1 uses names that NumPy 2 has dropped
    from surface_distance import metrics

    masks = _masks(size, pair)

    def run() -> object:
        results = []
        for one, other in masks:
            found = metrics.compute_surface_distances(one, other, size.spacing)
            results += [metrics.compute_robust_hausdorff(found, p) for p in (95, 100)]
            results.append(metrics.compute_average_surface_distance(found))
            results.append(metrics.compute_surface_dice_at_tolerance(found, 1.0))
        return results

    return run


def medpy_hd95(size: Size, pair: tuple[Labels, Labels]) -> Callable[[], object]:
    from medpy.metric.binary import hd95

    masks = _masks(size, pair)
    return lambda: [hd95(other, one, voxelspacing=size.spacing) for one, other in masks]


def _masks(size: Size, pair: tuple[Labels, Labels]) -> list[tuple[NDArray[np.bool_], ...]]:
    return [(pair[0] == index, pair[1] == index) for index in range(1, size.labels + 1)]


TOOLS = {
    "lunet, all metrics": lunet_all,
    "MONAI HD95": monai_hd95,
    "MONAI HD+HD95+ASSD+NSD": monai_all,
    "surface-distance, all": surface_distance_all,
    "MedPy HD95": medpy_hd95,
}


def measure(size: Size, tools: list[str], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each tool; one unmeasured call first."""
    pair = phantom(size)
    calls = {name: TOOLS[name](size, pair) for name in tools}
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    calls[tools[0]]()
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(tools, len(tools)):
            start = time.process_time()
            calls[name]()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_growth_mib(call: Callable[[], object]) -> float:
    """Highest resident set during a call less that before it, in MiB."""
    start = peak = _resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return (peak - start) / 2**20


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory(size: str, tool: str) -> float:
    """:func:`peak_growth_mib` of a tool in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", tool, "--sizes", size]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(answer.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--medpy", action="store_true", help="MedPy too (a minute at 512)")
    parser.add_argument("--memory-of", choices=TOOLS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        size = SIZES[options.sizes[0]]
        print(peak_growth_mib(TOOLS[options.memory_of](size, phantom(size))))
        return
    tools = [name for name in TOOLS if options.medpy or not name.startswith("MedPy")]
    for name in options.sizes:
        print(f"\n{name}, {SIZES[name].labels} labels, spacing {SIZES[name].spacing} mm")
        print(f"{'':26}{'CPU ms':>10}{'x lunet':>10}{'MiB':>8}")
        medians = measure(SIZES[name], tools, options.rounds)
        for tool, seconds in medians.items():
            ratio = seconds / medians[tools[0]]
            print(f"{tool:26}{1e3 * seconds:10.1f}{ratio:10.1f}{memory(name, tool):8.0f}")


if __name__ == "__main__":
    main()
