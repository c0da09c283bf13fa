"""The part of a ``run.json`` that forecasts, tables and figures read; standard library only."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypedDict

from lunet.settings import Within

Seconds = Annotated[float, Within(0, 1e12)]
Bytes = Annotated[float, Within(0, 1e18)]
Count = Annotated[int, Within(0)]


class _Settings(TypedDict):
    task: NotRequired[dict[str, Any]]
    model: NotRequired[dict[str, Any]]
    recipe: NotRequired[dict[str, Any]]


class _Engine(TypedDict):
    device: NotRequired[str]
    threads: NotRequired[Annotated[int, Within(0)] | None]


class _Cases(TypedDict):
    train: Count
    validation: Count


class RunForm(TypedDict):
    """The entries of a run's record that are read; other keys are kept unchecked."""

    preset: NotRequired[str]
    fold: NotRequired[Count]
    seed: NotRequired[Count]
    settings: NotRequired[_Settings]
    code: NotRequired[str]
    data: NotRequired[str | None]
    cases: NotRequired[_Cases | None]
    epochs: NotRequired[Count]
    best_score: NotRequired[float | None]
    engine: NotRequired[_Engine | None]
    device_seconds: NotRequired[Seconds | None]
    peak_memory_bytes: NotRequired[Bytes | None]
    provenance: NotRequired[dict[str, Any] | None]
