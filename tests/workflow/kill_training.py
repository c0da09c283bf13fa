"""Trainings in processes of their own that are killed at chosen or random moments.

Processes are forked from a server that has torch imported already, so that a start costs
milliseconds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

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
    process.join(120)
    return process.exitcode if process.exitcode is not None else 1


def kill_after(process: ForkServerProcess, seconds: float, number: int = signal.SIGKILL) -> int:
    """Send a signal after a while (if the process still lives) and wait for the end."""
    process.join(seconds)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
    return finish(process)


def _child(job: TrainingJob, moment: str, count: int) -> None:
    torch.set_num_threads(1)
    log = os.open(_log(job), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    if moment:
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
        "amid a step": (loop, "optimiser_step", None),
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


def _write_half(original: Callable[..., None], path: Path, content: memoryview) -> None:
    original(path, content[: len(content) // 2])


def _really_replace(original: Callable[..., None], source: Path, target: Path) -> None:
    original(source, target)
