"""Lets a measurement proceed after one of its parts ran out of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from lunet.errors import is_out_of_memory

Found = TypeVar("Found")


@dataclass
class Room:
    """The memory of a device, and what did not fit into it.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    killed
        Why an earlier process with the same work was killed: then nothing is tried again.
    lost
        Name of each part that ran out of memory -> reason in words.
    """

    device: str
    killed: str = ""
    lost: dict[str, str] = field(default_factory=dict)

    def measure(self, name: str, call: Callable[[], Found]) -> Found | None:
        """The result of ``call``; None if there is too little memory."""
        if self.killed:
            self.lost[name] = self.killed
            return None
        try:
            return call()
        except (RuntimeError, MemoryError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            self.lost[name] = reason_of(error)
        if self.device == "cuda":  # out of the handler, whose traceback holds the tensors
            torch.cuda.empty_cache()
        return None


def reason_of(error: BaseException) -> str:
    """``out of memory``, with the first line of the message."""
    lines = str(error).splitlines()
    return "out of memory" + (f": {lines[0]:.200}" if lines else "")
