"""Checks of system limits that would end a process without a message while NumPy or PyTorch loads.

OpenBLAS, OpenMP and the C++ library abort or interrupt the process if they cannot get memory or
threads, so both are checked first.
"""

from __future__ import annotations

import errno
import os
import resource
import sys
import threading

ADDRESS_SPACE = 2 << 30
"""Bytes that PyTorch and its dependencies need; 1.2 GB were enough on two cores."""
_POOLS = 3
"""Number of thread pools: NumPy, SciPy and PyTorch each have one."""


def require_room() -> None:
    """Check that address space and threads suffice to load NumPy and PyTorch.

    Nothing is checked if NumPy is loaded already.

    Raises
    ------
    MemoryError
        If ``ulimit -v`` leaves too little.
    OSError
        If the threads cannot be started (EAGAIN).
    """
    if "numpy" in sys.modules:
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < ADDRESS_SPACE:
        raise MemoryError(
            f"the address space is limited to {limit >> 20} MiB (`ulimit -v`), "
            f"but {ADDRESS_SPACE >> 20} MiB are needed"
        )
    _try_threads(_POOLS * (_pool_size() - 1))


def _pool_size() -> int:
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(int(given), cores) if given.isdecimal() else cores


def _try_threads(count: int) -> None:
    """Start ``count`` threads at the same time, then end them."""
    end = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise OSError(
            errno.EAGAIN, f"only {len(started)} of {count} threads can be started"
        ) from error
    finally:
        end.set()
        for thread in started:
            thread.join()
