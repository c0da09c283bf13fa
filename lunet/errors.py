"""Errors that a user can act on, and whether memory ran out; any other exception is a bug."""

from __future__ import annotations

import difflib
import errno
import re
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

_MOST = 20
"""Mistakes of a configuration that one message lists."""
_LONGEST = 1000
"""Characters of one part of a message, which may list names; :func:`shown` cuts single values."""


class LunetError(Exception):
    """A wrong input, described in one line.

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

    def __init__(self, *, where: object, found: str, expected: str = "", action: str = "") -> None:
        parts = (_one_line(str(part)) for part in (where, found, expected, action))
        self.where, self.found, self.expected, self.action = parts
        middle = f", {self.expected}" if expected else ""
        end = f" {self.action}." if action else ""
        super().__init__(f"{self.where}: {self.found}{middle}.{end}")


class ConfigError(LunetError):
    """The configuration, a recipe or a command-line value is wrong."""

    reason = "bad config"


class ConfigErrors(ConfigError):
    """Several mistakes in one configuration: a line for each, and the first one's parts.

    Made by :func:`together`; at most 20 mistakes are printed.
    """

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        first = errors[0]
        super().__init__(
            where=first.where, found=first.found, expected=first.expected, action=first.action
        )
        self.errors = tuple(errors)
        lines = [str(error) for error in errors[:_MOST]]
        beyond = len(errors) - _MOST
        self.args = ("\n".join([*lines, f"... and {beyond} more." if beyond > 0 else ""]).rstrip(),)


def together(errors: Sequence[ConfigError]) -> ConfigError:
    """One error for all of the given ones, of which there is at least one; each is told once."""
    single = {str(one): one for error in errors for one in parts_of(error)}
    found = list(single.values())
    return found[0] if len(found) == 1 else ConfigErrors(found)


@contextmanager
def noted(faults: list[ConfigError]) -> Iterator[None]:
    """Append a mistake that the block raises to ``faults`` and go on after the block."""
    try:
        yield
    except ConfigError as error:
        faults.append(error)


def parts_of(error: ConfigError) -> tuple[ConfigError, ...]:
    """The mistakes that an error of a configuration reports."""
    return error.errors if isinstance(error, ConfigErrors) else (error,)


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
    """A signal asked this process to stop; its state was saved and the next start resumes."""

    exit_code = 75
    reason = "interrupted, resumable"


class _Short(reprlib.Repr):
    """Values as Python prints them, shortened before they are printed."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 70, 70
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 8

    def repr_int(self, x: int, level: int) -> str:
        """An integer, or only its size if it is longer than Python would print."""
        return repr(x) if x.bit_length() < 200 else f"an integer of {x.bit_length()} bits"


def shown(value: object) -> str:
    """A value for a message: as Python prints it, but never longer than about a line."""
    text = _Short().repr(value)
    return text if len(text) <= 120 else f"{text[:80]} ... {text[-35:]}"


def _one_line(text: str) -> str:
    """The text shortened, without line ends and control characters, which a terminal would obey."""
    text = text if len(text) <= _LONGEST else f"{text[:700]} ... {text[-295:]}"
    if text.isprintable():
        return text
    spaced = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in spaced)


_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|Failed to allocate memory|bad_alloc"
    r"|[Cc]annot allocate memory|could not (execute|create) a primitive|failed to map segment"
    r"|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)|CUDNN_STATUS_ALLOC_FAILED"
    r"|HOST_ALLOCATION_FAILED|unable to find an engine to execute"
)
"""Messages of libraries (CUDA, PyTorch, oneDNN, ITK, the loader) whose errors have no own type."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the host or on a GPU, in PyTorch, NumPy or ITK."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_plain = isinstance(error, RuntimeError | ImportError)
    return is_plain and bool(_NO_MEMORY.search(str(error)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Advice for a misspelt name: ``did you mean 'x'``, or the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}" if close else f"known: {', '.join(names)}"
