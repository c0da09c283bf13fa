"""Training speed: the loop as most people write it beside lunet's, interleaved in one run.

(a) NIfTI files, the SubjectsLoader of TorchIO 1.2.1 with affine, elastic, noise, gamma and flip,
    fp32 eager;
(b) the same network and step without augmentation, batches from memory;
(c) lunet train's own step, without and with augmentation (flip, affine, elastic, noise, gamma), the
    engine as measured by itself. (a) and (b) run in one process and (c) in another, since the
    allocator's settings hold for a process.

All use the GPU where there is one. Samples per second are medians over the rounds, by the wall
clock unless --cpu-time is given; a ratio is of two medians. The arithmetic of a step is taken as
three forward passes (multiply-adds, counted by torch) and compared with what a large bfloat16
matrix product reaches on the same device, which no convolution of narrow layers can.

Example: python tests/benchmarks/training.py --presets lunet_small_4f --rounds 5
         python tests/benchmarks/training.py --quick    # two rounds on one thread, some minutes
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import tiny_training

from lunet.efficiency.counts import count_macs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = {"small": ((48, 64, 48), 16), "large": ((96, 96, 96), 1)}
Step = Callable[[], object]


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--presets", nargs="+", default=["lunet_small_4f", "unet_small_4f", "lunet_large_12f"]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--workers", type=int, default=2, help="loader processes of (a)")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="measure computed seconds, on a machine that others use; needs --workers 0",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two rounds on one thread, no loader processes, computed seconds",
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.threads, arguments.workers = 2, 1, 0
        arguments.cpu_time = True
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.workers} workers")
    print("| preset | batch | variant | samples/s | x (a) | x (b) |")
    print("| --- | --- | --- | --- | --- | --- |")
    for preset in arguments.presets:
        with tempfile.TemporaryDirectory() as folder:
            _compare(preset, Path(folder), arguments)


def _compare(preset: str, folder: Path, arguments: argparse.Namespace) -> None:
    shape, batch = SIZES["large" if "large" in preset else "small"]
    prepare(folder, shape, batch)
    context = multiprocessing.get_context("spawn")
    workers = []
    for serve in (plain_variants, own_variants):
        here, there = context.Pipe()
        options = (there, serve, preset, folder, batch, arguments)
        process = context.Process(target=_serve, args=options)
        process.start()
        names = here.recv()
        workers.append((here, process, names))
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        for pipe, _, names in workers:
            for name in names:
                pipe.send(name)
                seconds.setdefault(name, []).append(pipe.recv())
    for pipe, process, _ in workers:
        pipe.send(None)
        process.join()
    _print(preset, (batch, 1, *shape), {n: statistics.median(s) for n, s in seconds.items()})
    if not arguments.cpu_time:
        _print_limit(preset, (batch, 1, *shape), seconds, arguments.threads)


def _print_limit(
    preset: str, batch: tuple[int, ...], seconds: dict[str, list[float]], threads: int
) -> None:
    macs = 3 * count_macs(network(preset), batch)["macs"]
    step = statistics.median(list(seconds.values())[2])
    limit = matrix_rate(threads)
    print(
        f"{preset}: {macs / 1e9:.0f} GMAC per step, {macs / step / 1e9:.0f} GMAC/s, "
        f"{macs / step / limit:.0%} of a matrix product's {limit / 1e9:.0f}",
        flush=True,
    )


def matrix_rate(threads: int) -> float:
    """Multiply-adds per second of a large bfloat16 matrix product, the best of some."""
    torch.set_num_threads(threads)
    size = 8192 if DEVICE == "cuda" else 2048
    one, other = (torch.randn(size, size, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        _wait(one @ other)
        seconds.append(time.perf_counter() - start)
    return size**3 / min(seconds)


def _wait(result: object) -> object:
    """The result, once the device has it."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return result


def _print(preset: str, batch: tuple[int, ...], seconds: dict[str, float]) -> None:
    first, second = list(seconds)[:2]
    for name, value in seconds.items():
        ratios = f"{seconds[first] / value:.2f} | {seconds[second] / value:.2f}"
        size = "x".join(map(str, batch))
        print(f"| {preset} | {size} | {name} | {batch[0] / value:.2f} | {ratios} |", flush=True)
    bare, full = list(seconds.values())[2:4]
    print(f"augmentation takes {(full - bare) / full:.0%} of the step of {preset}")


def _serve(
    pipe: Connection,
    variants: Callable[..., dict[str, Step]],
    preset: str,
    folder: Path,
    batch: int,
    arguments: argparse.Namespace,
) -> None:
    """Build the variants, warm each up, then take a step of whichever is asked for."""
    torch.set_num_threads(arguments.threads)
    steps = variants(preset, folder, batch, arguments.threads, arguments.workers)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    for step in steps.values():
        step()
    pipe.send(list(steps))
    while (name := pipe.recv()) is not None:
        start = clock()
        _wait(steps[name]())
        pipe.send(clock() - start)


def prepare(folder: Path, shape: tuple[int, ...], batch: int) -> None:
    """Prepared volumes (for ours) and the same as NIfTI files (for (a))."""
    cases = max(batch, 4) + 1
    tiny_training.prepare(folder / "prepared", shapes=(shape,) * cases, validation=1)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for path in sorted((folder / "prepared" / kind).iterdir()):
            volume = np.load(path)
            volume = volume[0] if kind == "images" else volume
            nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / kind / f"{path.stem}.nii.gz")


def network(preset: str) -> torch.nn.Module:
    """The preset's network for one channel and two labels."""
    from lunet.models.build import build_network

    model = _model(preset)
    return build_network(
        model["module"],
        model["name"],
        in_channels=1,
        out_channels=3,
        ndim=3,
        arguments=model["arguments"],
    )


def _model(preset: str) -> dict[str, Any]:
    from lunet.study.presets import find_preset

    row = find_preset(preset)
    return {
        "preset": row.name,
        "module": row.module,
        "name": row.network,
        "arguments": dict(row.arguments),
    }


def plain_variants(
    preset: str, folder: Path, batch: int, threads: int, workers: int
) -> dict[str, Step]:
    """(a) and (b)."""
    batches = _torchio_batches(folder, batch, workers)
    kept = next(_torchio_batches(folder, batch, 0, augment=False))
    return {
        "(a) NIfTI + TorchIO 1.2.1, fp32 eager": _plain_step(preset, lambda: next(batches)),
        "(b) from memory, no augmentation": _plain_step(preset, lambda: kept),
    }


def _plain_step(preset: str, fetch: Callable[[], tuple[Any, Any]]) -> Step:
    model = network(preset).to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)

    def step() -> float:
        image, label = (tensor.to(DEVICE) for tensor in fetch())
        optimiser.zero_grad()
        shares = model(image).softmax(1)[:, 1:]
        truth = torch.stack([label == 1, label == 2], 1).float()
        overlap = 2 * (shares * truth).sum((0, 2, 3, 4))
        loss = 1 - (overlap / ((shares + truth).sum((0, 2, 3, 4)) + 1e-7)).mean()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def _torchio_batches(
    folder: Path, batch: int, workers: int, *, augment: bool = True
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    import torchio as tio

    subjects = [
        tio.Subject(image=tio.ScalarImage(path), label=tio.LabelMap(folder / "labels" / path.name))
        for path in sorted((folder / "images").iterdir())
    ][: max(batch, 4)]
    transform = tio.Compose(
        [
            tio.RandomAffine(scales=(0.85, 1.15), degrees=15),
            tio.RandomElasticDeformation(num_control_points=7, max_displacement=5),
            tio.RandomNoise(std=(0, 0.1)),
            tio.RandomGamma(log_gamma=(-0.3, 0.3)),
            tio.RandomFlip(axes=(0,)),
        ]
    )
    dataset = tio.SubjectsDataset(subjects, transform=transform if augment else None)
    while True:
        loader = tio.SubjectsLoader(
            dataset, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers
        )
        for part in loader:
            yield part["image"][tio.DATA].float(), part["label"][tio.DATA][:, 0]


def own_variants(
    preset: str, folder: Path, batch: int, threads: int, workers: int
) -> dict[str, Step]:
    """(c) without and with augmentation."""
    from lunet.training.compute.arithmetic import keep_freed_memory
    from lunet.training.recipe import Augmentation

    keep_freed_memory()
    full = Augmentation(
        affine_p=1.0, elastic_p=1.0, elastic_voxels=5.0, noise_p=1.0, gamma_p=1.0, flip_axes=(0,)
    )
    return {
        "(c) lunet, no augmentation": _own_step(preset, folder, batch, threads, Augmentation()),
        "(c) lunet, augmentation": _own_step(preset, folder, batch, threads, full),
    }


def _own_step(preset: str, folder: Path, batch: int, threads: int, augmentation: Any) -> Step:
    from lunet.data.folds import read_splits
    from lunet.data.prepared import read_manifest
    from lunet.training.loop import check_losses, train_step
    from lunet.training.recipe import Engine
    from lunet.training.setup import build_training

    recipe = replace(
        tiny_training.TINY,
        epochs=10_000,
        batch_size=batch,
        augmentation=augmentation,
        engine=Engine(threads=threads),
    )
    job = replace(tiny_training.job(folder / "prepared", folder, recipe), model=_model(preset))
    fold = read_splits(job.splits).folds[0]
    training = build_training(job, read_manifest(job.manifest), fold, None)
    print(f"{preset}: {training.arithmetic}", file=sys.stderr, flush=True)
    training.model.train()

    def step() -> None:
        if training.progress.step == training.sampler.steps:
            training.progress.step = 0
        train_step(training)
        check_losses(training)

    return step


if __name__ == "__main__":
    main()
