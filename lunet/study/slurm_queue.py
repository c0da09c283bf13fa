"""What SLURM knows of the jobs that one Snakemake has submitted."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from datetime import datetime

from lunet.errors import LunetError

COMPLETING_SECONDS = 600
"""A job that is still COMPLETING this long after its end counts as ended: its node is lost."""
FAILED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "TIMEOUT"),
    )
)
"""States of jobs that have ended without success. A job that is requeued is PENDING."""
TIMED_OUT = 124
"""Exit code of a command that took too long, as that of coreutils' ``timeout``."""
_ANSWER_SECONDS = 60
_PASSING = "[Uu]nable to contact|timed out|[Ss]ocket|connect|temporarily|Zero Bytes|SubmitJob"
_PASSING += "|I/O error|[Aa]uthentication|standby"


@dataclass(frozen=True)
class QueuedJob:
    """State of a job, and SLURM's reason for it (``Priority``, ``TimeLimit``, ...)."""

    state: str
    reason: str


def jobs_named(name: str) -> dict[str, QueuedJob]:
    """All jobs of this name that ``squeue`` lists, also ended ones, by their numbers.

    SLURM drops an ended job from the list after ``MinJobAge`` seconds.

    Raises
    ------
    LunetError
        If SLURM does not answer.
    """
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%r", "--name", name]
    answer = ask(*command)
    if answer.returncode:
        raise LunetError(
            where="squeue", found=last_line(answer), expected="the state of the jobs is needed"
        )
    rows = [line.strip().split("|", 2) for line in answer.stdout.splitlines()]
    return {row[0]: QueuedJob(row[1], row[2]) for row in rows if len(row) == 3}


def is_over(number: str) -> bool:
    """Whether SLURM no longer knows a job, or has been completing it for far too long.

    False if the controller does not answer, because the job may still exist.
    """
    answer = ask("scontrol", "-o", "show", "job", number)
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


def is_passing(refusal: str) -> bool:
    """Whether a refusal is not about the request.

    The controller does not answer at the moment, or as many jobs are submitted as one may submit.
    """
    return bool(re.search(_PASSING, refusal))


def ask(*command: str, seconds: float = _ANSWER_SECONDS) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM; one that takes too long counts as one that cannot connect.

    Ctrl-C in the terminal does not reach it.
    """
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        why = f"{command[0]}: timed out after {seconds:g} s\n"
        return subprocess.CompletedProcess(command, TIMED_OUT, "", why)
    except OSError as error:
        why = f"{command[0]}: {error.strerror or error}\n"
        return subprocess.CompletedProcess(command, 127, "", why)


def last_line(answer: subprocess.CompletedProcess[str]) -> str:
    """The last line that a command printed, or its exit code."""
    lines = [line for line in (answer.stderr + answer.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {answer.returncode}"
