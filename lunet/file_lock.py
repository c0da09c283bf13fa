"""One process at a time makes a file or folder that several need.

The kernel frees the lock of a dead process. A second process waits, since it needs the same files;
the outputs of a study have owners instead, who are told apart on a cluster (:mod:`lunet.locks`).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lunet.errors import Busy

_POLL = 0.2


@contextmanager
def exclusive(
    path: str | Path, *, wait: float = 24 * 3600.0, say: Callable[[str], None] = print
) -> Iterator[Path]:
    """Hold the lock file ``path`` (made if needed, kept afterwards); a second process waits.

    Raises
    ------
    Busy
        If another living process holds it for longer than ``wait`` seconds.
    """
    lock = Path(path)
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _acquire(descriptor, lock, wait, say)
        yield lock
    finally:
        os.close(descriptor)  # frees the lock as well


def _acquire(descriptor: int, lock: Path, wait: float, say: Callable[[str], None]) -> None:
    end = time.monotonic() + wait
    announced = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise Busy(
                    lock, "is held by another process", f"waited {wait:g} s for it", "Try later"
                ) from error
        if not announced:
            say(f"another process works on this ({lock}); waiting for it")
            announced = True
        time.sleep(_POLL)
