"""How long a test waits for an event that must come: longer on a machine that is slow or busy."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

USUAL_START = 0.03
"""Seconds that a Python interpreter takes to start on an idle machine of today."""


@lru_cache(maxsize=1)
def slowness() -> float:
    """How many times slower than usual an interpreter starts here and now; at least 1."""
    begin = time.monotonic()
    for _ in range(3):
        subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    return max((time.monotonic() - begin) / 3 / USUAL_START, 1.0)


def patient(seconds: float) -> float:
    """A limit for something that takes at most ``seconds`` on an idle machine.

    Generous on purpose: the load may rise after it was measured, and a limit is only there so that
    a test that hangs ends at all.
    """
    return 4 * seconds * slowness()


def wait_for(what: str, ready: Callable[[], Any], seconds: float = 60, pause: float = 0.05) -> None:
    """Wait until ``ready()`` is true.

    Raises
    ------
    AssertionError
        If it is not after ``patient(seconds)``.
    """
    limit = patient(seconds)
    end = time.monotonic() + limit
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {limit:.0f} s"
        time.sleep(pause)
