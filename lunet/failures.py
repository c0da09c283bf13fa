"""Why a job ended, in one line at the end of its log, with what to change."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from dataclasses import dataclass

from lunet.errors import Interrupted, LunetError, TrainingError, is_out_of_memory

_ENDED, _ERROR = "lunet ended: ", "error: "


def telling_line(log: str) -> str:
    """The line of a failed job's log that says why: its error, else how it ended, else its last.

    An empty text for an empty log.
    """
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for mark in (_ERROR, _ENDED):
        found = [line for line in lines if line.startswith(mark)]
        if found:
            return found[-1]
    return lines[-1] if lines else ""


def has_ended(log: str) -> bool:
    """Whether the log of a job ends with the line that tells how the job failed."""
    return (log.rstrip().splitlines() or [""])[-1].startswith(_ENDED)


@dataclass(frozen=True)
class Failure:
    """How a job ended.

    Attributes
    ----------
    reason
        ``out of GPU memory``, ``out of host memory``, ``full disk``, ``read-only file system``,
        ``a file larger than allowed``, ``too many open files``, ``no further process or thread``,
        ``an error of the disk``, ``bad data``, ``bad config``, ``non-finite loss``,
        ``training failed``, ``owned by another process``, ``time limit``, ``preempted``,
        ``cancelled or requeued``,
        ``interrupted`` or ``bug``. After the four before ``bug`` the same command resumes.
    advice
        What to change; may be empty.
    exit_code
        Exit code of the process; 75 (try again) lets a scheduler retry, and the retry resumes.
    """

    reason: str
    advice: str
    exit_code: int

    @property
    def is_bug(self) -> bool:
        """Whether only a change of the code can fix it."""
        return self.reason.startswith("bug")

    def line(self) -> str:
        """The line that ends the log."""
        return f"{_ENDED}{self.reason}." + (f" {self.advice}." if self.advice else "")


_NEAR_LIMIT = 180.0
"""A job that is asked to stop this many seconds before its limit was most likely stopped by it."""
_SMALLER = "Lower train.batch_size or set train.patch"
_SPACE = "Free space, or set roots.results and roots.work elsewhere"
_SYSTEM = {
    errno.ENOSPC: ("full disk", _SPACE),
    errno.EDQUOT: ("full disk (quota)", _SPACE),
    errno.EROFS: ("read-only file system", "Set roots.results and roots.work to writable folders"),
    errno.EACCES: ("no permission", "Set roots.results and roots.work to writable folders"),
    errno.EPERM: ("no permission", "Set roots.results and roots.work to writable folders"),
    errno.EFBIG: (
        "a file larger than allowed",
        "Raise the limit (`ulimit -f unlimited`), or write to a file system without one",
    ),
    errno.EMFILE: ("too many open files", "Raise the limit, e.g. `ulimit -n 4096`"),
    errno.ENFILE: ("too many open files on this machine", "End other programs, or ask its owner"),
    errno.EAGAIN: (
        "no further process or thread",
        "Raise the limit (`ulimit -u`), or lower train.engine.threads and the number of jobs",
    ),
    errno.EIO: ("an error of the disk", "Check the disk or the network file system; start again"),
    errno.ESTALE: ("a network file that is gone", "Start again once the file system answers"),
}

_OF_GPU = re.compile(r"CUDA|CUBLAS|CUDNN_STATUS_ALLOC_FAILED|an engine to execute")
_AGAIN = "Start again: a training resumes from its last state"
_GPU_ERRORS = {
    "busy or unavailable": (
        "the GPU is used by another program alone",
        f"{_AGAIN}; CUDA_VISIBLE_DEVICES names another GPU",
        75,
    ),
    "no kernel image is available": (
        "this build of PyTorch does not support the GPU",
        "Install a build for its compute capability, or set train.engine.device: cpu",
        1,
    ),
    "NVIDIA driver on your system is too old": (
        "the driver of the GPU is older than this build of PyTorch needs",
        "Update the driver, or install a build of PyTorch for an older CUDA",
        1,
    ),
    "uncorrectable ECC error|unspecified launch failure|CUDA error: unknown error|hardware": (
        "a failing GPU",
        f"{_AGAIN}; if it fails again on the same node, leave that node out and tell its owner",
        75,
    ),
}
"""Other errors of a GPU, by text: the reason, what to do, and the exit code."""

_NO_THREAD = re.compile(r"can't start new thread|[Tt]hread creation failed|pthread_create")
_PATHS = {
    errno.EISDIR: "a folder in the place of a file",
    errno.ENOTDIR: "a file in the place of a folder",
    errno.EEXIST: "a file or folder of that name exists",
    errno.ENAMETOOLONG: "the name is too long",
}
"""Errors that a wrong path causes; they are not bugs."""


def classify(error: BaseException) -> Failure:
    """Classify the exception that ended a step.

    It is recognised by its type and errno; errors of PyTorch and other libraries, which have no
    type of their own, by their messages.
    """
    for link in _chain(error):
        if isinstance(link, LunetError):
            return _of_own_error(link)
        of_gpu = type(link).__name__ == "OutOfMemoryError" or _OF_GPU.search(str(link))
        if is_out_of_memory(link) and of_gpu:
            advice = f"{_SMALLER}, or ask for a GPU with more memory (slurm: gpu_model)"
            return Failure("out of GPU memory", advice, 1)
        if is_out_of_memory(link):
            advice = f"{_SMALLER}, or raise mem_mb in the profile or the limit (`ulimit -v`)"
            return Failure("out of host memory", advice, 1)
        if isinstance(link, RuntimeError) and (failure := _of_gpu(str(link))):
            return failure
        if isinstance(link, RuntimeError) and _NO_THREAD.search(str(link)):
            return Failure(*_SYSTEM[errno.EAGAIN], 1)
        if isinstance(link, OSError) and link.errno in _SYSTEM:
            reason, advice = _SYSTEM[link.errno]
            place = f" at {link.filename}" if link.filename else ""
            return Failure(reason + place, advice, 1)
        if isinstance(link, OSError) and link.errno in _PATHS and link.filename:
            return Failure(f"{_PATHS[link.errno]} at {link.filename}", "Name another path", 2)
    advice = "Please report it with the lines above"
    return Failure(f"bug ({type(error).__name__}: {error})", advice, 1)


def _of_gpu(text: str) -> Failure | None:
    """The failure of a GPU that a message of CUDA tells."""
    known = (Failure(*row) for words, row in _GPU_ERRORS.items() if re.search(words, text))
    return next(known, None)


def _of_own_error(error: LunetError) -> Failure:
    """Classify an error of :mod:`lunet.errors`, which carries its own advice."""
    if isinstance(error, Interrupted):
        return Failure(*_asked_by_slurm(), error.exit_code)
    reason = error.reason
    if isinstance(error, TrainingError):
        kinds = {
            "out of memory on cuda": "out of GPU memory",
            "out of memory on cpu": "out of host memory",
            "the loss is NaN": "non-finite loss",
            "the loss is infinite": "non-finite loss",
        }
        reason = next((kind for text, kind in kinds.items() if text in error.found), reason)
    return Failure(reason, error.action, error.exit_code)


def _asked_by_slurm() -> tuple[str, str]:
    """Why SLURM or a person asked the job to stop, and what to do."""
    again = "The state is saved; the same command, or a retry of Snakemake, resumes from there"
    state, left, preempted = _slurm_state(os.environ.get("SLURM_JOB_ID", ""))
    if preempted or state == "PREEMPTED":
        return "preempted, resumable", again
    if state == "TIMEOUT" or (left is not None and left < _NEAR_LIMIT):
        return "time limit, resumable", f"{again}; raise runtime in profiles/slurm to need fewer"
    if state not in ("", "RUNNING"):
        return "cancelled or requeued, resumable", again
    return "interrupted, resumable", again


def _slurm_state(job: str) -> tuple[str, float | None, bool]:
    """State of a job, seconds left before its limit, and whether it is being preempted.

    Without SLURM: an empty text, None and False.
    """
    if not job:
        return "", None, False
    command = ["squeue", "-h", "-j", job, "-O", "State:30,TimeLeft:30,PreemptTime:30"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=3, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "", None, False
    state, left, preempted = [*done.stdout.split(), "", "", ""][:3]
    return state, _seconds(left), preempted not in ("", "N/A")


def _seconds(text: str) -> float | None:
    """Seconds of SLURM's ``days-hours:minutes:seconds``; None for ``UNLIMITED`` and the like."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or not (days.isdigit() or not days):
        return None
    seconds = 0
    for part in parts:
        seconds = 60 * seconds + int(part)
    return seconds + 86400 * int(days or 0)


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and its causes, outermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
