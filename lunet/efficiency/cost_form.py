"""The part of an ``efficiency.json`` that tables and figures read; standard library only."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from lunet.settings import Size, Within

Amount = Annotated[float, Within(0, 1e18)]


class _Latency(TypedDict):
    batch: NotRequired[Annotated[int, Within(1)]]
    engine: NotRequired[str]
    precision: NotRequired[str]
    p50_ms: NotRequired[Amount | None]
    p95_ms: NotRequired[Amount | None]
    p99_ms: NotRequired[Amount | None]
    jitter_ms: NotRequired[Amount | None]
    p50_of_processes_ms: NotRequired[list[Amount] | None]
    unstable: NotRequired[bool | None]
    runs: NotRequired[Annotated[int, Within(1)]]
    processes: NotRequired[Annotated[int, Within(1)]]


class _LeftOut(TypedDict):
    engine: str
    precision: str
    batch: Annotated[int, Within(1)]
    reason: str


class _Throughput(TypedDict):
    batch: Annotated[int, Within(1)]
    per_s: Amount


class _Memory(TypedDict):
    batch: Annotated[int, Within(1)]


class CostForm(TypedDict):
    """The costs of a preset that are read; other keys are kept unchecked."""

    preset: NotRequired[str]
    model: NotRequired[dict[str, Any]]
    size: NotRequired[list[Size] | None]
    parameters: NotRequired[Amount | None]
    macs: NotRequired[Amount | None]
    latency: NotRequired[list[_Latency] | None]
    left_out: NotRequired[list[_LeftOut] | None]
    out_of_memory: NotRequired[dict[str, str] | None]
    throughput: NotRequired[_Throughput | None]
    training_step_ms: NotRequired[Amount | None]
    peak_memory_bytes: NotRequired[Amount | None]
    peak_measured_bytes: NotRequired[Amount | None]
    training_peak_measured_bytes: NotRequired[Amount | None]
    training_peak_bytes: NotRequired[Amount | None]
    training_memory: NotRequired[list[_Memory] | None]
    training_step: NotRequired[_Latency | None]
    busy: NotRequired[bool | None]
    device: NotRequired[dict[str, Any] | str | None]
