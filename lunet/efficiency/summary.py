"""What is reported of the latencies of several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

STABLE = 0.03  # largest relative difference of the processes' medians


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
