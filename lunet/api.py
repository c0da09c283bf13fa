"""The Python side of a study: train a run, read its results, compare two networks.

Each function calls what ``lunet`` calls on the command line; ``import lunet`` hands them on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.errors import DataError
from lunet.metrics.catalog import column_in
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.markup import read_table
from lunet.reporting.read_frame import read_frame
from lunet.reporting.result_files import (
    KEYS,
    ResultFiles,
    from_inputs,
    read_cases,
    read_efficiency,
    read_histories,
)
from lunet.reporting.tables.claims import compared
from lunet.reporting.units import length_unit
from lunet.settings import build_settings

_FOLDERS = ("runs", "presets")
_TEXTS = ("preset", "case", "group", "label", "status")


def train(
    config: str | Path,
    preset: str,
    *,
    fold: int = 0,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
    init: str | Path | None = None,
    out: str | Path | None = None,
    work: str | Path | None = None,
) -> Path:
    """Train one run of a study whose data are prepared, as ``lunet train`` does.

    An interrupted training resumes when it is called again. A finished run is not trained again.

    Parameters
    ----------
    config
        Configuration of the study (YAML). ``snakemake results/STUDY/splits.json`` prepares its
        data.
    preset
        Preset or variant; the study need not list it.
    fold, seed
        Number of the fold, from 0, and seed of everything random.
    changes
        Changes of the configuration by key, for example
        ``{"train.epochs": 20, "train.optimiser.lr": 1e-3}``.
    init
        Weights to start from (fine-tuning).
    out, work
        Folder of the results, and of the resume state; by default
        ``results/STUDY/by-hand/runs/PRESET/fold-F/seed-S``, and the same below ``work``.

    Returns
    -------
    The folder of the run, for :func:`lunet.load_model` and :func:`lunet.results`.

    Raises
    ------
    LunetError
        If the configuration is wrong, the data are not prepared, or ``out`` holds another run.
    """
    from lunet.cli import parser_of
    from lunet.commands.train import train_run

    arguments = parser_of("train").parse_args([])
    arguments.config, arguments.preset = str(config), preset
    arguments.fold, arguments.seed = fold, seed
    arguments.changes = [f"{key}={json.dumps(value)}" for key, value in (changes or {}).items()]
    for name, path in (("init", init), ("out", out), ("work", work)):
        setattr(arguments, name, Path(path) if path is not None else None)
    return train_run(arguments)


@dataclass(frozen=True)
class Results:
    """The results of a study, or of a single run, as tables. Each is read when it is first used.

    Attributes
    ----------
    folder
        ``results/STUDY``, the folder of one run, or any folder that contains runs.
    """

    folder: Path

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row per preset, fold, seed, case and label, from ``metrics.csv`` of each run."""
        return read_cases(self._files)

    @cached_property
    def histories(self) -> pd.DataFrame:
        """A row per preset, fold, seed and epoch, from ``history.csv`` of each run."""
        return read_histories(self._files)

    @cached_property
    def costs(self) -> pd.DataFrame:
        """A row per preset: parameters, GMAC, latency in ms, memory in MiB; NaN: not measured."""
        rows = [{"preset": name, **flat(cost)} for name, cost in self._measured().items()]
        return pd.DataFrame(rows)

    @property
    def claims(self) -> pd.DataFrame:
        """A row per comparison of the study, with its verdict and sentence."""
        return self.table("claims")

    def table(self, name: str) -> pd.DataFrame:
        """The numbers of a table of the study, for example ``accuracy`` or ``comparisons``.

        Raises
        ------
        DataError
            If the study has not made it.
        """
        path = self.folder / "tables" / f"{name}.json"
        if not path.is_file():
            made = sorted(found.stem for found in path.parent.glob("*.json"))
            raise DataError(
                where=path,
                found="does not exist",
                expected=f"tables of this study: {', '.join(made)}" if made else "no table is made",
                action="The target `tables` of the study makes its tables",
            )
        return pd.DataFrame([*read_table(path).records])

    def _measured(self) -> dict[str, dict[str, Any]]:
        costs = read_efficiency(self._files)
        if not costs:
            raise DataError(
                where=self.folder,
                found="no efficiency.json",
                expected="one per preset",
                action="The target `efficiency` of the study measures its presets",
            )
        return costs

    @cached_property
    def _files(self) -> ResultFiles:
        """The files of a study's own grid, without its prunings and tests on other data sets."""
        parts = [self.folder / name for name in _FOLDERS]
        places = [path for path in parts if path.is_dir()] or [self.folder]
        return from_inputs([str(path) for path in places])


def results(folder: str | Path) -> Results:
    """The results of a study, of one run, or of a folder that contains runs.

    Parameters
    ----------
    folder
        For example ``results/quick``. A study may still be running: what is finished is read.

    Raises
    ------
    DataError
        If there is no such folder.
    """
    if not Path(folder).is_dir():
        raise DataError(where=folder, found="does not exist", expected="a folder of results")
    return Results(Path(folder))


def compare(
    candidate: pd.DataFrame | str | Path,
    reference: pd.DataFrame | str | Path,
    *,
    metric: str = "dice",
    margin: float | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare two networks on the same cases, with the tests of a study's own claims.

    Parameters
    ----------
    candidate, reference
        Per-case results of one network each: a table, ``metrics.csv`` or another table of ``lunet
        evaluate``, or a folder of runs such as ``results/quick/runs/lunet_small_4f``.
    metric
        Column to compare.
    margin
        Largest loss that would not matter, in the metric's unit; 0 tests no non-inferiority. Dice
        has 0.01 if none is given.
    confidence
        Level of the intervals; all tests together have the error ``1 - confidence``.
    resamples, seed
        Number and seed of the resamples.

    Returns
    -------
    A row per label, and one for their mean, with the difference, its interval, the verdict and a
    sentence; columns as in :func:`lunet.statistics.paired.compare_presets`.

    Raises
    ------
    LunetError
        If a table cannot be read, a side holds several networks, a case is on one side only, or a
        setting is impossible.
    """
    sides = [_side(candidate, "candidate"), _side(reference, "reference")]
    names = [str(side["preset"].iloc[0]) for side in sides]
    if names[0] == names[1]:
        names = ["candidate", "reference"]
    cases = [side.assign(preset=name) for side, name in zip(sides, names, strict=True)]
    settings = {"metric": metric, "margin": margin, "confidence": confidence, "pairs": [names]}
    settings |= {"resamples": resamples, "seed": seed}
    statistics = build_settings(StatisticsSettings, settings, "compare")
    rows = pd.concat(cases, ignore_index=True)
    statistics = replace(statistics, metric=column_in(metric, length_unit(rows)))
    return compared(rows, statistics)


def _side(source: pd.DataFrame | str | Path, name: str) -> pd.DataFrame:
    """The rows of one network; what a table of `lunet evaluate` for two folders lacks is added."""
    if isinstance(source, pd.DataFrame):
        rows, where = source, name
    else:
        rows, where = _read_side(Path(source)), str(source)
    lacking = [key for key in ("case", "label", "status", "dice") if key not in rows]
    if lacking or not len(rows):
        raise DataError(
            where=where,
            found=f"no column {lacking[0]}" if lacking else "no rows",
            expected="a row per case and label, as `lunet evaluate` writes",
        )
    added = {"preset": name, "fold": 0, "seed": 0, "group": rows["case"]}
    rows = rows.assign(**{key: value for key, value in added.items() if key not in rows})
    networks = list(rows["preset"].unique())
    if len(networks) > 1:
        raise DataError(
            where=where,
            found=f"results of {', '.join(map(str, networks))}",
            expected="one network on each side",
        )
    if rows.duplicated(KEYS).any():
        raise DataError(
            where=where, found="a case and label occur twice", expected="each once per training"
        )
    return rows


def _read_side(path: Path) -> pd.DataFrame:
    if path.is_dir():
        return read_cases(from_inputs([str(path)]))
    what = "a table of `lunet evaluate`"
    return read_frame(path, needed=("case", "label", "status", "dice"), texts=_TEXTS, what=what)
