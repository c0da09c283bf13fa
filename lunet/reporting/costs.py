"""Costs of a preset as flat numbers, whichever of them were measured."""

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
    one = latency(cost, 1)
    medians = [float(value) for value in one.get("p50_of_processes_ms") or []] or [MISSING]
    unstable = one.get("unstable")
    return {
        "parameters": _number(cost, "parameters"),
        "gmacs": _number(cost, "macs") / 1e9,
        "gflops": 2 * _number(cost, "macs") / 1e9,
        "latency_p50_ms": _number(one, "p50_ms"),
        "latency_low_ms": min(medians),
        "latency_high_ms": max(medians),
        "latency_p95_ms": _number(one, "p95_ms"),
        "latency_p99_ms": _number(one, "p99_ms"),
        "jitter_ms": _number(one, "jitter_ms"),
        "unstable": MISSING if unstable is None else float(unstable),
        "fastest_p50_ms": fastest(cost)[1],
        **_throughput(cost),
        "training_step_ms": _number(cost, "training_step_ms"),
        "memory_mib": _number(cost, "peak_measured_bytes") / 2**20,
        "training_memory_mib": _number(cost, "training_peak_measured_bytes") / 2**20,
        "live_mib": _number(cost, "peak_memory_bytes") / 2**20,
        "training_live_mib": _number(cost, "training_peak_bytes") / 2**20,
    }


def fastest(cost: Mapping[str, Any]) -> tuple[str, float]:
    """Engine and number format with the lowest median latency at batch 1, and that latency."""
    rows = [row for row in cost.get("latency") or [] if row.get("batch") == 1 and row.get("p50_ms")]
    if not rows:
        return "", MISSING
    best = min(rows, key=lambda row: float(row["p50_ms"]))
    return f"{best.get('engine', '')} {best.get('precision', '')}".strip(), float(best["p50_ms"])


def device(cost: Mapping[str, Any]) -> str:
    """Where it was measured: the name of the GPU or processor, else the kind of device."""
    about = cost.get("device") or ""
    if not isinstance(about, Mapping):
        return str(about)
    if about.get("type") == "cpu":
        return str(about.get("cpu") or "cpu")
    return str(about.get("name") or about.get("type") or "")


def _number(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    return MISSING if value is None else float(value)


def _throughput(cost: Mapping[str, Any]) -> dict[str, float]:
    """Volumes per second at the best batch: the measured number, else from the latencies."""
    if cost.get("given"):  # stated by the user, not measured: a latency says nothing about batches
        return {"throughput_per_s": MISSING, "throughput_batch": MISSING}
    best: Mapping[str, Any] = cost.get("throughput") or max(
        (
            {"batch": row["batch"], "per_s": 1000 * row["batch"] / row["p50_ms"]}
            for row in cost.get("latency") or []
            if row.get("p50_ms")
        ),
        key=lambda row: row["per_s"],
        default={},
    )
    return {
        "throughput_per_s": _number(best, "per_s"),
        "throughput_batch": _number(best, "batch"),
    }
