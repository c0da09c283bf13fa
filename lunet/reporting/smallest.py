"""The search for the smallest network: its evidence, its decisions and its figure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.errors import ConfigError
from lunet.files import write_csv
from lunet.metrics.catalog import column_in
from lunet.reading import read_record
from lunet.reporting.costs import flat
from lunet.reporting.result_files import PRIOR, ResultFiles, read_cases
from lunet.reporting.search_grid import SearchGrid
from lunet.reporting.units import length_unit
from lunet.reporting.unlearned import mean_scores, unlearned
from lunet.statistics.looks import Counts, FoldValues, fold_values
from lunet.statistics.looks import looks as looks_at
from lunet.statistics.sequential import Look, Plan, Spending
from lunet.training.run_form import RunForm

COSTS = {
    "parameters": "parameters",
    "macs": "MACs",
    "latency_ms": "latency",
    "memory_mib": "memory",
    "energy_j": "energy",
}
Looks = list[tuple[Look, Counts]]


@dataclass(frozen=True)
class Rules:
    """What is compared and how, for all looks."""

    results: Path
    grid: SearchGrid
    metric: str
    margin: float
    spending: Spending = "obrien_fleming"
    futility: float = 0.1

    def run(self, preset: str, fold: int, seed: int) -> Path:
        """Folder of a run."""
        return self.results / "runs" / preset / f"fold-{fold}" / f"seed-{seed}"


@dataclass
class Evidence:
    """The finished runs, read when needed and again when a file has changed."""

    rules: Rules
    planned: Mapping[int, Sequence[str]] | None = None
    _rows: dict[Path, tuple[int, pd.DataFrame]] = field(default_factory=dict)
    _values: dict[tuple[Any, ...], dict[int, FoldValues]] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric as the rows call it: ``hd95_px`` for images without a physical size."""
        known = [column_in(self.rules.metric, length_unit(r)) for _, r in self._rows.values()]
        return known[0] if known else self.rules.metric

    def folds(self, preset: str) -> list[int]:
        """Folds in which all seeds of a preset are finished."""
        grid = self.rules.grid
        return [
            fold
            for fold in grid.folds
            if all(self.hours(*run) is not None for run in grid.runs(preset, fold))
        ]

    def hours(self, preset: str, fold: int, seed: int) -> float | None:
        """Device hours of a finished run; None if it is not finished.

        For a rival, the hours since its training was last started.
        """
        run = self.rules.run(preset, fold, seed)
        if not ((run / "metrics.csv").is_file() and (run / "run.json").is_file()):
            return None
        record: Mapping[str, Any] = read_record(run / "run.json", RunForm)
        rival = (record.get("external") or {}).get("training") or {}
        return float(record.get("device_seconds") or rival.get("seconds") or 0.0) / 3600

    def values(self, preset: str) -> dict[int, FoldValues]:
        """Values of a preset and the reference in the folds that both have."""
        grid = self.rules.grid
        pair = (preset, grid.reference)
        both = [fold for fold in self.folds(preset) if fold in self.folds(pair[1])]
        paths = [
            self.rules.run(*run) / "metrics.csv"
            for name in pair
            for fold in both
            for run in grid.runs(name, fold)
        ]
        key = (preset, *((path, path.stat().st_mtime_ns) for path in paths))
        if key not in self._values:
            rows = pd.concat([self._read(path) for path in paths]) if paths else None
            given = [grid.reference] if grid.is_given else []
            found = {} if rows is None else fold_values(rows, pair, self.metric, untrained=given)
            self._values[key] = found
        return self._values[key]

    def _read(self, path: Path) -> pd.DataFrame:
        stamp = path.stat().st_mtime_ns
        if path not in self._rows or self._rows[path][0] != stamp:
            self._rows[path] = stamp, read_cases(ResultFiles(metrics=(path,)))
        return self._rows[path][1]

    def unlearned(self, presets: Iterable[str], given: Collection[str]) -> dict[str, str]:
        """Preset -> sentence, for those that have not learnt the task, by their finished folds.

        ``given`` are presets whose masks were made elsewhere.
        """
        found: dict[str, str] = {}
        for preset in presets:
            folds = self.folds(preset)
            runs = [run for fold in folds for run in self.rules.grid.runs(preset, fold)]
            prior = [self.rules.run(PRIOR, fold, 0) / "metrics.csv" for fold in folds]
            paths = [self.rules.run(*run) / "metrics.csv" for run in runs]
            paths += [path for path in prior if path.is_file()]
            if runs:
                cases = pd.concat([self._read(path) for path in paths], ignore_index=True)
                means = mean_scores(cases, self.rules.metric)
                found |= unlearned(means, self.rules.metric, given)
        return found

    def looks(self, preset: str, level: float) -> Looks:
        """All looks at a candidate up to the one that decides."""
        rules = self.rules
        plan = Plan(rules.margin, level, rules.spending, rules.futility)
        return looks_at(self.values(preset), plan, rules.grid.folds, planned=self.planned)


def cost_of(cost: Mapping[str, Any], kind: str, preset: str) -> float:
    """A cost of a volume, from ``efficiency.json``; ``kind`` is a key of :data:`COSTS`.

    Among networks of volumes and of slices, ``cost`` is one of
    :func:`lunet.reporting.costs.per_volume`.

    Raises
    ------
    ConfigError
        If it was not measured.
    """
    value = _number(cost, kind)
    if not math.isfinite(value):
        known = ", ".join(COSTS)
        raise ConfigError(
            where="smallest.cost",
            found=f"{kind} of {preset} was not measured",
            expected=f"choose one of {known}",
        )
    return value


def reference_cost(cost: Mapping[str, Any], kind: str) -> float:
    """A cost of an external row; infinite if candidates cannot be compared with it.

    That is so if the cost is not known, or if it depends on the machine and was only stated.
    """
    is_of_machine = kind not in ("parameters", "macs")
    value = math.nan if cost.get("given") and is_of_machine else _number(cost, kind)
    return value if math.isfinite(value) else math.inf


def _number(cost: Mapping[str, Any], kind: str) -> float:
    numbers = flat(cost)
    energy = cost.get("energy") or {}
    return {
        "parameters": numbers["parameters"],
        "macs": 1e9 * numbers["gmacs"],
        "latency_ms": numbers["latency_p50_ms"],
        "memory_mib": numbers["memory_mib"],
        "energy_j": float(energy.get("joules_per_volume", math.nan)) * cost.get("slices", 1),
    }[kind]


def state(look: Look, margin: float, *, is_last: bool) -> str:
    """The candidate's state after a look, in one or two words."""
    if look.decision == "non-inferior":
        return "better" if look.low > 0 else "non-inferior"
    if look.high < -margin:
        return "inferior"
    if look.decision == "futile":
        return "given up"
    return "not resolved" if is_last else "undecided"


DECISION_COLUMNS = (
    "candidate",
    "family",
    "reference",
    "cost",
    "parameters",
    "level",
    "look",
    "folds",
    "seeds",
    "seeds_reference",
    "n",
    "n_groups",
    "estimate",
    "error",
    "freedom",
    "freedom_trainings",
    "ci_low",
    "ci_high",
    "information",
    "ratio",
    "boundary",
    "nominal_level",
    "conditional_power",
    "decision",
    "state",
    "device_hours",
)


def decision_rows(evidence: Evidence, steps: Sequence[Any]) -> list[dict[str, Any]]:
    """A row per look of each step (:class:`lunet.study.smallest.Step`)."""
    rows = []
    for step in steps:
        found = evidence.looks(step.candidate.name, step.level)
        for number, (look, counts) in enumerate(found, 1):
            rows.append(_row(evidence, step, number, look, counts))
    return rows


def _row(evidence: Evidence, step: Any, number: int, look: Look, counts: Counts) -> dict[str, Any]:
    rules, one = evidence.rules, step.candidate
    grid = rules.grid
    folds = grid.folds[:number]
    hours = [evidence.hours(*run) for fold in folds for run in grid.runs(one.name, fold)]
    last = number == len(grid.folds)
    return {
        "candidate": one.name,
        "family": one.family,
        "reference": grid.reference,
        "cost": one.cost,
        "parameters": one.parameters,
        "level": step.level,
        "look": number,
        "folds": " ".join(map(str, folds)),
        "seeds": counts.seeds,
        "seeds_reference": len(grid.seeds_of(grid.reference)),
        "n": counts.cases,
        "n_groups": counts.subjects,
        "estimate": look.estimate.difference,
        "error": look.estimate.error.error,
        "freedom": look.estimate.error.freedom,
        "freedom_trainings": look.estimate.error.freedom_trainings,
        "ci_low": look.low,
        "ci_high": look.high,
        "information": look.estimate.fractions[-1],
        "ratio": look.ratio,
        "boundary": look.bound,
        "nominal_level": look.nominal,
        "conditional_power": look.power,
        "decision": look.decision,
        "state": state(look, rules.margin, is_last=last),
        "device_hours": sum(value or 0.0 for value in hours),
    }


def write_decisions(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``decisions.csv``; infinite and unknown values become empty cells."""
    finite = [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]
    write_csv(path, DECISION_COLUMNS, finite)
