"""Costs of a preset as flat numbers, whatever was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MISSING = float("nan")


def latency(cost: Mapping[str, Any], batch: int = 1) -> Mapping[str, Any]:
    """The measurement of one batch size: eager fp32 if there is one, else the first; or empty.

    Batch sizes, number formats and engines are listed in ``cost["latency"]``.
    """
    rows = [row for row in cost.get("latency") or [] if row.get("batch") == batch]
    plain = [row for row in rows if (row.get("engine"), row.get("precision")) == ("eager", "fp32")]
    return (plain or rows or [{}])[0]


def flat(cost: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of an ``efficiency.json``: counts, GMAC, ms, MiB; NaN where not measured."""
    one, most = latency(cost, 1), _best_batch(cost)
    return {
        "parameters": _number(cost, "parameters"),
        "gmacs": _number(cost, "macs") / 1e9,
        "gflops": (_number(cost, "flops") or 2 * _number(cost, "macs")) / 1e9,
        "latency_p50_ms": _number(one, "p50_ms"),
        "latency_p95_ms": _number(one, "p95_ms"),
        "latency_p99_ms": _number(one, "p99_ms"),
        "jitter_ms": _number(one, "jitter_ms"),
        "unstable": float(bool(one.get("unstable"))) if one else MISSING,
        "throughput_per_s": _throughput(most),
        "throughput_batch": _number(most, "batch"),
        "training_step_ms": _number(cost, "training_step_ms"),
        "memory_mib": _number(cost, "peak_memory_bytes") / 2**20,
    }


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    return MISSING if value is None else float(value)


def _best_batch(cost: Mapping[str, Any]) -> Mapping[str, Any]:
    rows = [row for row in cost.get("latency") or [] if row.get("p50_ms")]
    return max(rows, key=_throughput, default={})


def _throughput(row: Mapping[str, Any]) -> float:
    return 1000 * row["batch"] / row["p50_ms"] if row else MISSING
