"""The arithmetic of a preset in a study: chosen once (`lunet engine`), used by all its trainings.

It lies with the results, so that a seed that is added a year later is computed as the first ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from lunet.errors import ConfigError
from lunet.files import write_json
from lunet.reading import read_record
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.autotune import Question, fastest, machine, plain_of, require_sound, why


@dataclass(frozen=True)
class EngineFile:
    """The content of ``engine.json``.

    Attributes
    ----------
    device, machine, torch
        Kind of device (``cpu`` or ``cuda``), its model, and the version of PyTorch.
    precision, memory_format, compile, graph
        The arithmetic.
    batch
        Shape of the batch that was measured: samples, channels and axes.
    seconds_per_step
        What was measured, by arithmetic; empty if the training is too short for it to matter.
    reason
        Why this arithmetic, and why nothing else was tried if so.
    """

    device: str
    machine: str
    torch: str
    precision: str
    memory_format: str
    compile: bool
    batch: list[int]
    seconds_per_step: dict[str, float]
    graph: bool = False
    reason: str = ""


def write_engine(path: Path, question: Question, log: Callable[[str], None]) -> Arithmetic:
    """Choose an arithmetic by a measurement and write it.

    Raises
    ------
    ConfigError
        If the arithmetic that the recipe fixes gives wrong gradients on this machine.
    """
    chosen, seconds = fastest(question, log)
    content = EngineFile(
        device=chosen.device,
        machine=machine(chosen.device),
        torch=torch.__version__,
        precision=chosen.precision,
        memory_format=chosen.memory_format,
        compile=chosen.compile,
        batch=list(question.batch.image.shape),
        seconds_per_step=seconds,
        graph=chosen.graph,
        reason=why(question, seconds),
    )
    log(f"engine: {content.reason}")
    write_json(path, asdict(content))
    return chosen


def read_engine(path: Path, question: Question, log: Callable[[str], None]) -> Arithmetic | None:
    """The arithmetic in a file, for a training; None if it was chosen for another kind of device.

    On another machine, or with another PyTorch, its gradients are checked first.

    Raises
    ------
    DataError
        If the file is damaged.
    ConfigError
        If the recipe does not allow this arithmetic, or its gradients are wrong on this machine.
    """
    found, plain = read_record(path, EngineFile), plain_of(question)
    if found.device != plain.device:
        log(
            f"warning: {path} is for {found.device}, but this training runs on {plain.device}: it "
            "chooses its own arithmetic, and tables refuse a preset with two"
        )
        return None
    chosen = replace(
        plain,
        precision=found.precision,
        memory_format=found.memory_format,
        compile=found.compile,
        graph=found.graph and question.may_graph and question.engine.compile != "off",
    )
    _require_allowed(path, question, chosen)
    if (found.machine, found.torch) != (machine(chosen.device), torch.__version__):
        require_sound(question, chosen, log)
    return chosen


def _require_allowed(path: Path, question: Question, chosen: Arithmetic) -> None:
    """Refuse a file whose values differ from those that the recipe fixes."""
    compile = "on" if chosen.compile else "off"
    values = {"precision": chosen.precision, "memory_format": chosen.memory_format}
    for key, value in (values | {"compile": compile}).items():
        fixed = getattr(question.engine, key)
        if fixed not in ("auto", value):
            raise ConfigError(
                where=f"{path}: {key}",
                found=f"found {value}",
                expected=f"train.engine.{key} is {fixed}",
                action="Choose anew with `lunet engine`, or train without --engine",
            )
