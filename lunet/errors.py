"""The errors a user can act on, and a full memory; everything else is a bug with its traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class LunetError(Exception):
    """A wrong input, described in one line: where, what was found, what is expected, what to do.

    The command line prints ``error: <where>: <found>, <expected>. <action>.`` and exits with
    ``exit_code``.

    Parameters
    ----------
    where
        File, configuration key or argument at fault.
    found
        The value or state that was found there.
    expected
        What is allowed, without a trailing full stop.
    action
        What the user can do about it; a sentence without a trailing full stop.
    """

    exit_code = 2
    reason = "bad input"

    def __init__(self, where: object, found: str, expected: str = "", action: str = "") -> None:
        self.where, self.found, self.expected, self.action = str(where), found, expected, action
        middle = f", {expected}" if expected else ""
        end = f" {action}." if action else ""
        super().__init__(f"{self.where}: {found}{middle}.{end}")


class ConfigError(LunetError):
    """The configuration, a recipe or a command-line value is wrong."""

    reason = "bad config"


class DataError(LunetError):
    """A data set, image or label file is wrong."""

    reason = "bad data"


class TrainingError(LunetError):
    """A training cannot continue: non-finite loss, too few volumes, a state that does not fit."""

    exit_code = 3
    reason = "training failed"


class Busy(LunetError):
    """Another living process owns this output or device."""

    exit_code = 4
    reason = "owned by another process"


class Interrupted(LunetError):
    """A signal asked this process to leave; its state was saved and the next start resumes."""

    exit_code = 75
    reason = "interrupted, resumable"


_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Failed to allocate memory"
)
"""Texts of CUDA, of PyTorch on the CPU and of ITK, which raise a plain ``RuntimeError``."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on a GPU, in PyTorch, NumPy or ITK."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice for a misspelt name: ``did you mean 'x'`` or the list of the known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(names)}"
