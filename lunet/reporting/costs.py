"""Costs of a preset as flat numbers, whichever of them were measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MISSING = float("nan")
BUSY = (
    "The times of {presets} were measured on a busy machine or varied by more than 3 %, so they "
    "are not to be relied on."
)
_AXES = 3
_WORK = (
    "gmacs",
    "gflops",
    "latency_p50_ms",
    "latency_low_ms",
    "latency_high_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "jitter_ms",
    "fastest_p50_ms",
)


def latency(cost: Mapping[str, Any], batch: int = 1) -> Mapping[str, Any]:
    """The measurement of one batch size: eager fp32 if there is one, else the first; or empty.

    Batch sizes, number formats and engines are listed in ``cost["latency"]``.
    """
    rows = [row for row in cost.get("latency") or [] if row.get("batch") == batch]
    plain = [row for row in rows if (row.get("engine"), row.get("precision")) == ("eager", "fp32")]
    return (plain or rows or [{}])[0]


def per_volume(costs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Costs of networks of which some were measured on a volume and others on one of its slices.

    The latter get the key ``slices``, the number of slices of the volume, so that :func:`flat`
    counts a whole volume for every network. Where all have one kind of input, nothing changes.
    """
    depths = {cost["size"][2] for cost in costs.values() if len(cost.get("size") or ()) == _AXES}
    if len(depths) != 1:
        return costs
    (depth,) = depths
    return {
        name: cost | {"slices": depth} if len(cost.get("size") or ()) == _AXES - 1 else cost
        for name, cost in costs.items()
    }


def flat(cost: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of an ``efficiency.json``: counts, GMAC, ms, MiB; NaN where not measured.

    Work and time of a network of slices are those of all slices of a volume, one after the other,
    if the costs come from :func:`per_volume`.
    """
    numbers, slices = _flat(cost), cost.get("slices", 1)
    for key in _WORK:
        numbers[key] *= slices
    numbers["throughput_per_s"] /= slices
    return numbers


def _flat(cost: Mapping[str, Any]) -> dict[str, float]:
    one = latency(cost, 1)
    medians = [float(value) for value in one.get("p50_of_processes_ms") or []] or [MISSING]
    step = cost.get("training_step") or {}
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
        "unstable": _unstable(cost, one),
        "fastest_p50_ms": fastest(cost)[1],
        **_throughput(cost),
        "training_step_ms": _number(cost, "training_step_ms"),
        "training_step_unstable": _unstable(cost, step),
        "memory_mib": _number(cost, "peak_measured_bytes") / 2**20,
        "training_memory_mib": _number(cost, "training_peak_measured_bytes") / 2**20,
        "live_mib": _number(cost, "peak_memory_bytes") / 2**20,
        "training_live_mib": _number(cost, "training_peak_bytes") / 2**20,
    }


def _unstable(cost: Mapping[str, Any], series: Mapping[str, Any]) -> float:
    """Whether a time is not to be relied on: it varied, or the machine did other work."""
    known = [flag for flag in (series.get("unstable"), cost.get("busy")) if flag is not None]
    return float(any(known)) if known else MISSING


def unreliable(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """Names of the presets whose times are not to be relied on; empty if none."""
    numbers = {name: flat(cost) for name, cost in costs.items()}
    keys = ("unstable", "training_step_unstable")
    return ", ".join(name for name, row in numbers.items() if 1 in (row[key] for key in keys))


def busy(costs: Mapping[str, Mapping[str, Any]]) -> str:
    """A sentence that names the presets whose times are not to be relied on; empty if none."""
    names = unreliable(costs)
    return BUSY.format(presets=names) if names else ""


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


def grid_points(size: Sequence[int]) -> str:
    """What an input of this size consists of: ``pixels`` of a picture or slice, or ``voxels``."""
    return "pixels" if len(size) == 2 else "voxels"


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
