"""Cost of augmentation: TorchIO per sample, ours on the batch, beside a training step.

    OMP_NUM_THREADS=1 python tests/benchmarks/augmentation.py [--rounds 3] [--batch 16]

Each round runs every variant once, in random order; the table shows medians of the process's CPU
time (wall time on a GPU) and ratios to the first row and to the training step, all of one run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

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
VARIANTS = {
    "affine, elastic, noise, gamma, flips, all samples: TorchIO": TorchioAugmenter(USUAL, 3),
    "the same: batched": Augmenter(USUAL, 3),
    "affine alone: TorchIO": TorchioAugmenter(AFFINE, 3),
    "affine alone: batched": Augmenter(AFFINE, 3),
    "elastic alone: TorchIO": TorchioAugmenter(ELASTIC, 3),
    "elastic alone: batched": Augmenter(ELASTIC, 3),
    "every transform, all samples: batched": Augmenter(EVERY, 3),
    "recipe `strong`: batched": Augmenter(find_recipe("strong").augmentation, 3),
}


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
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    tuned = keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.randn(arguments.batch, 1, *arguments.size, device=device)
    labels = torch.randint(0, 3, (arguments.batch, *arguments.size), dtype=torch.uint8).to(device)
    generator = torch.Generator().manual_seed(0)
    calls: dict[str, Callable[[], object]] = {}
    for name, augment in VARIANTS.items():
        calls[name] = lambda augment=augment: augment(images, labels, generator)
    calls["training step, lunet_small_4f, bf16"] = training_step(images, labels)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        if "TorchIO" not in name:
            call()  # warm up; TorchIO has nothing to warm up and takes long
    for _ in range(arguments.rounds):
        for name in random.sample(list(calls), len(calls)):
            times[name].append(seconds(calls[name], device))
    medians = {name: statistics.median(values) for name, values in times.items()}
    first, step = medians[next(iter(VARIANTS))], list(medians.values())[-1]
    shape = "x".join(str(n) for n in images.shape)
    print(f"{shape} on {device}, {torch.get_num_threads()} threads, freed memory kept: {tuned}")
    print(f"{'variant':<60}{'ms':>9}{'x faster':>10}{'% of step':>11}")
    for name, median in medians.items():
        print(f"{name:<60}{median * 1e3:>9.1f}{first / median:>10.1f}{median / step:>11.1%}")


if __name__ == "__main__":
    main()
