"""Energy of a GPU, from its own counter (NVML; Volta and later)."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch

from lunet.devices import runs_per_gpu


class NoCounter(Exception):
    """The energy of this device cannot be read; the text says why."""


def joules_so_far(device: torch.device | str) -> float:
    """Joules that the current GPU has used since its driver was loaded.

    Raises
    ------
    NoCounter
        On a CPU, without nvidia-ml-py, or if the GPU has no counter.
    """
    if torch.device(device).type != "cuda":
        raise NoCounter("only GPUs have a counter")
    try:
        import pynvml
    except ImportError as error:
        raise NoCounter("pynvml is not installed (extra `energy`)") from error
    try:
        identity = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(_handle(identity)) / 1000)
    except pynvml.NVMLError as error:
        raise NoCounter(f"no energy counter: {error}") from error


def joules_of_one_run(device: torch.device | str) -> float:
    """:func:`joules_so_far`; NaN if it cannot be read or if several runs share the GPU."""
    try:
        return joules_so_far(device) if runs_per_gpu() == 1 else math.nan
    except NoCounter:
        return math.nan


@functools.cache
def _handle(identity: str) -> Any:
    import pynvml

    pynvml.nvmlInit()  # NVML ends with the process
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}".encode())
