"""Cost of augmentation: TorchIO per sample, ours on the batch, beside a training step.

    OMP_NUM_THREADS=1 python tests/benchmarks/augmentation.py [--rounds 3] [--batch 16]

Each round runs every variant once, in random order; the table shows medians of the process's CPU
time (wall time on a GPU) and ratios to the first row and to the training step, all of one run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch

import lunet
from lunet.study.recipes import find_recipe
from lunet.training.compute.arithmetic import keep_freed_memory
from lunet.training.losses.build import build_loss
from lunet.training.recipe import Augmentation
from lunet.training.setup import build_augment

USUAL = Augmentation(affine=1.0, elastic=1.0, noise=1.0, gamma=1.0, flip_axes=(0, 1, 2))
EVERY = replace(
    USUAL,
    grid_distortion=1.0,
    blur=1.0,
    low_resolution=1.0,
    gamma_inverted=1.0,
    bias=1.0,
    brightness=1.0,
    dropout=1.0,
)
VARIANTS = {
    "affine, elastic, noise, gamma, flips, all samples: TorchIO": replace(USUAL, engine="torchio"),
    "the same: batched": USUAL,
    "affine alone: TorchIO": Augmentation(engine="torchio", affine=1.0),
    "affine alone: batched": Augmentation(affine=1.0),
    "elastic alone: TorchIO": Augmentation(engine="torchio", elastic=1.0),
    "elastic alone: batched": Augmentation(elastic=1.0),
    "every transform, all samples: batched": EVERY,
    "recipe `strong`: batched": find_recipe("strong").augmentation,
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
    for name, settings in VARIANTS.items():
        augment = build_augment(settings, 3)
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
