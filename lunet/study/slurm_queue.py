"""Wrap SLURM's queue commands, so that Snakemake notices jobs that the queue no longer lists.

SLURM drops an ended job from ``squeue`` after ``MinJobAge`` seconds. Snakemake's plugin (2.8) waits
for ever for a job that ended and was dropped between two polls, or that stays in COMPLETING on a
node that is gone. With ``sacct`` it never notices ``CANCELLED by 1000``. Therefore
:func:`watch_queue` puts three commands of the same names in front of SLURM's: ``sbatch`` records
the number of each job, ``squeue`` and ``sacct`` add what the plugin needs to know. A job that SLURM
no longer knows is reported as UNKNOWN; the plugin then looks for the job's outputs and submits the
job again if they are missing. Any other use of the commands is passed on unchanged.

:func:`ask_evenly` keeps the plugin to the interval that its profile names, and
:func:`end_at_once` lets it end without waiting for one more.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

COMPLETING_SECONDS = 600
"""A job that is still COMPLETING this long after its end counts as ended: its node is lost."""
_LOOK_SECONDS = 0.2
_FOLDER = "LUNET_QUEUE"
_COMMANDS = ("sbatch", "squeue", "sacct")
_SHIM = """\
#!/bin/sh
# Written by lunet when Snakemake starts; see lunet/study/slurm_queue.py.
exec '{python}' -m lunet.study.slurm_queue {name} "$@"
"""


def watch_queue(folder: str | Path = ".snakemake/slurm") -> None:
    """Put the three commands first on this process's ``PATH``, if SLURM is installed."""
    if shutil.which("sbatch") is None or _FOLDER in os.environ:
        return
    place = Path(folder).resolve()
    binaries = place / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    for name in _COMMANDS:
        if shutil.which(name) is None:
            continue  # the plugin chooses its method by the commands that exist
        part = binaries / f".{name}.{os.getpid()}"
        part.write_text(_SHIM.format(python=sys.executable, name=name), encoding="utf-8")
        part.chmod(part.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
        part.replace(binaries / name)
    os.environ[_FOLDER] = str(place)
    os.environ["PATH"] = os.pathsep.join([str(binaries), os.environ.get("PATH", os.defpath)])


def ask_evenly() -> None:
    """Let the plugin ask as often as its option ``--slurm-init-seconds-before-status-checks`` says.

    It takes this for the first interval only, and adds 10 s whenever no job has ended, up to three
    minutes, by which the end of a job is noticed late.
    """
    try:
        from snakemake_executor_plugin_slurm import Executor
    except ImportError:  # Snakemake says what is missing
        return
    theirs = Executor.next_seconds_between_status_checks

    def at_most(executor: Executor, seconds: float | None) -> None:
        first = executor.workflow.executor_settings.init_seconds_before_status_checks
        theirs.fset(executor, seconds if seconds is None else min(seconds, first))

    Executor.next_seconds_between_status_checks = theirs.setter(at_most)


def end_at_once() -> None:
    """Let Snakemake end when its last job has ended, and not an interval later."""
    try:
        from snakemake_executor_plugin_slurm import Executor
    except ImportError:
        return

    import asyncio  # not by the wrapped commands, which start anew at each look at the queue

    async def sleep(executor: Executor) -> None:
        end = time.monotonic() + executor.next_seconds_between_status_checks
        while executor.wait and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK_SECONDS))

    Executor.sleep = sleep


def main(words: list[str]) -> int:
    """Run one of the three commands and return its exit code."""
    name, *arguments = words
    folder = Path(os.environ.get(_FOLDER, ".snakemake/slurm"))
    real = _real(name, folder / "bin")
    run = _option(arguments, "--job-name" if name == "sbatch" else "--name")
    if name == "sbatch" and "--parsable" in arguments and run:
        return _submit([real, *arguments], folder / run)
    if name == "squeue" and "--states=all" in arguments and run:
        return _report([real, *arguments], folder / run)
    if name == "sacct" and run:
        return _account([real, *arguments])
    return subprocess.run([real, *arguments], check=False).returncode


def is_over(number: str) -> bool:
    """Whether SLURM no longer knows a job, or has been completing it for far too long.

    False if the controller does not answer, because the job may still exist.
    """
    command = ["scontrol", "-o", "show", "job", number]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    if answer.returncode:
        return "Invalid job id" in answer.stderr
    fields = dict(re.findall(r"(\w+)=(\S+)", answer.stdout))
    return fields.get("JobState") == "COMPLETING" and _is_long_ago(fields.get("EndTime", ""))


def _is_long_ago(moment: str) -> bool:
    try:
        end = datetime.fromisoformat(moment).timestamp()
    except ValueError:  # "Unknown"
        return False
    return time.time() - end > COMPLETING_SECONDS


def _submit(command: list[str], jobs: Path) -> int:
    """Submit a job and append its number to the file ``jobs``."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(done.stdout)
    if done.returncode == 0:
        number = done.stdout.strip().split(";")[0]
        with jobs.open("a", encoding="utf-8") as stream:
            stream.write(f"{number}\n")
    return done.returncode


def _report(command: list[str], jobs: Path) -> int:
    """Print the queue's answer, with UNKNOWN for each job of this run that has ended."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return done.returncode
    rows = [line.split("|", 1) for line in done.stdout.splitlines() if "|" in line]
    over = jobs.with_name(f"{jobs.name}.over")
    known = _lines(over)
    states = {number.strip(): state.strip() for number, state in rows}
    for number in sorted(_lines(jobs) - known):
        if states.get(number, "COMPLETING") == "COMPLETING" and is_over(number):
            known.add(number)
            with over.open("a", encoding="utf-8") as stream:
                stream.write(f"{number}\n")
    states |= dict.fromkeys(known, "UNKNOWN")
    for number, state in states.items():
        print(f"{number}|{state}")
    return 0


def _account(command: list[str]) -> int:
    """Print the accounting's answer, with ``CANCELLED by 1000`` shortened to ``CANCELLED``."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    sys.stdout.write(re.sub(r"\|CANCELLED by \d+", "|CANCELLED", done.stdout))
    return done.returncode


def _lines(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return set()


def _option(words: list[str], name: str) -> str:
    """The value of ``--option value`` or ``--option=value``; empty if the option is missing."""
    for i, word in enumerate(words):
        if word == name and i + 1 < len(words):
            return words[i + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return ""


def _real(name: str, shims: Path) -> str:
    """Path of SLURM's own command, which comes later in ``PATH``."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    others = os.pathsep.join(p for p in path if Path(p).resolve() != shims.resolve())
    found = shutil.which(name, path=others)
    if found is None:
        raise SystemExit(f"error: {name}: SLURM's command is not on PATH")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
