"""Several trainings at once on one device, in one job.

Each training is a process of its own, forked from a server that has imported torch once. So its
numbers, files, lock and resume state equal, bit for bit, the ones of a training that runs alone,
and a failure of one does not touch the others. A tiny network does not fill a machine: on a CPU a
second training does more for it than a second thread.

Stacking the weights of several runs instead (torch.func.vmap, grouped convolutions) takes 0.8 times
as long as the plain layout, but 1.6 times as long as channels-last, which the engine chooses
(tests/benchmarks/together.py); and the runs would no longer equal separate trainings.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from lunet.errors import Interrupted, TrainingError
from lunet.training.callbacks import log

_PRELOADED = ["torch._dynamo", "lunet.training.run"]  # optimisers import the first when first used


@dataclass(frozen=True)
class ParallelRun:
    """One of several trainings.

    Attributes
    ----------
    name
        For messages.
    log
        File to which its lines are appended.
    argument
        The argument of the work; it is sent to another process.
    """

    name: str
    log: Path
    argument: Any


def train_together(
    runs: Sequence[ParallelRun], work: Callable[[Any], int], *, at_once: int
) -> None:
    """Carry out ``work(run.argument)`` for each run, ``at_once`` at the same time.

    A run that does not fix ``train.engine.threads`` gets its share of this process's CPU threads.
    SIGTERM, SIGUSR1 and SIGINT are passed on: each run saves its state, and no other begins.

    Parameters
    ----------
    runs
        What to train, in this order.
    work
        A function of a module; returns an exit code, 0 where all is well.
    at_once
        How many runs share the device.

    Raises
    ------
    Interrupted
        A signal asked to leave; every run that had begun saved its state.
    TrainingError
        A run failed; the others were finished.
    """
    threads = max(1, torch.get_num_threads() // at_once)
    waiting, living, codes = list(runs), dict[BaseProcess, ParallelRun](), dict[str, int]()
    with _handed_on(living) as signals:
        while living or (waiting and not signals):
            while waiting and len(living) < at_once and not signals:
                run = waiting.pop(0)
                living[_start(run, work, threads)] = run
            # a second at most: signals are looked at in between
            ended = connection.wait([process.sentinel for process in living], timeout=1.0)
            for process in [process for process in living if process.sentinel in ended]:
                run = living.pop(process)
                codes[run.name] = process.exitcode or 0
                log(f"{run.name}: {_told(codes[run.name], run.log)}")
    _judge(runs, codes, signals)


def _start(run: ParallelRun, work: Callable[[Any], int], threads: int) -> BaseProcess:
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    context: Any = multiprocessing.get_context(method)
    context.set_forkserver_preload(_PRELOADED)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    process: BaseProcess = context.Process(target=_child, args=(run, work, threads), name=run.name)
    process.start()
    log(f"{run.name}: begins, {run.log}")
    return process


def _child(run: ParallelRun, work: Callable[[Any], int], threads: int) -> None:
    """The main function of a process: log to the run's file, work, exit with its code."""
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    torch.set_num_threads(threads)
    sys.exit(work(run.argument))


@contextmanager
def _handed_on(living: dict[BaseProcess, ParallelRun]) -> Iterator[list[int]]:
    """Pass signals that ask to leave on to the living processes; yields the signals received."""
    received: list[int] = []

    def hand_on(number: int, _frame: object) -> None:
        received.append(number)
        for process in list(living):
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    names = ("SIGTERM", "SIGUSR1", "SIGINT")
    asked = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {number: signal.signal(number, hand_on) for number in asked}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _told(code: int, log: Path) -> str:
    if code == 0:
        return "done"
    if code == Interrupted.exit_code:
        return "left, its state is saved"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"ended with exit code {code}, see {log}"


def _judge(runs: Sequence[ParallelRun], codes: dict[str, int], signals: Sequence[int]) -> None:
    if signals:
        unfinished = [run.name for run in runs if codes.get(run.name) != 0]
        found = f"left on {signal.Signals(signals[0]).name}, {len(unfinished)} runs are unfinished"
        raise Interrupted(
            where="train",
            found=found,
            expected="",
            action="The same command resumes from their saved states",
        )
    failed = [run for run in runs if codes[run.name] != 0]
    if failed:
        logs = ", ".join(f"{run.name} ({run.log})" for run in failed)
        raise TrainingError(
            where="train", found=f"{len(failed)} of {len(runs)} runs failed", expected=logs
        )
