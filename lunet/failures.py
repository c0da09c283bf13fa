"""Why a job ended, in one line at the end of its log, with what to change."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from lunet.errors import LunetError


@dataclass(frozen=True)
class Failure:
    """The sort of an end.

    Attributes
    ----------
    reason
        ``out of GPU memory``, ``out of host memory``, ``full disk``, ``read-only file system``,
        ``bad data``, ``bad config``, ``training failed``, ``interrupted, resumable``,
        ``owned by another process`` or ``bug``.
    advice
        What to change; may be empty.
    exit_code
        Exit code of the process; 75 (try again) tells a scheduler that a retry resumes.
    """

    reason: str
    advice: str
    exit_code: int

    @property
    def is_bug(self) -> bool:
        """Whether nothing that a user does can mend it."""
        return self.reason.startswith("bug")

    def line(self) -> str:
        """The line that ends the log."""
        return f"lunet ended: {self.reason}." + (f" {self.advice}." if self.advice else "")


_SMALLER = "Lower train.batch_size or set train.patch"
_DISKS = {
    errno.ENOSPC: ("full disk", "Free space, or set roots.results and roots.work elsewhere"),
    errno.EDQUOT: ("full disk (quota)", "Free space, or set roots.results and roots.work elsewhere"),
    errno.EROFS: ("read-only file system", "Set roots.results and roots.work to writable folders"),
    errno.EACCES: ("no permission", "Set roots.results and roots.work to writable folders"),
}


def classify(error: BaseException) -> Failure:
    """Sort the exception that ended a step.

    Known by type and errno; PyTorch's CPU allocator raises a plain ``RuntimeError``, which its
    text tells.
    """
    for link in _chain(error):
        if isinstance(link, LunetError):
            return Failure(link.reason, "", link.exit_code)
        if type(link).__name__ == "OutOfMemoryError":
            advice = f"{_SMALLER}, or ask for a GPU with more memory (slurm: gpu_model)"
            return Failure("out of GPU memory", advice, 1)
        if isinstance(link, MemoryError) or "DefaultCPUAllocator: can't allocate" in str(link):
            return Failure("out of host memory", f"{_SMALLER}, or raise mem_mb in the profile", 1)
        if isinstance(link, OSError) and link.errno in _DISKS:
            reason, advice = _DISKS[link.errno]
            place = f" at {link.filename}" if link.filename else ""
            return Failure(reason + place, advice, 1)
    advice = "Please report it with the lines above"
    return Failure(f"bug ({type(error).__name__}: {error})", advice, 1)


def _chain(error: BaseException) -> list[BaseException]:
    """The exception and what caused it, outermost first."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links
