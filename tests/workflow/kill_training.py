"""Trainings in processes of their own that are killed at chosen or random moments.

Processes are forked from a server that has torch imported already, so that a start costs
milliseconds.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from patience import patient

from lunet.errors import LunetError
from lunet.training import checkpoint, loop, validation
from lunet.training.job import TrainingJob
from lunet.training.run import run_training

MOMENTS = (
    "before the first save",
    "half of a state written",
    "state written, old one moved away",
    "during validation",
    "between epochs",
    "amid a step",
    "while results are written",
)

ANYWHERE = "at random"
"""A kill a moment after the n-th event, where an event is a step, a validated case, a save, a file
written or a file moved: the progress of the training decides, not the speed of the machine."""


def server() -> multiprocessing.context.ForkServerContext:
    """The context that starts trainings."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "lunet.models.unet", "lunet.training.run"])
    return context


def start(job: TrainingJob, moment: str = "", count: int = 1) -> ForkServerProcess:
    """Start a training; it kills itself when it meets ``moment`` for the ``count``-th time."""
    process = server().Process(target=_child, args=(job, moment, count))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for the end; the exit code, or minus the number of the signal that ended it."""
    process.join(patient(20))
    return process.exitcode if process.exitcode is not None else 1


def count_events(job: TrainingJob) -> int:
    """Train to the end undisturbed; how many events (see ``ANYWHERE``) there were."""
    counted = server().Value("i", 0)
    process = server().Process(target=_child, args=(job, ANYWHERE, 0, counted))
    process.start()
    assert finish(process) == 0, log_of(job)
    return counted.value


def _child(job: TrainingJob, moment: str, count: int, counted: Any = None) -> None:
    torch.set_num_threads(1)
    log = os.open(_log(job), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    if moment == ANYWHERE:
        _arm_anywhere(count, counted)
    elif moment:
        _arm(moment, count)
    try:
        run_training(job)
    except LunetError as error:
        print(f"error: {error}", file=os.fdopen(2, "w", closefd=False))
        os._exit(error.exit_code)


def _log(job: TrainingJob) -> Path:
    path = job.work.parent / "log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def log_of(job: TrainingJob) -> str:
    """What the trainings of this job have said so far."""
    return _log(job).read_text()


def _arm(moment: str, count: int) -> None:
    """Make one function of the program kill the process at its ``count``-th call."""
    places: dict[str, tuple[Any, str, Callable[..., None] | None]] = {
        "before the first save": (checkpoint.Checkpoint, "save", None),
        "half of a state written": (Path, "write_bytes", _write_half),
        "state written, old one moved away": (checkpoint.os, "replace", _really_replace),
        "during validation": (validation.Validator, "_add", None),
        "between epochs": (loop.CheckpointSaver, "save_if_due", None),
        "amid a step": (loop, "update_weights", None),
        "while results are written": (validation, "_never", None),
    }
    owner, name, before = places[moment]
    if moment == "while results are written":
        from lunet.training import results

        owner, name = results, "write_history"
    original, calls = getattr(owner, name), [0]

    def replaced(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] < count:
            return original(*arguments, **options)
        if before:
            before(original, *arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(10)
        return None

    setattr(owner, name, replaced)


def _arm_anywhere(count: int, counted: Any) -> None:
    """Count events; kill the process up to 3 ms after the ``count``-th (0: never)."""
    rng = random.Random(count)
    seen = itertools.count(1)

    def event() -> None:
        number = next(seen)
        if counted is not None:
            counted.value = number
        if number == count:
            threading.Timer(rng.uniform(0, 0.003), os.kill, (os.getpid(), signal.SIGKILL)).start()

    places: tuple[tuple[Any, str], ...] = (
        (loop, "update_weights"),
        (validation.Validator, "_add"),
        (checkpoint.Checkpoint, "save"),
        (Path, "write_bytes"),
        (os, "replace"),
    )
    for owner, name in places:
        setattr(owner, name, _announced(getattr(owner, name), event))


def _announced(original: Callable[..., Any], event: Callable[[], None]) -> Callable[..., Any]:
    def announced(*arguments: Any, **options: Any) -> Any:
        event()
        return original(*arguments, **options)

    return announced


def _write_half(original: Callable[..., None], path: Path, content: memoryview) -> None:
    original(path, content[: len(content) // 2])


def _really_replace(original: Callable[..., None], source: Path, target: Path) -> None:
    original(source, target)
