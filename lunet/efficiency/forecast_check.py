"""The forecast held against what finished trainings took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lunet.efficiency.calibration import Calibration, Volumes
from lunet.efficiency.forecast import Forecast, load_of, predict


@dataclass(frozen=True)
class Taken:
    """What finished runs of one preset took: their number, the largest peak in bytes (of the
    process, on CUDA of the allocator), the mean seconds of training and validation."""

    runs: int
    memory: float
    seconds: float


@dataclass(frozen=True)
class Check:
    """What was foreseen for finished runs, for the epochs that were done, beside what they took."""

    memory: float
    seconds: float
    taken: Taken

    @property
    def memory_error(self) -> float:
        """Foreseen over taken memory, minus 1."""
        return self.memory / self.taken.memory - 1

    @property
    def time_error(self) -> float:
        """Foreseen over taken time, minus 1."""
        return self.seconds / self.taken.seconds - 1


def taken(runs: Iterable[Mapping[str, Any]], device: str | None = None) -> Taken | None:
    """What ``run.json`` files say; those on another kind of device than ``device`` are left out."""
    usable = _usable(runs, device)
    if not usable:
        return None
    return Taken(
        runs=len(usable),
        memory=max(run["peak_memory_bytes"] for run in usable),
        seconds=sum(run["device_seconds"] for run in usable) / len(usable),
    )


def check(measured: Calibration, data: Volumes, runs: Sequence[Mapping[str, Any]]) -> Check | None:
    """Compare the contents of ``run.json`` files of one preset with their forecasts.

    None if no run was on the kind of device that was measured.
    """
    found = taken(runs, measured.device)
    if found is None:
        return None
    foreseen = [_forecast(measured, data, run) for run in _usable(runs, measured.device)]
    return Check(
        memory=max(row.memory for row in foreseen),
        seconds=sum(row.seconds for row in foreseen) / len(foreseen),
        taken=found,
    )


def _usable(runs: Iterable[Mapping[str, Any]], device: str | None) -> list[Mapping[str, Any]]:
    """Runs that say what they took, on the kind of device."""
    keys = ("cases", "device_seconds", "peak_memory_bytes")
    complete = [run for run in runs if all(run.get(key) for key in keys)]
    return [run for run in complete if device is None or run["engine"]["device"] == device]


def _forecast(measured: Calibration, data: Volumes, run: Mapping[str, Any]) -> Forecast:
    recipe = {**run["settings"]["recipe"], "epochs": run["epochs"]}
    cases = run["cases"]
    load = load_of(recipe, data, train=cases["train"], validation=cases["validation"])
    return predict(measured, load, threads=run["engine"]["threads"])
