"""Series of single latencies."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

LEAST = 5  # runs of a latency series, whatever its time budget


def measure_series(
    call: Callable[[], object],
    *,
    device: str,
    warmups: int,
    repeats: int,
    budget_s: float,
    least: int = LEAST,
) -> list[float]:
    """Milliseconds of single calls: wall clock on a CPU, CUDA events on a GPU.

    Warm-ups end early when a fifth of the budget is spent, runs when all of it is, but never below
    one warm-up and ``least`` runs. A budget of 0 is no limit.
    """
    clock = _cuda_call if device == "cuda" else _cpu_call
    limit = budget_s or float("inf")
    start = time.perf_counter()
    for _ in range(warmups):
        clock(call)
        if time.perf_counter() - start > limit / 5:
            break
    values: list[float] = []
    while len(values) < repeats:
        values.append(clock(call))
        if len(values) >= least and time.perf_counter() - start > limit:
            break
    return values


def _cpu_call(call: Callable[[], object]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _cuda_call(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))
