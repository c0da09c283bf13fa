"""Memory and time of trainings: forecast from measured steps, and measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lunet.efficiency.calibration import Calibration, VolumeSizes, calibration, volumes
from lunet.efficiency.forecast import Check, check
from lunet.errors import ConfigError
from lunet.reading import read_object, wrong_in
from lunet.reporting.costs import busy
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import NONE, fixed, significant
from lunet.reporting.tables.costs import conditions

_MIB = 2**20
_COLUMNS = (
    "Runs",
    "Memory forecast (MiB)",
    "measured (MiB)",
    "error (%)",
    "Time forecast (s)",
    "measured (s)",
    "error (%)",
)
_NOTE = (
    "Forecast: from the training steps that the efficiency step measured, scaled to the recipe's "
    "batch, sample size and number of steps. Measured: largest peak over the runs (of the process, "
    "or of CUDA's allocator), and mean time of training and validation. A positive error means "
    "that the forecast was higher. Times are compared for the epochs that were trained. "
    f"{NONE}: no run on the kind of device on which the steps were measured."
)


def forecast(
    costs: Mapping[str, Mapping[str, Any]],
    runs: Iterable[Mapping[str, Any]],
    manifest: Sequence[Path],
) -> Table:
    """A row per preset whose training step was measured: forecast, measurement, signed error.

    Parameters
    ----------
    costs
        Preset -> content of its ``efficiency.json``.
    runs
        Contents of ``run.json`` files, with ``preset``.
    manifest
        The manifest of the prepared volumes.

    Raises
    ------
    ConfigError
        If there is no manifest.
    DataError
        If a field that a forecast needs is missing.
    """
    if not manifest:
        raise ConfigError(
            where="--manifest", found="missing", expected="needed for the table forecast"
        )
    data = _volumes(manifest[0])
    by_preset: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        by_preset.setdefault(run["preset"], []).append(run)
    checks = {
        preset: check(_calibration(preset, cost), _seen(data, cost), by_preset.get(preset, []))
        for preset, cost in costs.items()
        if cost.get("training_engine")
    }
    return Table(
        name="forecast",
        caption=f"Memory and time of a training: forecast and measured{conditions(costs)}.",
        columns=(Column("Preset", text=True), *(Column(title) for title in _COLUMNS)),
        rows=tuple((cell(preset), *_cells(found)) for preset, found in checks.items()),
        records=tuple({"preset": preset} | _record(found) for preset, found in checks.items()),
        note=f"{_NOTE} {busy(costs)}".strip(),
    )


def _seen(data: VolumeSizes, cost: Mapping[str, Any]) -> VolumeSizes:
    """The volumes as a network sees them: in slices, if it was measured on a slice."""
    return replace(data, dimensions=len(cost["size"])) if cost.get("size") else data


def _volumes(path: Path) -> VolumeSizes:
    with wrong_in(path):
        return volumes(read_object(path))


def _calibration(preset: str, cost: Mapping[str, Any]) -> Calibration:
    with wrong_in(f"efficiency.json of {preset}"):
        return calibration(cost)


def _cells(found: Check | None) -> tuple[Cell, ...]:
    if found is None:
        return tuple(cell(text) for text in ("0", *(NONE,) * 6))
    return (
        cell(found.taken.runs),
        cell(significant(found.memory / _MIB)),
        cell(significant(found.taken.memory / _MIB)),
        cell(signed_percent(found.memory_error)),
        cell(significant(found.seconds)),
        cell(significant(found.taken.seconds)),
        cell(signed_percent(found.time_error)),
    )


def signed_percent(error: float) -> str:
    """A relative error as a percentage with its sign."""
    return ("+" if round(100 * error) > 0 else "") + fixed(100 * error, 0)


def _record(found: Check | None) -> dict[str, Any]:
    if found is None:
        return {"runs": 0}
    return {
        "runs": found.taken.runs,
        "predicted_memory_bytes": found.memory,
        "measured_memory_bytes": found.taken.memory,
        "memory_error": found.memory_error,
        "predicted_seconds": found.seconds,
        "measured_seconds": found.taken.seconds,
        "time_error": found.time_error,
    }
