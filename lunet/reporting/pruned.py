"""Read prunings for tables and figures: trajectory and record of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd

from lunet.errors import ConfigError, DataError
from lunet.reading import read_record
from lunet.reporting.read_frame import read_frame
from lunet.reporting.result_files import ResultFiles
from lunet.training.run_form import Count

TITLES = {
    "stamp": "STAMP",
    "random_at_stamp_layer": "STAMP's layers, random channels",
    "largest_layer": "largest layer, random channels",
    "scratch": "STAMP's widths from scratch",
    "flat": "LUNet of equal size",
}


class _Size(TypedDict):
    parameters: Count
    macs: Count
    channels: Count


class _Chosen(_Size):
    iteration: Count
    dice: float | None


class _Optimistic(TypedDict):
    dice: float


class _Test(TypedDict):
    dice: float | None
    optimistic: NotRequired[_Optimistic]


class _PruningForm(TypedDict):
    """The keys of a pruning's ``run.json`` that are used."""

    strategy: str
    preset: str
    pruned_preset: str
    fold: Count
    seed: Count
    chosen: _Chosen
    test: NotRequired[_Test | None]


@dataclass(frozen=True)
class Pruning:
    """One run of one strategy.

    Attributes
    ----------
    strategy, label, fold, seed
        Identify the run; ``label`` is its name in ``metrics.csv``.
    trajectory
        One row per iteration.
    record
        Content of its ``run.json``.
    """

    strategy: str
    label: str
    fold: int
    seed: int
    trajectory: pd.DataFrame
    record: Mapping[str, Any]

    @property
    def chosen(self) -> Mapping[str, Any]:
        """Iteration, size and validation Dice of the chosen network."""
        return self.record["chosen"]


def read_prunings(sources: ResultFiles) -> list[Pruning]:
    """The prunings whose ``trajectory.csv`` is among the sources; ``run.json`` is next to it.

    Raises
    ------
    ConfigError
        If there are none.
    DataError
        If a record is missing, is not a pruning record, or is about another preset than the others.
    """
    if not sources.trajectories:
        raise ConfigError(
            where="inputs",
            found="no trajectory.csv",
            expected="tables and figures of a pruning need them",
        )
    found = [_read(path) for path in sources.trajectories]
    presets = sorted({str(pruning.record["pruned_preset"]) for pruning in found})
    if len(presets) > 1:
        raise DataError(
            where="inputs",
            found=f"prunings of {', '.join(presets)}",
            expected="one preset at a time",
        )
    return found


def _read(path: Path) -> Pruning:
    record = read_record(path.parent / "run.json", _PruningForm)
    what = "a trajectory.csv of `lunet prune`"
    return Pruning(
        record["strategy"],
        record["preset"],
        record["fold"],
        record["seed"],
        read_frame(path, needed=["iteration", "parameters", "dice"], texts=["removed"], what=what),
        record,
    )


def by_strategy(prunings: Sequence[Pruning]) -> dict[str, list[Pruning]]:
    """The runs of each strategy, in the order of the files."""
    found: dict[str, list[Pruning]] = {}
    for pruning in prunings:
        found.setdefault(pruning.strategy, []).append(pruning)
    return found


def layer_columns(trajectory: pd.DataFrame) -> list[str]:
    """Names of the layers whose channels a trajectory records, from input to output.

    Up-convolutions are left out, because their outputs are not pruned by default.
    """
    names = [str(c).removeprefix("channels_") for c in trajectory if str(c).startswith("channels_")]
    order = {"encoder": 0, "bottleneck": 1, "head": 3}
    kept = [name for name in names if not name.startswith("up.")]
    return sorted(kept, key=lambda name: order.get(name.split(".")[0], 2))
