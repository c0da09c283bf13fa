"""Reads and checks the inputs of a forecast: an ``efficiency.json`` and a manifest of volumes.

Standard library only: the workflow reads them before each submission.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lunet.efficiency.memory_line import counted_line
from lunet.errors import DataError, shown
from lunet.reading import typed
from lunet.settings import Size

_MOST = 1e18  # bytes, milliseconds, voxels
PROCESS_BYTES = (
    400 * 2**20
)  # where the system does not report it: Python, torch, the training's imports


@dataclass(frozen=True)
class Tried:
    """One arithmetic: seconds per step, and memory growth in bytes so far (None: unknown)."""

    precision: str
    memory_format: str
    seconds: float
    growth: float | None


@dataclass(frozen=True)
class Calibration:
    """The measurements of a preset.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    asked
        The setting ``efficiency.device``: ``auto``, or a device that was required.
    threads
        CPU threads of the measurement.
    voxels, batch
        Voxels of a sample, and samples of the step.
    process, weights
        Bytes of the process before any step, and of parameters and buffers.
    fixed, per_sample
        The line of counted memory against the samples, bytes; only its shape is used.
    tried
        The arithmetics, in the order in which a training tries them.
    """

    device: str
    asked: str
    threads: int
    voxels: int
    batch: int
    process: float
    weights: float
    fixed: float
    per_sample: float
    tried: tuple[Tried, ...]

    def step_memory(self, tried: Tried, samples: float) -> float:
        """Bytes of a step on ``samples`` (in units of the measured sample)."""
        there = self.fixed + self.per_sample * self.batch
        level = there if tried.growth is None else tried.growth
        return level * (self.fixed + self.per_sample * samples) / there


@dataclass(frozen=True)
class VolumeSizes:
    """Prepared volumes of a data set: channels, voxels of a case and of the largest case, and in 2D
    voxels and number of slices; means over cases, except ``largest`` and ``largest_plane``."""

    channels: int
    dimensions: int
    voxels: float
    largest: float
    slices: float
    largest_plane: float


def calibration(cost: Any) -> Calibration:
    """Read the content of an ``efficiency.json``.

    Raises
    ------
    DataError
        If a field is missing or is not a positive number. The error names the field; the caller
        adds the file.
    """
    engine = _section(cost, "training_engine")
    settings = _section(cost, "settings")
    tried = tuple(
        Tried(
            str(_field(row, "precision")),
            str(_field(row, "memory_format")),
            _number(row, "step_ms") / 1000,
            None if _field(row, "growth_bytes") is None else _number(row, "growth_bytes", least=0),
        )
        for row in _rows(engine, "tried")
    )
    if not tried:
        raise DataError(
            where="training_engine.tried", found="empty", expected="a measured step is needed"
        )
    process = _field(engine, "process_bytes")
    fixed, per_sample = _shape(cost)
    return Calibration(
        device=str(_field(_section(cost, "device"), "type")),
        asked=str(_field(settings, "device")),
        threads=int(_number(settings, "threads")),
        voxels=math.prod(_sizes(cost, "size")),
        batch=int(_number(engine, "batch")),
        process=PROCESS_BYTES if process is None else _number(engine, "process_bytes"),
        weights=_number(cost, "weights_bytes"),
        fixed=fixed,
        per_sample=per_sample,
        tried=tried,
    )


def volumes(manifest: Any) -> VolumeSizes:
    """The labelled volumes of a manifest of prepared data.

    Raises
    ------
    DataError
        If there is none, or a field is missing.
    """
    task = _section(manifest, "task")
    cases = [case for case in _rows(manifest, "cases") if _field(case, "labelled")]
    shapes = [_sizes(case, "shape") for case in cases]
    if not shapes:
        raise DataError(where="cases", found="none is labelled", expected="a training needs some")
    sizes = [math.prod(shape) for shape in shapes]
    return VolumeSizes(
        channels=len(_rows(task, "channels")),
        dimensions=int(_number(task, "dimensions")),
        voxels=sum(sizes) / len(sizes),
        largest=max(sizes),
        slices=sum(math.prod(shape[2:]) for shape in shapes) / len(shapes),
        largest_plane=max(math.prod(shape[:2]) for shape in shapes),
    )


def _shape(cost: Mapping[str, Any]) -> tuple[float, float]:
    """The line of memory against samples; without one, memory is proportional to them.

    The line is drawn through counted bytes: only its shape is used, and bytes measured on a CPU are
    too noisy for it.
    """
    if not cost.get("training_memory"):
        return 0.0, 1.0
    points = [
        {"batch": _number(point, "batch"), "counted_bytes": _number(point, "counted_bytes")}
        for point in _rows(cost, "training_memory")
    ]
    line = counted_line(points)
    return line.fixed, line.per_sample


def _field(values: Any, key: str) -> Any:
    if not isinstance(values, Mapping):
        raise DataError(
            where=key, found=f"looked for in {shown(values)}", expected="an object is expected"
        )
    if key not in values:
        raise DataError(where=key, found="the field is missing", expected="it is needed")
    return values[key]


def _section(values: Any, key: str) -> Mapping[str, Any]:
    found = _field(values, key)
    if not isinstance(found, Mapping):
        raise DataError(where=key, found=f"found {shown(found)}", expected="an object is expected")
    return found


def _rows(values: Any, key: str) -> Sequence[Any]:
    found = _field(values, key)
    if not isinstance(found, list):
        raise DataError(where=key, found=f"found {shown(found)}", expected="a list is expected")
    return found


def _sizes(values: Any, key: str) -> list[int]:
    """Voxels along each axis."""
    found: list[int] = typed(_rows(values, key), list[Size], key)
    if not 2 <= len(found) <= 3:
        raise DataError(where=key, found=f"{len(found)} axes", expected="2 or 3 are expected")
    return found


def _number(values: Any, key: str, *, least: float = 1e-9) -> float:
    found = _field(values, key)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    if not is_number or not least <= found < _MOST:
        raise DataError(
            where=key, found=f"found {shown(found)}", expected="a positive number is expected"
        )
    return float(found)
