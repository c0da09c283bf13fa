"""Energy of a forward pass by the GPU's own counter (NVML), where there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

WINDOW_S = 10.0  # the counter moves in steps of about 100 ms, so shorter windows mean little


def joules_per_volume(call: Callable[[], None], device: str) -> dict[str, Any] | None:
    """Joules of one call on a GPU: total, and above the idle power; None on a CPU.

    The counter (millijoules, Volta and later) is read around a window of 10 s of calls, and
    around a tenth of it without any for the idle power.
    """
    if device != "cuda":
        return None
    try:
        import pynvml
    except ImportError as error:
        return {"left_out": f"{error.name} is not installed"}
    pynvml.nvmlInit()
    try:
        identity = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}".encode())
        return _measure(call, lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000)
    except pynvml.NVMLError as error:
        return {"left_out": f"no energy counter: {error}"}
    finally:
        pynvml.nvmlShutdown()


def _measure(call: Callable[[], None], joules: Callable[[], float]) -> dict[str, Any]:
    torch.cuda.synchronize()
    start, before = time.perf_counter(), joules()
    time.sleep(WINDOW_S / 10)
    idle_watts = (joules() - before) / (time.perf_counter() - start)
    start, before, runs = time.perf_counter(), joules(), 0
    while time.perf_counter() - start < WINDOW_S:
        call()
        torch.cuda.synchronize()
        runs += 1
    seconds, used = time.perf_counter() - start, joules() - before
    return {
        "joules_per_volume": used / runs,
        "joules_per_volume_above_idle": (used - idle_watts * seconds) / runs,
        "idle_watts": idle_watts,
        "window_s": seconds,
        "runs": runs,
    }
