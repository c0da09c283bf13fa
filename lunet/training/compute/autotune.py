"""Chooses an arithmetic by a measurement, once per device, network and batch.

Only what the recipe leaves open is chosen. Short trainings are not worth a measurement and use
plain float32. On a GPU the precision follows from its compute capability, and only layout, whole
steps as CUDA graphs, and compilation are measured. A choice is kept in a file, so that all folds
and seeds of a preset, and every resumed training, are computed in the same way. Anything but plain
float32 is used only if its gradients are correct (see ``gradient_check``), and a graph only if its
steps change nothing (see ``graph_check``).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from lunet.errors import ConfigError, is_out_of_memory
from lunet.files import write_json
from lunet.locks import exclusive
from lunet.provenance import cpu_model
from lunet.reading import read_record, typed
from lunet.training.checkpoint import stamp_of
from lunet.training.compute.arithmetic import Arithmetic, open_precisions, plain_arithmetic
from lunet.training.compute.gradient_check import find_fault, reference
from lunet.training.compute.graph_check import find_graph_fault
from lunet.training.loop import train_step
from lunet.training.losses.build import Objective
from lunet.training.recipe import Engine
from lunet.training.state import TrainingState
from lunet.training.volumes import Batch

_ROUNDS = 10
_FEW_STEPS = 20
_SHORT_SECONDS = 60.0
_COMPILING_SECONDS = {"cpu": 1200.0, "cuda": 300.0}  # shorter trainings are not compiled
_WANTED_GAIN = 1.1  # an arithmetic other than the first must be faster by this factor


@dataclass(frozen=True)
class Question:
    """A training for which an arithmetic is chosen.

    Attributes
    ----------
    engine
        The recipe's section ``engine``: fixed values and ``auto``.
    model
        Section that identifies the network (plain JSON values).
    make
        Builds a new network.
    batch, objective
        A real batch on the device, and the loss.
    steps
        Length of the training in steps.
    sizes
        How many sizes its samples have; each one would be compiled anew.
    training
        Builds the training at its beginning, whose own steps are measured: with its optimiser,
        clipping, moving average and augmentation.
    may_graph
        Whether a step could be a single CUDA graph: all batches have one shape, and each of them
        has a step of the optimiser.
    """

    engine: Engine
    model: dict[str, Any]
    make: Callable[[], nn.Module]
    batch: Batch
    objective: Objective
    steps: int
    sizes: int
    training: Callable[[Arithmetic], TrainingState]
    may_graph: bool = False


def choose_arithmetic(
    question: Question, *, cache: Path | None, log: Callable[[str], None]
) -> Arithmetic:
    """The arithmetic of a training: fixed by the recipe, from the cache, or measured now.

    Parameters
    ----------
    question
        The training.
    cache
        JSON file of earlier choices; None keeps none.
    log
        Called with a line for each measurement, and for each refusal with its reason.

    Raises
    ------
    ConfigError
        If the arithmetic in the recipe or in the cache gives wrong gradients on this machine.
    """
    if cache is None or len(_choices(question)) == 1:
        return fastest(question, log)[0]
    key = _key(question, plain_of(question))
    # folds that start together: one measures, the others wait for its choice
    with exclusive(cache.with_name(f".{cache.name}.{key[:16]}.lock"), log=log):
        kept = _kept(cache, key, question, log)
        if kept:
            return kept
        chosen, seconds = fastest(question, log)
        _keep(cache, key, chosen, seconds)
        return chosen


def candidate_arithmetics(engine: Engine, plain: Arithmetic) -> list[Arithmetic]:
    """All arithmetics that the recipe allows, the first of which needs no measurement.

    On a CPU that is the plain one. On a GPU an open precision follows a rule.
    """
    is_open = engine.precision == "auto"
    precisions = open_precisions(plain.device) if is_open else (engine.precision,)
    layouts: Sequence[str] = ("contiguous", "channels_last")
    if engine.memory_format != "auto":
        layouts = (engine.memory_format,)
    return [replace(plain, precision=p, memory_format=m) for p in precisions for m in layouts]


def plain_of(question: Question) -> Arithmetic:
    """Plain float32, except for what the recipe fixes, on the device of the batch."""
    return plain_arithmetic(question.engine, question.batch.image.device)


def _choices(question: Question) -> list[Arithmetic]:
    """All arithmetics to choose from; a training of few steps has no choice."""
    plain = plain_of(question)
    is_short = question.steps < _FEW_STEPS
    return [plain] if is_short else candidate_arithmetics(question.engine, plain)


def fastest(question: Question, log: Callable[[str], None]) -> tuple[Arithmetic, dict[str, float]]:
    """The fastest correct arithmetic, and the seconds per step of all that were measured, by name.

    Raises
    ------
    ConfigError
        If the arithmetic that the recipe fixes is wrong on this machine.
    """
    choices = _choices(question)
    first = choices[0]
    if question.engine.precision == "auto" and first.precision != "fp32":
        reason = _fault(question, first)
        if reason:
            log(f"engine: {name_of(first)} is refused: {reason}")
            choices = [replace(choice, precision="fp32") for choice in choices]
            require_sound(question, choices[0], log)
    else:
        require_sound(question, first, log)
    return (choices[0], {}) if len(choices) == 1 else _measured(question, choices, log)


def why(question: Question, seconds: Mapping[str, float]) -> str:
    """Why :func:`fastest` chose what it chose, from the seconds that it returned."""
    if len(seconds) > 1:
        return "measured: the fastest by more than 10 % whose gradients are correct, else the first"
    if question.steps < _FEW_STEPS:
        return f"nothing was measured: a training of {question.steps} steps is too short"
    if not seconds:
        return "nothing was measured: recipe and device leave no choice"
    expected = question.steps * next(iter(seconds.values()))
    if expected < _SHORT_SECONDS:
        return f"others were not tried: the steps of a training take only {expected:.2g} s"
    return "all others were refused; the log says why"


def _measured(
    question: Question, choices: Sequence[Arithmetic], log: Callable[[str], None]
) -> tuple[Arithmetic, dict[str, float]]:
    """The fastest correct arithmetic (for a short training the first), and seconds by name."""
    first = choices[0]
    seconds: dict[Arithmetic, float] = {}

    def measure(choice: Arithmetic) -> None:
        seconds[choice] = step_seconds(question, choice)
        log(f"engine: {name_of(choice)} {seconds[choice] * 1e3:.0f} ms per step")

    measure(first)
    expected = question.steps * seconds[first]
    best = first
    if expected >= _SHORT_SECONDS:
        for choice in choices[1:]:
            measure(choice)
        best = _fastest_sound(question, first, seconds, log)
        if _may_graph(question, best):
            measure(replace(best, graph=True))
            best = _fastest_sound(question, first, seconds, log)
        may_compile = question.engine.compile == "auto" and question.sizes == 1
        if may_compile and expected >= _COMPILING_SECONDS[first.device]:
            measure(replace(best, compile=True))
            best = _fastest_sound(question, first, seconds, log)
    return best, {name_of(choice): value for choice, value in seconds.items()}


def _may_graph(question: Question, choice: Arithmetic) -> bool:
    """Whether to try whole steps as CUDA graphs. The scaler of fp16 waits for the GPU."""
    wanted = question.engine.compile != "off" and question.may_graph
    return wanted and choice.device == "cuda" and choice.precision != "fp16"


def _fastest_sound(
    question: Question,
    first: Arithmetic,
    seconds: dict[Arithmetic, float],
    log: Callable[[str], None],
) -> Arithmetic:
    """The fastest correct arithmetic; any but the first must be clearly faster.

    Refused arithmetics are removed from ``seconds``.
    """
    while True:
        best = first
        for choice, value in seconds.items():
            if value * _WANTED_GAIN < seconds[best]:
                best = choice
        reason = None if best == first else _fault(question, best)
        if reason is None:
            return best
        log(f"engine: {name_of(best)} is refused: {reason}")
        del seconds[best]


def _fault(question: Question, choice: Arithmetic) -> str | None:
    """Why a choice must not be used, including too little memory to check it."""
    try:
        return _wrong(question, choice)
    except (RuntimeError, MemoryError) as error:
        if not (choice.compile or choice.graph or is_out_of_memory(error)):
            raise
        return f"its gradients could not be checked ({str(error).splitlines()[0]})"


def _wrong(question: Question, choice: Arithmetic) -> str | None:
    """Why the gradients of a choice, or the steps of its graph, are wrong; None if they are not."""
    launched = replace(choice, graph=False)
    reason = find_fault(launched, question.make, question.batch, question.objective)
    if reason or not choice.graph:
        return reason
    return find_graph_fault(question.training, choice)


def require_sound(question: Question, fixed: Arithmetic, log: Callable[[str], None]) -> None:
    """Refuse a fixed arithmetic if its gradients are wrong.

    If there is too little memory to compare it with float32, it is accepted with a warning, except
    for bf16 in 3D on a CPU with AVX-512, where kernels are wrong for some sizes.
    """
    if fixed == reference(fixed):
        return
    try:
        reason = _wrong(question, fixed)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
        in_3d = question.batch.image.ndim == 5
        if not (fixed.device == "cpu" and fixed.precision == "bf16" and in_3d and wide):
            log(f"warning: engine: {name_of(fixed)} could not be checked, too little memory")
            return
        reason = "there is too little memory to check its gradients, and bf16 may fail here"
    if reason:
        raise ConfigError(
            where="train.engine",
            found=f"{name_of(fixed)} on this {fixed.device} gives wrong gradients: {reason}",
            expected="a training would fail silently",
            action="Set train.engine.precision: fp32 (and memory_format: contiguous, compile: "
            "off), or auto",
        )


def step_seconds(question: Question, arithmetic: Arithmetic) -> float:
    """Median seconds of a training step after a first one; infinite if the step fails.

    It fails if there is too little memory or compilation fails (without a C++ compiler, for
    example). The plain arithmetic must work: its errors are raised.
    """
    try:
        return _step_seconds(question, arithmetic)
    except (RuntimeError, MemoryError) as error:
        if arithmetic == plain_of(question):
            raise
        if not (arithmetic.compile or arithmetic.graph or is_out_of_memory(error)):
            raise
        return float("inf")


def _step_seconds(question: Question, arithmetic: Arithmetic) -> float:
    arithmetic.prepare()
    training = question.training(arithmetic)
    training.model.train()

    def step() -> None:
        training.progress.step %= training.sampler.steps
        train_step(training)

    return median_seconds(step, arithmetic)


def median_seconds(step: Callable[[], None], arithmetic: Arithmetic) -> float:
    """Median seconds of ten calls after a first one; on a CPU, of processor time per thread."""
    seconds = []
    for _ in range(1 + _ROUNDS):
        arithmetic.wait()
        start = _clock(arithmetic)
        step()
        arithmetic.wait()
        seconds.append(_clock(arithmetic) - start)
    return statistics.median(seconds[1:])


def _clock(arithmetic: Arithmetic) -> float:
    """Seconds; on a CPU processor time, so that other jobs do not influence the choice."""
    if arithmetic.device == "cpu":
        return time.process_time() / arithmetic.threads
    return time.perf_counter()


def name_of(choice: Arithmetic) -> str:
    """Precision, layout, compilation and graph in words."""
    words = [choice.precision, choice.memory_format]
    words += ["compiled"] * choice.compile + ["in a graph"] * choice.graph
    return " ".join(words)


def _key(question: Question, plain: Arithmetic) -> str:
    """Digest of what a choice depends on: the kind of device, but not the individual machine."""
    return stamp_of(
        {
            "device": plain.device,
            "torch": torch.__version__,
            "engine": asdict(question.engine) | {"threads": plain.threads},
            "model": question.model,
            "batch": list(question.batch.image.shape),
        }
    )


def machine(device: str) -> str:
    """Model of the GPU or processor."""
    return torch.cuda.get_device_name() if device == "cuda" else cpu_model()


class _Entry(TypedDict):
    choice: dict[str, Any]
    seconds_per_step: dict[str, float]
    machines: list[str]


def _entries(cache: Path) -> dict[str, _Entry]:
    """Choices by key."""
    return read_record(cache, dict[str, _Entry]) if cache.is_file() else {}


def _kept(
    cache: Path, key: str, question: Question, log: Callable[[str], None]
) -> Arithmetic | None:
    """The choice of an earlier measurement; a machine that has not used it yet checks it first."""
    entry = _entries(cache).get(key)
    if not entry:
        return None
    choice = typed(entry["choice"], Arithmetic, f"{cache}: {key}.choice")
    if machine(choice.device) not in entry["machines"]:
        require_sound(question, choice, log)
        _keep(cache, key, choice, entry["seconds_per_step"])
    return choice


def _keep(cache: Path, key: str, chosen: Arithmetic, seconds: dict[str, float]) -> None:
    """Add a choice, or this machine to a choice; other presets write to the same file."""
    known = {name: value for name, value in seconds.items() if value < float("inf")}
    with exclusive(cache.with_name(f".{cache.name}.lock")):
        entries = _entries(cache)
        known_on = entries[key]["machines"] if key in entries else []
        machines = {*known_on, machine(chosen.device)}
        entries[key] = {
            "choice": asdict(chosen),
            "seconds_per_step": known,
            "machines": sorted(machines),
        }
        write_json(cache, entries)
