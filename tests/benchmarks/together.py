"""Several small trainings at once beside one at a time: runs per hour, and what stacking gives.

Each round trains the same runs (one preset, several seeds): every run by its own command; all in
one job, one at a time; all in one job, several at once. The files must be equal in the three ways.
Then one step of several networks, their weights stacked by torch.func.vmap (which makes grouped
convolutions), is compared with as many single steps in float32, in computed seconds of one thread
(under vmap batch norm takes no bfloat16 beside float32 statistics).

Example: python tests/benchmarks/together.py --runs 4 --at-once 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

import tiny_training
from training import _model, network, prepare

from lunet.settings import plain
from lunet.training.compute.arithmetic import Arithmetic, keep_freed_memory
from lunet.training.recipe import Engine

SHAPE = (48, 64, 48)
FILES = ("weights.safetensors", "last.safetensors", "history.csv")


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="lunet_small_4f")
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("runs", "stacked"))
    arguments = parser.parse_args()
    if arguments.only != "stacked":
        with tempfile.TemporaryDirectory() as folder:
            _runs_per_hour(Path(folder), arguments)
    if arguments.only != "runs":
        _stacked_steps(arguments)


def _runs_per_hour(folder: Path, arguments: argparse.Namespace) -> None:
    prepare(folder, SHAPE, arguments.batch)
    seeds = [str(seed) for seed in range(arguments.runs)]
    at_once = str(arguments.at_once)
    ways: dict[str, list[list[str]]] = {
        "a command per run": [["--seed", seed] for seed in seeds],
        "one job, one at a time": [["--seed", *seeds]],
        f"one job, {at_once} at once": [["--seed", *seeds, "--at-once", at_once]],
    }
    seconds: dict[str, list[float]] = {}
    for turn in range(arguments.rounds):
        outcomes = []
        for name, commands in ways.items():
            place = folder / f"{turn}" / name.replace(" ", "-")
            start = time.perf_counter()
            for words in commands:
                _train(folder, place, words, arguments)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            outcomes.append(_contents(place, seeds))
        if any(outcome != outcomes[0] for outcome in outcomes):
            raise SystemExit("the runs differ between the three ways")
    first = statistics.median(seconds["a command per run"])
    print("| runs of " + arguments.preset + " | runs per hour | x |\n| --- | --- | --- |")
    for name, values in seconds.items():
        middle = statistics.median(values)
        print(f"| {name} | {3600 * len(seeds) / middle:.0f} | {first / middle:.2f} |", flush=True)
    print("weights and histories are equal, byte for byte, in the three ways")


def _train(folder: Path, place: Path, words: list[str], arguments: argparse.Namespace) -> None:
    """One command; a single run goes where a job of several would put it."""
    recipe = replace(
        tiny_training.TINY,
        epochs=arguments.epochs,
        batch_size=arguments.batch,
        engine=Engine("cpu", "bf16", "channels_last", "off", threads=1),
    )
    settings = {"task": tiny_training.TASK.as_dict(), "model": _model(arguments.preset)}
    settings["recipe"] = plain(recipe)
    run = Path("fold-0", f"seed-{words[1]}") if len(words) == 2 else Path()
    data = folder / "prepared"
    command = [
        sys.executable, "-c", "import sys; from lunet.cli import main; sys.exit(main())",
        "train", "--settings", json.dumps(settings), "--manifest", str(data / "manifest.json"),
        "--splits", str(data / "splits.json"), "--work", str(place / "work" / run),
        "--out", str(place / run), *words,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


def _contents(place: Path, seeds: list[str]) -> list[bytes]:
    return [(place / f"fold-0/seed-{s}" / name).read_bytes() for s in seeds for name in FILES]


def _stacked_steps(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    print("| forward and backward of several networks | computed s | x |\n| --- | --- | --- |")
    for layout in ("contiguous", "channels_last"):
        arithmetic = Arithmetic("cpu", "fp32", layout, False, 1, True)
        variants = {"one by one": _one_by_one, "stacked": _stacked}
        images = torch.randn(arguments.runs, arguments.batch, 1, *SHAPE)
        steps = {name: make(arguments, arithmetic, images) for name, make in variants.items()}
        _compare(layout, steps, arguments.rounds)


def _compare(what: str, steps: dict[str, Callable[[], object]], rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(1 + rounds):  # the first is a warm-up
        for name, step in steps.items():
            start = time.process_time()
            step()
            seconds[name].append(time.process_time() - start)
    middle = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    for name, value in middle.items():
        ratio = middle["one by one"] / value
        print(f"| {what}, {name} | {value:.2f} | {ratio:.2f} |", flush=True)


def _one_by_one(
    arguments: argparse.Namespace, arithmetic: Arithmetic, images: Tensor
) -> Callable[[], object]:
    models = [arithmetic.place(network(arguments.preset)).train() for _ in images]

    def step() -> None:
        for model, image in zip(models, images, strict=True):
            arithmetic.forward(model, image).float().square().mean().backward()
            model.zero_grad()

    return step


def _stacked(
    arguments: argparse.Namespace, arithmetic: Arithmetic, images: Tensor
) -> Callable[[], object]:
    models = [arithmetic.place(network(arguments.preset)).train() for _ in images]
    weights, buffers = stack_module_state(models)

    def loss(own: dict[str, Tensor], state: dict[str, Tensor], image: Tensor) -> Tensor:
        logits = functional_call(models[0], (own, state), (arithmetic.arrange(image),))
        return logits.square().mean()

    return lambda: vmap(grad(loss), randomness="different")(weights, buffers, images)


if __name__ == "__main__":
    main()
