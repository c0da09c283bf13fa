"""Candidates far below the reference at a third of their epochs are suspended.

This rule saves trainings and is not a test: it may miss an answer but never gives a wrong one. The
simulation ``tests/benchmarks/smallest.py --early`` estimates how often it misses a good network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.reading import read_json
from lunet.reporting.result_files import ResultFiles, read_histories
from lunet.study.smallest import Curve, Run, projected_gap
from lunet.study.study import Study


@dataclass(frozen=True)
class EarlyLook:
    """Files of the paused trainings of a search, and the decisions that follow from them."""

    study: Study
    reference: str
    fold: int
    seeds: tuple[int, ...]

    @property
    def limit(self) -> float | None:
        """The largest gap that a candidate may have."""
        return self.study.config.smallest.early_gap

    def file(self, preset: str, seed: int) -> str:
        """History of a paused training."""
        folder = f"{self.study.results}/smallest/paused/{preset}"
        return f"{folder}/fold-{self.fold}/seed-{seed}.json"

    def is_wanted(self, run: Run) -> bool:
        """Whether a run should be paused and compared before its training is finished."""
        preset, fold, _ = run
        if self.limit is None or preset == self.reference or fold != self.fold:
            return False
        return not self._has_finished_run(preset) and self.gap(preset) is None

    def is_far_below(self, preset: str) -> bool:
        """Whether the candidate is suspended; never true after one of its runs is finished."""
        if self.limit is None or self._has_finished_run(preset):
            return False
        gap = self.gap(preset)
        return gap is not None and gap > self.limit

    def gap(self, preset: str) -> float | None:
        """The projected gap to the reference; None while a file of either network is missing."""
        files = [Path(self.file(preset, seed)) for seed in self.seeds]
        runs = [Path(self._folder(self.reference, seed)) for seed in self.seeds]
        # a history grows while its training runs; the record is written at its end
        if not all(path.is_file() for path in (*files, *(run / "run.json" for run in runs))):
            return None
        paused = [read_json(path) for path in files]
        own = [_curve(record["history"]) for record in paused]
        finished = [_curve(_rows(run / "history.csv")) for run in runs]
        return projected_gap(own, finished, int(paused[0]["epoch"]))

    def hours(self, preset: str) -> float:
        """Device hours of the paused trainings of a candidate."""
        files = [Path(self.file(preset, seed)) for seed in self.seeds]
        seconds = [read_json(path)["device_seconds"] for path in files if path.is_file()]
        return sum(map(float, seconds)) / 3600

    def _has_finished_run(self, preset: str) -> bool:
        folders = [self._folder(preset, seed) for seed in self.seeds]
        return any(Path(folder, "run.json").is_file() for folder in folders)

    def _folder(self, preset: str, seed: int) -> str:
        return self.study.run(preset, self.fold, seed)


def _rows(path: Path) -> list[dict[Any, Any]]:
    return read_histories(ResultFiles(histories=(path,))).to_dict("records")


def _curve(rows: Sequence[Mapping[Any, Any]]) -> Curve:
    """Epochs with a defined validation Dice."""
    return [
        (int(row["epoch"]), float(row["dice"]))
        for row in rows
        if row["dice"] is not None and math.isfinite(row["dice"])
    ]
