"""The engine's choice: what the recipe leaves open is measured once per device, network and batch.

Short trainings are not worth a measurement and take plain float32. A choice is kept in a file, so
that all folds and seeds of a preset, and every resumed training, are computed alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lunet.files import read_json, write_json
from lunet.provenance import cpu_model
from lunet.training.checkpoint import stamp_of
from lunet.training.compute.arithmetic import Arithmetic, plain_arithmetic
from lunet.training.losses.build import Objective
from lunet.training.memory import is_out_of_memory
from lunet.training.recipe import Engine
from lunet.training.volumes import Batch

_ROUNDS = 2
_FEW_STEPS = 20
_SHORT_SECONDS = 60.0
_COMPILING_SECONDS = {"cpu": 1200.0, "cuda": 300.0}  # trainings for which compilation may pay
_WANTED_GAIN = 1.1  # a less plain arithmetic must be faster by this factor


@dataclass(frozen=True)
class Question:
    """What is to be computed.

    Attributes
    ----------
    engine
        The recipe's section: fixed values and ``auto``.
    model
        Section that identifies the network (plain JSON values).
    make
        Builds a fresh network.
    batch, objective
        A real batch on the device, and the loss.
    steps
        Length of the training, optimiser steps.
    """

    engine: Engine
    model: dict[str, Any]
    make: Callable[[], nn.Module]
    batch: Batch
    objective: Objective
    steps: int


def choose_arithmetic(
    question: Question, *, cache: Path | None, say: Callable[[str], None]
) -> Arithmetic:
    """The arithmetic of a training: fixed by the recipe, kept from before, or measured now.

    Parameters
    ----------
    question
        The training.
    cache
        JSON file of former choices; None keeps none.
    say
        Told what was measured.
    """
    plain = plain_arithmetic(question.engine, question.batch.image.device)
    choices = candidates(question.engine, plain)
    if len(choices) == 1 or question.steps < _FEW_STEPS:
        return plain
    key = _key(question, plain)
    kept = _kept(cache, key)
    if kept:
        return kept
    chosen, seconds = _measured(question, plain, choices)
    for other, value in seconds.items():
        say(f"engine: {other} {value * 1e3:.0f} ms per step")
    return _keep(cache, key, chosen, seconds)


def candidates(engine: Engine, plain: Arithmetic) -> list[Arithmetic]:
    """All that the recipe allows, the plain one first."""
    precisions = ("fp32", "bf16") if engine.precision == "auto" else (engine.precision,)
    if plain.device == "cuda" and engine.precision == "auto" and not _has_bf16():
        precisions = ("fp32", "fp16")
    layouts: Sequence[str] = ("contiguous", "channels_last")
    if engine.memory_format != "auto":
        layouts = (engine.memory_format,)
    return [replace(plain, precision=p, memory_format=m) for p in precisions for m in layouts]


def _has_bf16() -> bool:
    return torch.cuda.get_device_capability() >= (8, 0)


def _measured(
    question: Question, plain: Arithmetic, choices: Sequence[Arithmetic]
) -> tuple[Arithmetic, dict[str, float]]:
    """The fastest, and seconds per step by name; only the plain one for a short training."""
    seconds = {plain: step_seconds(question, plain)}
    expected = question.steps * seconds[plain]
    if expected >= _SHORT_SECONDS:
        seconds |= {c: step_seconds(question, c) for c in choices if c != plain}
        if question.engine.compile == "auto" and expected >= _COMPILING_SECONDS[plain.device]:
            compiled = replace(min(seconds, key=seconds.__getitem__), compile=True)
            seconds[compiled] = step_seconds(question, compiled)
    best = plain
    for choice, value in seconds.items():
        if value * _WANTED_GAIN < seconds[best]:
            best = choice
    return best, {_name(choice): value for choice, value in seconds.items()}


def step_seconds(question: Question, arithmetic: Arithmetic) -> float:
    """Seconds of one training step, the best of a few after a first; infinite if it cannot be.

    That is: out of memory, or compilation fails (no C++ compiler, say). The plain arithmetic must
    work: its error is raised.
    """
    try:
        return _step_seconds(question, arithmetic)
    except (RuntimeError, MemoryError) as error:
        if arithmetic == plain_arithmetic(question.engine, question.batch.image.device):
            raise
        if not (arithmetic.compile or is_out_of_memory(error)):
            raise
        return float("inf")


def _step_seconds(question: Question, arithmetic: Arithmetic) -> float:
    arithmetic.prepare()
    model = arithmetic.place(question.make()).train()
    forward, scaler = arithmetic.compiled(model), arithmetic.scaler()
    optimiser = torch.optim.Adam(model.parameters())
    seconds = []
    for _ in range(1 + _ROUNDS):
        arithmetic.wait()
        start = _clock(arithmetic)
        with arithmetic.autocast():
            outputs = forward(arithmetic.arrange(question.batch.image))
            loss = question.objective(outputs, question.batch.label)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        optimiser.zero_grad(set_to_none=True)
        arithmetic.wait()
        seconds.append(_clock(arithmetic) - start)
    return min(seconds[1:])


def _clock(arithmetic: Arithmetic) -> float:
    """Seconds; on a CPU those that were computed, so that other jobs do not decide the choice."""
    if arithmetic.device == "cpu":
        return time.process_time() / arithmetic.threads
    return time.perf_counter()


def _name(choice: Arithmetic) -> str:
    return f"{choice.precision} {choice.memory_format}" + (" compiled" if choice.compile else "")


def _key(question: Question, plain: Arithmetic) -> str:
    """Digest of all that a measurement depends on."""
    device = torch.cuda.get_device_name() if plain.device == "cuda" else cpu_model()
    return stamp_of(
        {
            "device": device,
            "torch": torch.__version__,
            "engine": asdict(question.engine) | {"threads": plain.threads},
            "model": question.model,
            "batch": list(question.batch.image.shape),
        }
    )


def _kept(cache: Path | None, key: str) -> Arithmetic | None:
    if cache is None or not cache.is_file():
        return None
    entry = read_json(cache).get(key)
    return Arithmetic(**entry["choice"]) if entry else None


def _keep(
    cache: Path | None, key: str, chosen: Arithmetic, seconds: dict[str, float]
) -> Arithmetic:
    """Keep a choice, unless another process was first: then its choice holds."""
    if cache is None:
        return chosen
    first = _kept(cache, key)
    if first:
        return first
    entries = read_json(cache) if cache.is_file() else {}
    known = {name: value for name, value in seconds.items() if value < float("inf")}
    entries[key] = {"choice": asdict(chosen), "seconds_per_step": known}
    write_json(cache, entries)
    return chosen
