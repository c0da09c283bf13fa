"""Memory of the machine and the device in bytes, and the error for a full memory."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import torch

from lunet.errors import TrainingError

_CGROUP = Path("/sys/fs/cgroup")


def available_memory(device: torch.device) -> int:
    """Bytes that a tensor on ``device`` may still use, within the limits of container and shell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = min(_free_host_memory(), _free_address_space())
    limit, used = (_cgroup_number(name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else max(0, min(free, limit - used))


def peak_memory(device: torch.device) -> int:
    """Peak memory of this process so far in bytes (allocated on CUDA, resident on a CPU)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if os.name != "posix":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def out_of_memory(error: BaseException, device: torch.device, batch: str) -> TrainingError:
    """The error for a full memory: what was needed, what is free, which keys reduce it."""
    return TrainingError(
        where="training",
        found=f"out of memory on {device} with batches of {batch}: {_wanted(error)}",
        expected=f"{available_memory(device) / 2**30:.2f} GiB are free",
        action="Lower train.batch_size (and raise train.grad_accumulation to keep the effective "
        "batch), set a smaller train.patch, or set train.engine.precision: bf16",
    )


def _wanted(error: BaseException) -> str:
    text = str(error)
    match = re.search(r"to allocate ([\d.]+) ?(\w+)", text, re.IGNORECASE)
    if not match:
        return text.splitlines()[0] if text else "an allocation failed"
    if match[2] == "bytes":
        return f"{int(match[1]) / 2**30:.2f} GiB more were needed"
    return f"{match[1]} {match[2]} more were needed"


def _free_host_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux: assume that half of the memory is free
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    numbers = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return numbers["MemAvailable"] * 1024


def _free_address_space() -> int:
    """Address space that ``ulimit -v`` leaves to this process."""
    if not sys.platform.startswith("linux"):
        return sys.maxsize
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return max(0, limit - pages * resource.getpagesize())


def _cgroup_number(name: str) -> int | None:
    path = _CGROUP / name
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
