"""Checks of training on this machine: gradients, determinism, resumption, arithmetics, memory.

Each check gets a device and returns what it found in words. It raises :class:`Failed` with what is
wrong, or :class:`NotApplicable` with what this machine lacks. The data are balls within balls, made
in memory.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lunet.errors import Interrupted, is_out_of_memory
from lunet.models.build import build_network
from lunet.task import Task
from lunet.training.callbacks import ProgressReporter
from lunet.training.checkpoint import Checkpoint, digest, seed_everything
from lunet.training.compute.arithmetic import Arithmetic, Forward, plain_arithmetic
from lunet.training.compute.gradient_check import find_fault
from lunet.training.compute.graph_check import find_graph_fault
from lunet.training.loop import CheckpointSaver, train
from lunet.training.losses.build import Objective, build_objective
from lunet.training.memory import out_of_memory
from lunet.training.recipe import Augmentation, Ema, Engine, Optimiser, Recipe, Schedule
from lunet.training.sampling import Sampler, build_sampler
from lunet.training.setup import assemble
from lunet.training.signals import StopRequest, stop_requests
from lunet.training.state import TrainingState
from lunet.training.validation import build_validator
from lunet.training.volumes import Volumes

TASK = Task(channels=("phantom",), labels={"shell": 1, "core": 2})
RECIPE = Recipe(
    epochs=3,
    batch_size=2,
    optimiser=Optimiser(lr=1e-2),
    schedule=Schedule("plateau", warmup_epochs=1, patience=1),
    loss={"dice": 1.0, "bce": 1.0},
    augmentation=Augmentation(flip_axes=(0,), affine_p=0.5, noise_p=0.5, gamma_p=0.5),
    clip_norm=1.0,
    ema=Ema(decay=0.9, warmup_steps=2),
)
"""A short training in which every part with a state of its own takes part."""
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "UNet": ("unet", 3, {"widths": [4, 8, 16]}),
    "UNetPlusPlus": ("unetpp", 3, {"widths": [4, 8]}),
    "AttentionUNet": ("attention_unet", 2, {"widths": [4, 8, 16]}),
    "MedNeXt": ("mednext", 3, {"width": 2, "blocks": [1] * 9}),
    "SlimUNETRV2": (
        "slim_unetr",
        3,
        {"widths": [4, 8, 8, 8], "hidden": 8, "slices": [2, 1, 1, 1]},
    ),
}
"""Class -> module, spatial axes and arguments of a small network of each family."""
SIZE = 16  # voxels per axis
TOLERANCES = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.05}
"""Largest accepted relative difference of an epoch's loss from plain float32's, by precision."""
_TOO_MANY = 2**58  # float32 numbers that no machine has room for
_CASES, _HELD_OUT = 8, 2
_DROPOUT = 0.1  # so that the random numbers of torch matter
_SIGNAL_AT = 5  # forward passes of training: in the middle of the second epoch


class Failed(Exception):
    """A check found a fault."""


class NotApplicable(Exception):
    """This machine lacks what a check needs."""


def plain(device: torch.device, *, threads: int = 1) -> Arithmetic:
    """Float32 in the usual layout; the networks here are too small for many threads."""
    return plain_arithmetic(Engine(threads=threads), device)


def check_gradients(device: torch.device, family: str) -> str:
    """Each arithmetic that a training may choose has the gradients of float32, in one family.

    In bf16 torch 2.13 has wrong kernels for CPUs with AVX-512, in sizes that differ from one CPU to
    the next. Trainings refuse them by the same check, so this is told and is no failure.
    """
    usual, axes = plain(device), FAMILIES[family][1]
    batch = phantoms(device, axes=axes).sampler.batch(1, 0)
    names, refused = [], []
    for precision, layout in product(("fp32", _half(device)), ("contiguous", "channels_last")):
        choice = replace(usual, precision=precision, memory_format=layout)
        if choice == usual:
            continue
        seed_everything(0)
        reason = find_fault(choice, lambda: network(family), batch, objective(axes))
        if reason and device.type == "cpu" and precision == "bf16":
            refused.append(f"; {_words(choice)} is refused, as by trainings: {reason}")
        elif reason:
            raise Failed(f"{_words(choice)}: {reason}")
        else:
            names.append(_words(choice))
    return f"the gradients of {', '.join(names)} agree with float32{''.join(refused)}"


def check_determinism(device: torch.device) -> str:
    """Two equal trainings end in the same bytes."""
    usual = plain(device, threads=min(2, os.cpu_count() or 1))
    # one after the other, as both draw from the same random numbers
    one, two = (_finished(short_training(usual, epochs=2, dropout=_DROPOUT)) for _ in range(2))
    if _result(one) != _result(two):
        raise Failed("two equal trainings end in different weights or losses")
    return f"two trainings of {_steps(one)} steps end in the same bytes"


def check_resume(device: torch.device) -> str:
    """A training that a signal stops in the middle of an epoch ends as one that is not stopped."""
    straight = _finished(short_training(plain(device), dropout=_DROPOUT))
    resumed = _stopped_and_resumed(plain(device))
    if _result(straight) != _result(resumed):
        raise Failed("a resumed training ends in other weights or losses than an uninterrupted one")
    return f"stopped by a signal at step {_SIGNAL_AT} of {_steps(resumed)}, it ends in equal bytes"


def check_precision(device: torch.device) -> str:
    """A training in half precision learns as one in float32."""
    return _learns_alike(replace(plain(device), precision=_half(device)))


def check_layout(device: torch.device) -> str:
    """A training in the channels-last layout learns as one in the usual layout."""
    return _learns_alike(replace(plain(device), memory_format="channels_last"))


def check_compile(device: torch.device) -> str:
    """The gradients of a compiled network are those of the network."""
    if device.type == "cpu" and not any(map(shutil.which, _compilers())):
        raise NotApplicable("torch.compile needs a C++ compiler, and none was found")
    choice = replace(plain(device), compile=True)
    batch = phantoms(device).sampler.batch(1, 0)
    seed_everything(0)
    # two levels, because compilation takes most of the time of all checks
    reason = find_fault(choice, lambda: network("UNet", widths=[4, 8]), batch, objective())
    if reason:
        raise Failed(reason)
    return "the gradients of a compiled network agree with those of the network"


def check_graphs(device: torch.device) -> str:
    """A compiled training that runs as CUDA graphs learns as one without."""
    if device.type != "cuda":
        raise NotApplicable("CUDA graphs need a GPU")
    return _learns_alike(replace(plain(device), compile=True))


def check_graphed_step(device: torch.device) -> str:
    """Whole steps that are replayed from a CUDA graph lead to the same bytes."""
    if device.type != "cuda":
        raise NotApplicable("CUDA graphs need a GPU")
    reason = find_graph_fault(
        lambda choice: short_training(choice, dropout=_DROPOUT), replace(plain(device), graph=True)
    )
    if reason:
        raise Failed(reason)
    return "whole steps in a CUDA graph lead to the same bytes as without it"


def check_memory(device: torch.device) -> str:
    """An allocation that fails is recognised, and the message names what to change."""
    for place in dict.fromkeys((torch.device("cpu"), device)):
        try:
            torch.empty(_TOO_MANY, device=place)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise Failed(f"not recognised as full memory of {place}: {error}") from error
            text = str(out_of_memory(error, place, f"{RECIPE.batch_size} samples"))
        else:
            raise Failed(f"{place} gave {_TOO_MANY} numbers that it cannot hold")
        missing = [word for word in ("out of memory", "batch_size", "free") if word not in text]
        if missing:
            raise Failed(f"the message for a full memory of {place} does not name {missing}")
    return f"a failed allocation is recognised on {device.type}, and the message says what to do"


@dataclass(frozen=True)
class Phantoms:
    """Training cases as a sampler, and validation cases."""

    sampler: Sampler
    held_out: Volumes


def phantoms(device: torch.device, *, axes: int = 3, size: int = SIZE) -> Phantoms:
    """Balls within balls with noise, in memory: ``size`` voxels per axis."""
    rng = np.random.default_rng(0)
    cases = [_phantom(rng, size) for _ in range(_CASES)]
    images = [torch.from_numpy(image).to(device) for image, _ in cases]
    labels = [torch.from_numpy(label).to(device) for _, label in cases]

    def part(first: int, last: int) -> Volumes:
        names = tuple(f"phantom {i}" for i in range(first, last))
        shapes = ((size,) * 3,) * (last - first)
        return Volumes(names, images[first:last], labels[first:last], shapes, device, resident=True)

    cut = _CASES - _HELD_OUT
    sampler = build_sampler(part(0, cut), RECIPE, dimensions=axes, seed=0)
    return Phantoms(sampler, part(cut, _CASES))


def _phantom(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (1, x, y, z) float32, and label (x, y, z) uint8."""
    centre = size / 2 + rng.normal(0, size / 16, 3)
    points = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    radius = np.linalg.norm(points - centre, axis=-1) / size
    label = (radius < 0.4).astype(np.uint8) + (radius < 0.22).astype(np.uint8)
    image = 0.7 * label + rng.normal(0, 0.4, label.shape)
    return image[None].astype(np.float32), label


def network(family: str, **changes: Any) -> nn.Module:
    """A small network of a family, for the phantoms, with changes of its arguments."""
    module, axes, arguments = FAMILIES[family]
    return build_network(
        module,
        family,
        in_channels=len(TASK.channels),
        out_channels=TASK.out_channels,
        ndim=axes,
        arguments=arguments | changes,
    )


def objective(axes: int = 3) -> Objective:
    """The loss of the short training."""
    return build_objective(RECIPE.loss, {}, task=replace(TASK, dimensions=axes))


def short_training(
    arithmetic: Arithmetic, *, epochs: int = RECIPE.epochs, size: int = SIZE, **changes: Any
) -> TrainingState:
    """A training of a small U-Net (with ``changes``) on the phantoms, at its beginning."""
    arithmetic.prepare()
    seed_everything(0)
    model = arithmetic.place(network("UNet", **changes))
    data = phantoms(torch.device(arithmetic.device), size=size)
    validator = build_validator(
        data.held_out, TASK, objective(), patch=None, batch_size=RECIPE.batch_size
    )
    recipe = replace(RECIPE, epochs=epochs)
    return assemble(recipe, model, arithmetic, data.sampler, validator)


def _finished(training: TrainingState) -> TrainingState:
    with tempfile.TemporaryDirectory() as folder, stop_requests() as request:
        _train(training, Checkpoint(Path(folder)), request)
    return training


def _stopped_and_resumed(arithmetic: Arithmetic) -> TrainingState:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder))
        stopped = short_training(arithmetic, dropout=_DROPOUT)
        with stop_requests() as request, suppress(Interrupted):
            stopped.forward = _with_signal(stopped, request)
            _train(stopped, checkpoint, request)
            raise Failed("a signal did not stop the training")
        notes: list[str] = []
        state = checkpoint.load(stamp="selftest", log=notes.append)
        if state is None:
            raise Failed("no saved state" + (f": {notes[0]}" if notes else ""))
        resumed = short_training(arithmetic, dropout=_DROPOUT)
        resumed.load(state)
        with stop_requests() as request:
            _train(resumed, checkpoint, request)
    return resumed


def _with_signal(training: TrainingState, request: StopRequest) -> Forward:
    """The network's forward pass, in one of which a signal arrives."""
    real, calls = training.forward, [0]

    def forward(image: Tensor) -> Any:
        calls[0] += training.model.training
        if calls[0] == _SIGNAL_AT and not request.pending:
            request.received(signal.SIGTERM, None)
        return real(image)

    return forward


def _train(training: TrainingState, checkpoint: Checkpoint, request: StopRequest) -> None:
    saver = CheckpointSaver(checkpoint, "selftest", interval=0.0)
    with redirect_stderr(io.StringIO()):  # a line per epoch says nothing here
        reporter = ProgressReporter(training, bar=False)
        train(
            training, saver=saver, request=request, reporter=reporter, snapshot=lambda _epoch: None
        )


def _result(training: TrainingState) -> str:
    """Digest of everything that a training ends with, except how long it took."""
    state = training.state()
    progress = {k: v for k, v in state["progress"].items() if not k.endswith("_seconds")}
    return digest(state | {"progress": progress})


def _learns_alike(choice: Arithmetic) -> str:
    """Compare the losses of the epochs with those of plain float32; no dropout, as it is random."""
    usual = plain(torch.device(choice.device))
    losses = []
    for arithmetic in (usual, choice):
        training = _finished(short_training(arithmetic))
        losses.append([float(row["train_loss"] or math.nan) for row in training.progress.history])
    expected, found = losses
    worst = max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))
    allowed = TOLERANCES[choice.precision]
    if not worst <= allowed:  # also if it is NaN
        raise Failed(
            f"{_words(choice)}: the loss of an epoch is {worst:.2g} off float32's, "
            f"at most {allowed:g} is accepted"
        )
    if not found[-1] < found[0]:
        raise Failed(f"{_words(choice)}: the loss rose from {found[0]:.3f} to {found[-1]:.3f}")
    return (
        f"{_words(choice)}: the loss falls from {found[0]:.3f} to {found[-1]:.3f}, "
        f"within {max(worst, 1e-6):.1g} of float32's"
    )


def _half(device: torch.device) -> str:
    """The half precision that the device has."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "fp16"
    return "bf16"


def _steps(training: TrainingState) -> int:
    return training.sampler.steps * training.recipe.epochs


def _words(choice: Arithmetic) -> str:
    end = " compiled" if choice.compile else ""
    return f"{choice.precision} {choice.memory_format}{end}"


def _compilers() -> list[str]:
    return [*filter(None, [os.environ.get("CXX")]), "g++", "clang++", "c++"]


CHECKS: dict[str, Callable[[torch.device], str]] = {
    **{f"gradients of {name}": partial(check_gradients, family=name) for name in FAMILIES},
    "determinism": check_determinism,
    "resumption": check_resume,
    "precision": check_precision,
    "layout": check_layout,
    "compilation": check_compile,
    "CUDA graphs": check_graphs,
    "steps as CUDA graphs": check_graphed_step,
    "full memory": check_memory,
}
"""Name -> check."""
