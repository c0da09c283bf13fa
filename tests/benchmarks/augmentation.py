"""Cost of augmentation: TorchIO 1 per sample, TorchIO 2 and ours on the batch, and a training step.

    OMP_NUM_THREADS=1 python tests/benchmarks/augmentation.py [--rounds 3] [--batch 16]

TorchIO 2 needs an environment of its own, whose interpreter --torchio2 names:

    python -m venv /tmp/torchio2 && /tmp/torchio2/bin/pip install torchio==2.0.0a2
    ... augmentation.py --torchio2 /tmp/torchio2/bin/python

Each round runs every variant once, in random order; the table shows medians of the process's CPU
time (wall time on a GPU) and ratios to the first row and to the training step, all of one run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torchio

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from torchio_augment import TorchioAugmenter

import lunet
from lunet.study.recipes import find_recipe
from lunet.training.augmentation.batched import Augmenter
from lunet.training.compute.arithmetic import keep_freed_memory
from lunet.training.losses.build import build_loss
from lunet.training.recipe import Augmentation

USUAL = Augmentation(affine_p=1.0, elastic_p=1.0, noise_p=1.0, gamma_p=1.0, flip_axes=(0, 1, 2))
AFFINE, ELASTIC = Augmentation(affine_p=1.0), Augmentation(elastic_p=1.0)
EVERY = replace(
    USUAL,
    grid_distortion_p=1.0,
    blur_p=1.0,
    low_resolution_p=1.0,
    gamma_inverted_p=1.0,
    bias_p=1.0,
    brightness_p=1.0,
    dropout_p=1.0,
)
ONE = f"TorchIO {torchio.__version__}"
VARIANTS = {
    f"affine, elastic, noise, gamma, flips, all samples: {ONE}": TorchioAugmenter(USUAL, 3),
    "the same: batched": Augmenter(USUAL, 3),
    f"affine alone: {ONE}": TorchioAugmenter(AFFINE, 3),
    "affine alone: batched": Augmenter(AFFINE, 3),
    f"elastic alone: {ONE}": TorchioAugmenter(ELASTIC, 3),
    "elastic alone: batched": Augmenter(ELASTIC, 3),
    "every transform, all samples: batched": Augmenter(EVERY, 3),
    "recipe `strong`: batched": Augmenter(find_recipe("strong").augmentation, 3),
}


TWO = {
    "usual": "the same",
    "fused": "the same, affine and elastic in one",
    "affine": "affine alone",
    "elastic": "elastic alone",
}
"""Chains of ``torchio2_augment.py``."""


def torchio_2(python: str, shape: tuple[int, ...]) -> dict[str, Callable[[], float]]:
    """Functions that let a process with TorchIO 2 augment a batch, and return its seconds."""
    script = Path(__file__).parents[1] / "helpers" / "torchio2_augment.py"
    process = subprocess.Popen(
        [python, "-W", "ignore", script, *map(str, shape)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def asked(chain: str) -> float:
        process.stdin.write(f"{chain}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    version = process.stdout.readline().strip()
    return {f"{what}: TorchIO {version}": partial(asked, chain) for chain, what in TWO.items()}


def training_step(images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    """One step of lunet_small_4f with Adam, under bf16 autocast."""
    model = lunet.build_model("lunet_small_4f").to(images.device).train()
    optimiser, loss = torch.optim.Adam(model.parameters(), lr=1e-2), build_loss("dice")
    binary = labels.clamp_max(1)

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16):
            logits = model(images)
        optimiser.zero_grad(set_to_none=True)
        loss(logits, binary).backward()
        optimiser.step()

    return step


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """CPU seconds of a call, or wall seconds until the GPU is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=3, default=(48, 64, 48))
    parser.add_argument("--torchio2", metavar="PYTHON", help="interpreter that has TorchIO 2")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    tuned = keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.randn(arguments.batch, 1, *arguments.size, device=device)
    labels = torch.randint(0, 3, (arguments.batch, *arguments.size), dtype=torch.uint8).to(device)
    generator = torch.Generator().manual_seed(0)
    calls: dict[str, Callable[[], float]] = {}
    for name, augment in VARIANTS.items():
        calls[name] = partial(seconds, partial(augment, images, labels, generator), device)
    if arguments.torchio2:
        calls |= torchio_2(arguments.torchio2, (arguments.batch, *arguments.size))
    calls["training step, lunet_small_4f, bf16"] = partial(
        seconds, training_step(images, labels), device
    )
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        if ONE not in name:
            call()  # warm up; TorchIO 1 has nothing to warm up and takes long
    for _ in range(arguments.rounds):
        for name in random.sample(list(calls), len(calls)):
            times[name].append(calls[name]())
    medians = {name: statistics.median(values) for name, values in times.items()}
    first, step = medians[next(iter(VARIANTS))], list(medians.values())[-1]
    shape = "x".join(str(n) for n in images.shape)
    print(f"{shape} on {device}, {torch.get_num_threads()} threads, freed memory kept: {tuned}")
    print(f"{'variant':<60}{'ms':>9}{'x faster':>10}{'% of step':>11}")
    for name, median in medians.items():
        print(f"{name:<60}{median * 1e3:>9.1f}{first / median:>10.1f}{median / step:>11.1%}")


if __name__ == "__main__":
    main()
