"""Series of single latencies, and what is reported of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

LEAST = 5  # runs of a latency series, whatever its time budget
STABLE = 0.03  # largest relative difference of the processes' medians


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


def summarise(series: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Statistics of the series of several fresh processes, milliseconds.

    ``jitter_ms`` is the population standard deviation of all single latencies, ``successive_ms``
    the mean of \\|l_k - l_(k-1)\\| within a process. ``unstable`` says whether the medians of the
    processes differ by more than 3 %; null for a single process, which cannot tell.
    """
    pooled = np.concatenate([np.asarray(values, float) for values in series])
    medians = [float(np.median(values)) for values in series]
    steps = np.concatenate([np.abs(np.diff(values)) for values in series])
    p50, p95, p99 = np.percentile(pooled, (50, 95, 99))
    spread = (max(medians) - min(medians)) / float(np.median(medians))
    numbers = {
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "mean_ms": pooled.mean(),
        "min_ms": pooled.min(),
        "max_ms": pooled.max(),
        "jitter_ms": pooled.std(),
        "successive_ms": steps.mean() if len(steps) else 0.0,
    }
    return {key: round(float(value), 6) for key, value in numbers.items()} | {
        "runs": len(pooled),
        "processes": len(series),
        "p50_of_processes_ms": [round(value, 6) for value in medians],
        "spread_of_processes": round(spread, 6),
        "unstable": None if len(series) < 2 else bool(spread > STABLE),
    }
