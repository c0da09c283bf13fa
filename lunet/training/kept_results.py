"""Finished results are kept next to the resume state, so that a retry need not train again.

Snakemake removes every output of a job that failed: in a job of several runs also the outputs of
the runs that were finished, and the outputs of a finished training that the file system of a
cluster showed too late. A retry of the job finds them here and uses them. When Snakemake ends, what
is kept of results in their place is removed (:func:`forget`), so that a training that is asked for
again is done again. When it starts or was stopped, a job may still be running, so only what is kept
of runs that are predicted as well is removed.

The same holds for prunings, and for predictions that were made right after a training
(:mod:`lunet.inference.ahead`).

Copies are hard links where the file system allows it: they need no space, and no step writes into
an existing file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lunet.errors import DataError, TrainingError
from lunet.files import atomic, identity, sha256, write_json
from lunet.leftovers import staged
from lunet.locks import owned
from lunet.own_files import claim
from lunet.reading import read_record

FOLDER, PREDICTED = "finished", "predicted"
"""Folders below that of the resume state: results of the training, and predictions."""
_LIST = "kept.json"
_LAST = {FOLDER: "run.json", PREDICTED: "predictions/predictions.json"}
"""The file of a run that is in its place if all that is kept in the folder is."""
_RUNS = ("runs/*/fold-*/seed-*", "pruning/*/*/fold-*/seed-*")
_SHOWN = ("history.csv",)


@dataclass(frozen=True)
class _Kept:
    """What the folder holds: for which training, and the digest of each file."""

    stamp: str
    files: dict[str, str]


def keep(out: Path, work: Path, names: Sequence[str], *, stamp: str, kind: str = FOLDER) -> None:
    """Keep the results of a step, all or none of them.

    Parameters
    ----------
    out, work
        Folders of the results and of the resume state.
    names
        Files relative to ``out``; those that do not exist are left out.
    stamp
        Identifies settings, code and data of the step.
    kind
        The folder below ``work`` that keeps them.
    """
    found = [name for name in names if (out / name).is_file()]
    folder = work / kind
    with staged(folder) as stage:
        for name in found:
            _place(out / name, stage / name)
        digests = {name: sha256(stage / name) for name in found}
        write_json(stage / _LIST, {"stamp": stamp, "files": digests})
        discard(work, kind)
        os.rename(stage, folder)


def withdraw(out: Path, names: Sequence[str]) -> None:
    """Remove results that are kept from ``out``, but for the history, which `lunet watch` shows."""
    for name in names:
        if name not in _SHOWN:
            (out / name).unlink(missing_ok=True)


def is_kept(work: Path, *, stamp: str, log: Callable[[str], None], kind: str = FOLDER) -> bool:
    """Whether intact results of the step with this stamp are kept.

    ``log`` gets a line if others are; they are left in place until new ones replace them.
    """
    folder = work / kind
    if not (folder / _LIST).is_file():
        return False
    try:
        kept = read_record(folder / _LIST, _Kept)
        damaged = [name for name, digest in kept.files.items() if _digest(folder / name) != digest]
    except DataError as error:
        log(f"{error}; the results that are kept there are not used")
        return False
    if damaged:
        log(f"{folder}: {', '.join(damaged)} is damaged; the results kept there are not used")
    elif kept.stamp != stamp:
        log(f"{folder}: made with other settings, code or data; the results are not used")
    return not damaged and kept.stamp == stamp


def _digest(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def kept_files(work: Path, kind: str = FOLDER) -> list[str]:
    """Names of the results that are kept."""
    return list(read_record(work / kind / _LIST, _Kept).files)


def bring_back(work: Path, out: Path, kind: str = FOLDER) -> None:
    """Put kept results into ``out``, whose files the caller has claimed."""
    for name in kept_files(work, kind):
        _place(work / kind / name, out / name)


def release(work: Path, out: Path) -> None:
    """Put the kept results of a run that has waited for others into ``out``.

    Raises
    ------
    TrainingError
        If no results are kept.
    ConfigError
        If ``out`` holds a file of the same name that training did not write.
    """
    if not (work / FOLDER / _LIST).is_file():
        raise TrainingError(
            where=work / FOLDER,
            found="is missing",
            expected="the results of the finished run are expected there",
            action="Start again; the run is trained again",
        )
    with owned(work), claim(out, kept_files(work), step="train"):
        bring_back(work, out)


def discard(work: Path, kind: str = FOLDER) -> None:
    """Remove what is kept of a step, if anything."""
    if (work / kind).is_dir():
        shutil.rmtree(work / kind)


def forget(work: Path, results: Path, *, may_run: bool = False) -> None:
    """Remove what is kept of each run whose results are in their place.

    Parameters
    ----------
    work, results
        Folders of a study.
    may_run
        Whether jobs may still be running. A training's results are then kept until its predictions
        are there as well: the job may fail before, and Snakemake would remove the results.
    """
    for kind, last in _LAST.items():
        last = _LAST[PREDICTED] if may_run else last
        folders = (folder for runs in _RUNS for folder in sorted(work.glob(f"{runs}/{kind}")))
        for run in (folder.parent for folder in folders):
            if (results / run.relative_to(work) / last).is_file():
                discard(run, kind)
                if not any(run.iterdir()):
                    run.rmdir()


def _place(source: Path, target: Path) -> None:
    """Make ``target`` the same file as ``source``, or a copy on a file system without links."""
    if identity(source) == identity(target):
        return
    with atomic(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copy2(source, part)
