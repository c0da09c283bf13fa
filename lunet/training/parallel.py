"""Runs several trainings, or predictions, at once on one device, in one job.

Each of them is a process of its own, forked from a server that has imported torch once. So its
numbers, files, lock and resume state are bit for bit the same as in a training that runs alone, and
a failure of one does not affect the others. A tiny network does not use a whole machine: on a CPU a
second training gains more than a second thread.

Stacking the weights of several runs instead (torch.func.vmap, grouped convolutions) takes 0.8 times
as long as the plain layout, but 1.6 times as long as channels-last, which the engine chooses
(tests/benchmarks/together.py), and the runs would no longer equal separate trainings.
"""

from __future__ import annotations

import functools
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

from lunet.errors import Interrupted, TrainingError

TRAINING = ("torch._dynamo", "lunet.training.run")
"""Modules of a training; an optimiser imports the first when it is first used."""


@dataclass(frozen=True)
class ParallelRun:
    """One of several trainings or predictions.

    Attributes
    ----------
    name
        Name for messages.
    log
        File that its lines are appended to.
    argument
        The argument of the work, which is sent to another process.
    """

    name: str
    log: Path
    argument: Any


def run_together(
    runs: Sequence[ParallelRun],
    work: Callable[[Any], int],
    *,
    at_once: int,
    threads: int | None = None,
    modules: Sequence[str] = TRAINING,
) -> None:
    """Call ``work(run.argument)`` for each run, for ``at_once`` runs at the same time.

    SIGTERM, SIGUSR1 and SIGINT are passed on: each run saves its state, and no further run starts.

    Parameters
    ----------
    runs
        The trainings or predictions, in this order.
    work
        A module-level function that returns an exit code, 0 for success.
    at_once
        Number of runs that share the device.
    threads
        CPU threads of each run; by default its share of those that one process would have. A
        training that fixes ``train.engine.threads`` takes these.
    modules
        What the server imports when it starts, with the first call; :func:`server` ends it.

    Raises
    ------
    Interrupted
        If a signal asked to stop; every run that had started has saved its state.
    TrainingError
        If a run failed; the others were finished.
    """
    main = functools.partial(_main, work=work, at_once=at_once, threads=threads)
    waiting, living = list(runs), dict[BaseProcess, ParallelRun]()
    begins, codes, told = dict[str, int](), dict[str, int](), dict[str, str]()
    with _forwarded(living) as signals, _ended_with_this(living):
        while living or (waiting and not signals):
            while waiting and len(living) < at_once and not signals:
                run = waiting.pop(0)
                begins[run.name] = run.log.stat().st_size if run.log.is_file() else 0
                living[_start(run, main, modules)] = run
            # wait at most a second, to handle signals in between
            ended = connection.wait([process.sentinel for process in living], timeout=1.0)
            for process in [process for process in living if process.sentinel in ended]:
                run = living.pop(process)
                codes[run.name] = process.exitcode or 0
                told[run.name] = _outcome(codes[run.name], run.log, begins[run.name])
                tell(f"{run.name}: {told[run.name]}")
    _raise_failures(runs, codes, told, signals)


def tell(line: str) -> None:
    """Print a line to standard error; the process that waits for the runs has no progress bar."""
    print(line, file=sys.stderr, flush=True)


@contextmanager
def server() -> Iterator[None]:
    """End the server of the processes, and that of their resources, at the end of the block.

    They would end by themselves, but after the process that has started them, and SLURM then waits
    three seconds for what is left of a step. All runs have ended then, and what torch does at its
    end takes the server another second, so it is killed.
    """
    try:
        yield
    finally:
        if _method() == "forkserver":
            from multiprocessing import forkserver, resource_tracker

            pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            forkserver._forkserver._stop()  # type: ignore[attr-defined]
            tracker = resource_tracker._resource_tracker
            # without a number it is that of the process that has started this one
            if getattr(tracker, "_pid", None) is not None:
                tracker._stop()  # type: ignore[attr-defined]


def _method() -> str:
    methods = multiprocessing.get_all_start_methods()
    return "forkserver" if "forkserver" in methods else "spawn"


def _start(
    run: ParallelRun, main: Callable[[ParallelRun], None], modules: Sequence[str]
) -> BaseProcess:
    context: Any = multiprocessing.get_context(_method())
    context.set_forkserver_preload(list(modules))
    run.log.parent.mkdir(parents=True, exist_ok=True)
    process: BaseProcess = context.Process(target=main, args=(run,), name=run.name)
    process.start()
    tell(f"{run.name}: starts, {run.log}")
    return process


def _main(
    run: ParallelRun, *, work: Callable[[Any], int], at_once: int, threads: int | None
) -> None:
    """The main function of a process: log to the run's file, call the work, exit with its code."""
    log = os.open(run.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(log, stream.fileno())
    import torch  # not by the process that only waits, which would take a second and a half

    torch.set_num_threads(threads or max(1, torch.get_num_threads() // at_once))
    sys.exit(work(run.argument))


@contextmanager
def _forwarded(living: dict[BaseProcess, ParallelRun]) -> Iterator[list[int]]:
    """Forward stop signals to the running processes; yields the list of received signals."""
    received: list[int] = []

    def forward(number: int, _frame: object) -> None:
        received.append(number)
        for process in list(living):
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    names = ("SIGTERM", "SIGUSR1", "SIGINT")
    asked = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {number: signal.signal(number, forward) for number in asked}
    try:
        yield received
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def _ended_with_this(living: dict[BaseProcess, ParallelRun]) -> Iterator[None]:
    """Stop the running processes, which save their state, if the next one cannot be started."""
    try:
        yield
    except BaseException:
        for process in living:
            process.terminate()
        for process in living:
            process.join()
        raise


def _outcome(code: int, log: Path, begin: int) -> str:
    """What became of a run, by its exit code and what its log has from byte ``begin`` on."""
    if code == 0:
        return "done"
    if code == Interrupted.exit_code:
        return "stopped, its state is saved"
    if not log.is_file():
        return f"ended with exit code {code} before its log {log} was begun"
    lines = log.read_bytes()[begin:].decode("utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"ended with exit code {code}, see {log}"


def _raise_failures(
    runs: Sequence[ParallelRun],
    codes: dict[str, int],
    told: dict[str, str],
    signals: Sequence[int],
) -> None:
    if signals:
        unfinished = [run.name for run in runs if codes.get(run.name) != 0]
        name = signal.Signals(signals[0]).name
        found = f"stopped by {name}, {len(unfinished)} runs are unfinished"
        raise Interrupted(
            where="train",
            found=found,
            expected="",
            action="The same command resumes from their saved states",
        )
    failed = [run for run in runs if codes[run.name] != 0]
    if failed:
        reasons = "; ".join(f"{run.name}: {told[run.name]}" for run in failed)
        raise TrainingError(
            where="train",
            found=f"{len(failed)} of {len(runs)} runs failed",
            expected=reasons.rstrip("."),
            action="Their logs have more; the same command trains only these again",
        )
