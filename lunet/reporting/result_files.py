"""Find and read the files that tables and figures are made from, and check that they agree."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.efficiency.cost_form import CostForm
from lunet.errors import ConfigError, DataError, nearest, shown
from lunet.files import canonical_json
from lunet.metrics.catalog import STATUSES
from lunet.reading import header_of, read_object, read_record, read_text
from lunet.reporting.costs import per_volume
from lunet.reporting.origin import (
    PRIOR,
    ROLE,
    External,
    external_of,
    with_roles,
)
from lunet.reporting.read_frame import read_frame
from lunet.reporting.units import length_unit
from lunet.training.run_form import RunForm

KEYS = ["preset", "fold", "seed", "case", "label"]
_NAMES = {
    "metrics": "metrics.csv",
    "histories": "history.csv",
    "runs": "run.json",
    "lesions": "lesions.csv",
    "froc": "froc.csv",
}
_TEXTS = ("preset", "case", "group", "label")
_MOST_LISTED, _LONGEST_NAME = 64 << 20, 4096
_RUN = re.compile(r"(?:^|/)(?P<preset>[^/]+)/fold-(?P<fold>\d+)/seed-(?P<seed>\d+)/[^/]+$")


@dataclass(frozen=True)
class Grid:
    """The runs of a results folder to report.

    ``manifest`` is the manifest of the prepared volumes, for outputs that need it. The atlas prior
    and the rows ``external``, whose predictions were made elsewhere, have only seed 0.
    """

    results: Path
    presets: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    manifest: Path | None = None
    external: tuple[str, ...] = ()

    def files(self, kind: str) -> list[Path]:
        """Files of one kind, which is a field of :class:`ResultFiles`."""
        known = [preset for preset in self.presets if preset != PRIOR]
        if kind == "efficiency":
            return [self.results / "presets" / name / "efficiency.json" for name in known]
        if kind == "manifest":
            return [] if self.manifest is None else [self.manifest]
        if kind == "protocol":  # tests on another data set share the protocol of their study
            study = self.results.parents[1] if self.results.parent.name == "transfer" else None
            places = [self.results, *([study] if study else [])]
            found = [place / "protocol.json" for place in places]
            return [path for path in found if path.is_file()][:1]
        names = {"metrics": self.presets, "runs": known}
        rest = [preset for preset in known if preset not in self.external]
        return self._runs(names.get(kind, rest), _NAMES[kind])

    def records(self) -> list[Path]:
        """Records of the external rows, which say what they are."""
        return self._runs([name for name in self.presets if name in self.external], _NAMES["runs"])

    def _runs(self, presets: Iterable[str], name: str) -> list[Path]:
        return [
            self.results / "runs" / preset / f"fold-{fold}" / f"seed-{seed}" / name
            for preset in presets
            for fold in self.folds
            for seed in ((0,) if preset in (*self.external, PRIOR) else self.seeds)
        ]


@dataclass(frozen=True)
class ResultFiles:
    """Input files by kind.

    Per-case metrics, histories, provenance, costs, lesion-wise results, trajectories of prunings,
    the manifest of the prepared volumes, and the study's protocol; ``floor``: per-case metrics of
    the atlas prior for a table that does not report it.
    """

    metrics: tuple[Path, ...] = ()
    histories: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    efficiency: tuple[Path, ...] = ()
    lesions: tuple[Path, ...] = ()
    froc: tuple[Path, ...] = ()
    trajectories: tuple[Path, ...] = ()
    manifest: tuple[Path, ...] = ()
    protocol: tuple[Path, ...] = ()
    floor: tuple[Path, ...] = ()


def with_required(
    kinds: tuple[str, ...], statistics: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """The kinds, and those that the settings of statistics require in addition."""
    if "metrics" not in kinds:
        return kinds
    is_all = bool(statistics and statistics.get("pairs") == "all")
    added = ("protocol", *(["efficiency"] if is_all else []))
    return (*kinds, *(kind for kind in added if kind not in kinds))


def from_grid(grid: Grid, kinds: Iterable[str]) -> ResultFiles:
    """The files of a results folder; each must exist.

    Raises
    ------
    DataError
        If a file of a reported run or preset is missing.
    """
    chosen = {kind: tuple(grid.files(kind)) for kind in kinds}
    if "metrics" in chosen:
        chosen.setdefault("runs", tuple(grid.records()))
    for path in (path for paths in chosen.values() for path in paths):
        if not path.is_file():
            raise DataError(
                where=path,
                found="missing",
                expected="each reported run has one",
                action="Run its step first",
            )
    return ResultFiles(**chosen)


def from_inputs(inputs: Sequence[str]) -> ResultFiles:
    """Sort files by their content; ``@list.txt`` is a list of files, and folders are searched.

    Raises
    ------
    DataError
        If a file is missing or of an unknown kind.
    """
    found: dict[str, list[Path]] = {field.name: [] for field in fields(ResultFiles)}
    for path in _expand(inputs):
        found[_kind(path)].append(path)
    return ResultFiles(**{kind: tuple(paths) for kind, paths in found.items()})


def _expand(inputs: Sequence[str]) -> Iterable[Path]:
    for word in (word.strip() for word in inputs if word.strip()):
        if word.startswith("@"):
            yield from _expand(_listed(Path(word[1:])))
        elif Path(word).is_dir():
            known = (*_NAMES.values(), "efficiency.json", "trajectory.csv", "protocol.json")
            yield from sorted(path for path in Path(word).rglob("*") if path.name in known)
        else:
            yield Path(word)


def _listed(path: Path) -> list[str]:
    """File names in a list, one per line; a list may not name other lists."""
    text = read_text(path, needed="a list of files, one per line", most=_MOST_LISTED)
    names = [line.strip() for line in text.splitlines() if line.strip()]
    for name in names:
        if name.startswith("@") or len(name) > _LONGEST_NAME:
            raise DataError(
                where=path, found=f"found {shown(name)}", expected="a file name per line"
            )
    return names


def _kind(path: Path) -> str:
    if not path.is_file():
        raise DataError(
            where=path,
            found="missing",
            expected="a metrics, history, run or efficiency file is needed",
        )
    if path.suffix == ".json":
        content = read_object(path)
        if "stated" in content and "digest" in content:
            return "protocol"
        if isinstance(content.get("cases"), list):
            return "manifest"
        return "efficiency" if "macs" in content else "runs"
    header = header_of(path)
    if {"iteration", "epochs", "parameters"} <= set(header):
        return "trajectories"
    if "epoch" in header:
        return "histories"
    if set(KEYS) <= set(header):
        columns = {"froc": "threshold", "lesions": "false_positives"}
        return next((kind for kind, name in columns.items() if name in header), "metrics")
    raise DataError(
        where=path,
        found=f"header {','.join(header[:6])}",
        expected=f"expected {', '.join(KEYS)} or epoch",
    )


def read_cases(sources: ResultFiles) -> pd.DataFrame:
    """All per-case rows: a row per preset, fold, seed, case and label, in the order of the files.

    The column ``role`` says where a preset's predictions come from (:mod:`lunet.reporting.origin`).

    Raises
    ------
    DataError
        If there are none, a key column is missing, a row occurs twice, or some files have distances
        in mm and others in px.
    """
    if not sources.metrics:
        raise DataError(where="inputs", found="no metrics.csv", expected="at least one is needed")
    frames = [_read_cases(path) for path in sources.metrics]
    _require_one_unit(frames, sources.metrics)
    cases = pd.concat(frames, ignore_index=True)
    double = cases.duplicated(KEYS)
    if double.any():
        row = cases.loc[double, KEYS].iloc[0].to_dict()
        raise DataError(
            where="metrics.csv", found=f"the row {row} occurs twice", expected="each is given once"
        )
    return with_roles(cases, read_external(sources))


def _require_one_unit(frames: Sequence[pd.DataFrame], paths: Sequence[Path]) -> None:
    named = {length_unit(frame): path for frame, path in zip(frames, paths, strict=True)}
    if len(named) > 1:
        raise DataError(
            where=named["px"],
            found=f"distances in px, but {named['mm']} has them in mm",
            expected="one unit in all files",
            action="Report images with and without a physical size apart",
        )


def _read_cases(path: Path) -> pd.DataFrame:
    needed, what = (*KEYS, "group", "status", "dice"), "a metrics.csv of `lunet evaluate`"
    frame = read_frame(path, needed=needed, texts=(*_TEXTS, "status"), what=what)
    for name in (*_TEXTS, "status"):
        empty = frame[name].isna()
        if empty.any():
            row = int(empty.idxmax()) + 2
            raise DataError(
                where=f"{path}: row {row}, column {name}",
                found="an empty cell",
                expected="a text is needed",
            )
    unknown = frame.loc[~frame["status"].isin(STATUSES), "status"]
    if len(unknown):
        row, found = int(unknown.index[0]) + 2, shown(unknown.iloc[0])
        raise DataError(
            where=f"{path}: row {row}, column status", found=found, expected=nearest("", STATUSES)
        )
    return frame


def read_lesions(paths: Sequence[Path]) -> pd.DataFrame:
    """Rows of ``lesions.csv`` or ``froc.csv`` files, in the order of the files.

    Raises
    ------
    DataError
        If there is no file, or one is not such a table.
    """
    if not paths:
        raise DataError(
            where="inputs", found="no tables of `lunet lesions`", expected="at least one is needed"
        )
    needed = (*KEYS, "group", "lesions", "found")
    what = "a table of `lunet lesions`"
    frames = [read_frame(path, needed=needed, texts=_TEXTS, what=what) for path in paths]
    return pd.concat(frames, ignore_index=True)


def read_efficiency(sources: ResultFiles) -> dict[str, dict[str, Any]]:
    """Preset -> its costs; the name comes from the file or else from its folder.

    The costs of an external row were stated (``given``), not measured. Readers have none.
    """
    costs: dict[str, dict[str, Any]] = {}
    for path in sources.efficiency:
        value: dict[str, Any] = dict(read_record(path, CostForm))
        preset = str(
            value.get("preset") or value.get("model", {}).get("preset") or path.parent.name
        )
        if preset in costs:
            raise DataError(
                where=path,
                found=f"a second file of preset {preset}",
                expected="one each is expected",
            )
        costs[preset] = value
    known = {name: cost for name, cost in costs.items() if cost.get("role") != "reader"}
    return per_volume(known)


def read_runs(sources: ResultFiles) -> list[dict[str, Any]]:
    """Provenance of all trainings; the records of external rows are left out.

    Raises
    ------
    DataError
        If settings, code or data digest differ between two runs of a preset.
    """
    return [run for run in _read_runs(sources) if not run.get("external")]


def read_external(sources: ResultFiles) -> dict[str, External]:
    """Name -> external row, from the records among the runs."""
    return external_of(_read_runs(sources))


def _read_runs(sources: ResultFiles) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = [
        {**read_record(path, RunForm), "path": path} for path in sources.runs
    ]
    first: dict[str, dict[str, Any]] = {}
    for run in runs:
        preset = str(run.get("preset") or run_key(run["path"])[0])
        run["preset"] = preset
        _check_stamp(first.setdefault(preset, run), run)
    return runs


def _check_stamp(one: dict[str, Any], other: dict[str, Any]) -> None:
    for key in ("settings", "code", "data"):
        if canonical_json(one.get(key)) != canonical_json(other.get(key)):
            raise DataError(
                where=other["path"],
                found=f"its {key} differ from {one['path']}",
                expected="all runs of a preset must be made in the same way",
                action="Run the older one again, or report them separately as variants",
            )


def run_key(path: Path) -> tuple[str, int, int]:
    """Preset, fold and seed of a file of a run, from its path."""
    match = _RUN.search(path.as_posix())
    if not match:
        raise DataError(
            where=path,
            found="is not in a run's folder",
            expected="PRESET/fold-K/seed-S/ is expected",
        )
    return match["preset"], int(match["fold"]), int(match["seed"])


def read_histories(sources: ResultFiles) -> pd.DataFrame:
    """Training histories, a row per epoch, with the additional columns preset, fold and seed."""
    if not sources.histories:
        raise DataError(where="inputs", found="no history.csv", expected="at least one is needed")
    frames = []
    for path in sources.histories:
        preset, fold, seed = run_key(path)
        frame = read_frame(path, needed=["epoch"], what="a history.csv of `lunet train`")
        frames.append(frame.assign(preset=preset, fold=fold, seed=seed))
    return pd.concat(frames, ignore_index=True)


def prediction_folders(sources: ResultFiles) -> dict[tuple[str, int, int], Path]:
    """(preset, fold, seed) -> the folder ``predictions`` next to the run's metrics.csv."""
    folders = {}
    for path in sources.metrics:
        keys = ["preset", "fold", "seed"]
        rows = _read_cases(path)[keys].drop_duplicates()
        for preset, fold, seed in rows.itertuples(index=False):
            folders[str(preset), int(fold), int(seed)] = path.parent / "predictions"
    return folders


def check_metrics(cases: pd.DataFrame, metrics: Sequence[str]) -> None:
    """Check that the per-case files have these metrics.

    Raises
    ------
    ConfigError
        If one is missing; the message lists the metrics that exist.
    """
    for metric in metrics:
        if metric not in cases:
            apart = (*KEYS, "group", "status", ROLE)
            known = [c for c in cases.columns if c not in apart]
            raise ConfigError(
                where="report.metrics",
                found=f"found {metric!r}",
                expected=f"known: {', '.join(known)}",
            )
