#!/usr/bin/env python3
"""Stands for SLURM's commands where there is no SLURM: records what is asked, runs jobs at once.

Called as ``slurm.py COMMAND ARGUMENTS``; ``STAND_IN_SLURM`` names the folder of its records:
``N.flags`` (JSON: the arguments of the N-th sbatch) and ``N.state`` (as squeue tells it).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

RECORDS = Path(os.environ["STAND_IN_SLURM"])


def sbatch(words: list[str]) -> None:
    """Record the options, start the job in the background, print its number."""
    if "--test-only" in words:
        return
    number = _next_number()
    (RECORDS / f"{number}.flags").write_text(json.dumps(words))
    (RECORDS / f"{number}.state").write_text("RUNNING")
    log = words[words.index("--output") + 1].replace("%j", str(number))
    (wrapped,) = (word.removeprefix("--wrap=") for word in words if word.startswith("--wrap="))
    environment = os.environ | {"SLURM_JOB_ID": str(number)}
    if "--gpus=1" in words:
        environment |= {"CUDA_VISIBLE_DEVICES": "0"}
    state = RECORDS / f"{number}.state"
    after = (
        f"(exit $?) && s=COMPLETED || s=FAILED; printf %s $s > {state}.new; mv {state}.new {state}"
    )
    with Path(log).open("wb") as stream:
        subprocess.Popen(
            ["sh", "-c", f"{wrapped}\n{after}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    print(number)


def _next_number() -> int:
    """Of several submitters at once each gets its own."""
    number = 1
    while True:
        try:
            (RECORDS / f"{number}.flags").touch(exist_ok=False)
            return number
        except FileExistsError:
            number += 1


def srun(words: list[str]) -> None:
    """Drop the options and become the command."""
    command = [word for word in words if not word.startswith("-")]
    os.execvp(command[0], words[words.index(command[0]) :])


def squeue(_words: list[str]) -> None:
    """Number, state and reason of every job, as soon as one more has ended."""
    told = RECORDS / "told"
    known = int(told.read_text()) if told.exists() else 0
    end = time.monotonic() + 30
    while True:
        states = {path.stem: path.read_text() for path in sorted(RECORDS.glob("*.state"))}
        ended = sum(state != "RUNNING" for state in states.values())
        if ended != known or time.monotonic() > end:
            break
        time.sleep(0.1)
    told.write_text(str(ended))
    for number, state in states.items():
        print(f"{number}|{state}|None")


def scancel(words: list[str]) -> None:
    """Record what is cancelled."""
    (RECORDS / "cancelled").write_text(" ".join(words))


def scontrol(_words: list[str]) -> None:
    """The two settings that the plugin asks for."""
    print("MinJobAge               = 300 sec\nMaxArraySize            = 1001")


def sinfo(_words: list[str]) -> None:
    """The partitions."""
    print("cpu\ngpu")


def sacctmgr(_words: list[str]) -> None:
    """The user's accounts."""
    print("test")


def sshare(_words: list[str]) -> None:
    """The user's accounts."""
    print("test")


if __name__ == "__main__":
    globals()[Path(sys.argv[1]).name](sys.argv[2:])
