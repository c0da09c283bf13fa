"""Finds the predictions of an external row: a folder of label files, or nnU-Net's results."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from lunet.data.dataset_json import LISTING, declared_task
from lunet.errors import DataError
from lunet.evaluation.evaluation import label_files
from lunet.evaluation.external_settings import ExternalSettings
from lunet.evaluation.pairs import some
from lunet.files import sha256
from lunet.reading import read_json, typed
from lunet.task import Task

SPLITS = "splits_final.json"
TRAINING = "training.json"
"""Written next to the predictions of a rival, which this study has trained."""


class _Fold(TypedDict):
    train: list[str]
    val: list[str]


@dataclass(frozen=True)
class Source:
    """The predictions of one external row for one fold.

    Attributes
    ----------
    name
        Name of the row.
    folder
        Folder of the label files.
    files
        Case -> label file.
    others
        With nnU-Net's layout: case -> its label file in another fold.
    splits
        nnU-Net's ``splits_final.json``, if there is one.
    declared
        What the ``dataset.json`` next to the predictions declares, if there is one.
    """

    name: str
    folder: Path
    files: dict[str, Path]
    others: dict[str, Path]
    splits: Path | None
    declared: Task | None


def find_source(settings: ExternalSettings, name: str, fold: int) -> Source:
    """The predictions of an external row for a fold.

    Raises
    ------
    DataError
        If a folder is missing or has no label files, a case has two predictions, or the file
        ``splits`` does not exist.
    """
    root = _root(settings, name)
    if settings.layout == "folder":
        files = _label_files(root, f"external.{name}.predictions")
        return Source(name, root, files, {}, None, _declared(root))
    folder = _validation(root, name, fold)
    files = _label_files(folder, f"external.{name}.predictions, fold {fold}")
    others: dict[str, Path] = {}
    for path in sorted(root.glob("fold_[0-9]*/validation")):
        if path != folder:
            others |= label_files(path)
    _refuse_twice(files, others)
    return Source(name, folder, files, others, _splits(settings, name, root), _declared(root))


def check_split(source: Source, fold: int, tested: Sequence[str]) -> None:
    """Refuse test cases of the fold whose prediction comes from a model that trained on them.

    Parameters
    ----------
    source
        The predictions; without ``splits``, only cases that another fold predicted are noticed.
    fold
        Number of the fold, in the study and in nnU-Net.
    tested
        The study's test cases of the fold.

    Raises
    ------
    DataError
        If nnU-Net's fold trained on a test case, or has another number of folds; the message
        names the first such case.
    """
    trained = _trained_on(source.splits, fold) if source.splits else set()
    advice = f"Give the study nnU-Net's folds (split.file: {source.splits or SPLITS})"
    for case in tested:
        if case in trained and case in source.files:
            raise DataError(
                where=source.files[case],
                found=f"case {case} was predicted by a model that trained on it: it is in `train` "
                f"of fold {fold} of {source.splits}",
                expected="a test case may not have been trained on",
                action=f"{advice}, or leave the row {source.name} out",
            )
    for case in tested:
        elsewhere = source.others.get(case) if case not in source.files else None
        if case in trained or elsewhere is not None:
            raise DataError(
                where=source.splits or elsewhere,
                found=f"nnU-Net's split differs: the study tests case {case} in fold {fold}, "
                f"nnU-Net's model of fold {fold} trained on it",
                expected=f"the folds of the row {source.name} and of the study must be the same",
                action=advice,
            )


def source_digest(
    settings: ExternalSettings, name: str, fold: int, tested: Sequence[str] | None
) -> str:
    """Digest of the files that a fold of an external row is made from.

    Parameters
    ----------
    settings, name, fold
        The row and the fold.
    tested
        Test cases of the fold, whose predictions count; None for all files of the fold's folder.

    Returns
    -------
    16 hexadecimal digits; an empty text if the predictions are not there, which the step reports.
    """
    try:
        source = find_source(settings, name, fold)
    except DataError:
        return ""
    names = sorted(source.files) if tested is None else sorted({*tested} & {*source.files})
    lines = [f"{case} {_content(source.files[case])}" for case in names]
    lines += [f"{SPLITS} {_content(source.splits)}"] if source.splits else []
    lines += [str(source.declared.as_dict())] if source.declared else []
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _content(path: Path) -> str:
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@functools.cache
def _digest(path: Path, size: int, time: int) -> str:
    del size, time  # the same file is not read twice while these do not change
    return sha256(path)


def _root(settings: ExternalSettings, name: str) -> Path:
    path = _expanded(settings.predictions)
    if not path.is_dir():
        raise DataError(
            where=f"external.{name}.predictions",
            found=f"{path} is not a folder" if path.exists() else f"{path} does not exist",
            expected="a folder of predictions is needed",
            action="Correct the path",
        )
    return path


def _expanded(path: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(path))).absolute()


def _label_files(folder: Path, where: str) -> dict[str, Path]:
    files = label_files(folder)
    if not files:
        raise DataError(
            where=where,
            found=f"{folder} holds no label files",
            expected="a file per case is needed: <case>.nii.gz, or NRRD, MHA, PNG",
            action="Predict again, or name another folder",
        )
    return files


def _validation(root: Path, name: str, fold: int) -> Path:
    """The folder ``fold_K/validation``."""
    folder = root / f"fold_{fold}" / "validation"
    if folder.is_dir():
        return folder
    where = f"external.{name}.predictions"
    inside = sorted(path.parent for path in root.glob("*/fold_*") if path.is_dir())
    if not any(root.glob("fold_*")) and inside:
        raise DataError(
            where=where,
            found=f"{root} has no fold_{fold}, but {inside[0].name} inside it has folds",
            expected="the folder of one training is needed",
            action=f"Name {inside[0]}",
        )
    folds = sorted(path.name for path in root.glob("fold_*") if path.is_dir())
    if folds == ["fold_all"]:
        raise DataError(
            where=where,
            found=f"{root} has only fold_all, whose model trained on every case",
            expected=f"fold_{fold}/validation is needed",
            action="Train nnU-Net on the folds of the study",
        )
    raise DataError(
        where=where,
        found=f"{folder} does not exist ({some(folds) if folds else 'there are no folds'})",
        expected="each fold of the study needs the predictions of nnU-Net's fold",
        action=f"Train nnU-Net's fold {fold}, or leave fold {fold} out of `folds`",
    )


def _refuse_twice(files: dict[str, Path], others: dict[str, Path]) -> None:
    for case in files:
        if case in others:
            raise DataError(
                where=files[case],
                found=f"case {case} is predicted twice, also in {others[case]}",
                expected="one prediction per case",
                action="Remove the one of the model that trained on the case",
            )


def _splits(settings: ExternalSettings, name: str, root: Path) -> Path | None:
    """nnU-Net's split: the given file, else the first one in the places where nnU-Net keeps it."""
    if settings.splits is not None:
        path = _expanded(settings.splits)
        if not path.is_file():
            raise DataError(
                where=f"external.{name}.splits",
                found=f"{path} does not exist",
                expected=f"nnU-Net's {SPLITS} is needed",
                action="Correct the path, or leave the key out",
            )
        return path
    preprocessed = root.parent.parent.parent / "nnUNet_preprocessed" / root.parent.name
    places = [folder / SPLITS for folder in (root, root.parent, preprocessed)]
    return next((path for path in places if path.is_file()), None)


def _trained_on(path: Path, fold: int) -> set[str]:
    folds = typed(read_json(path), list[_Fold], path)
    if fold >= len(folds):
        raise DataError(
            where=path,
            found=f"{len(folds)} folds",
            expected=f"the study has a fold {fold}",
            action=f"Give the study nnU-Net's folds (split.file: {path})",
        )
    return set(folds[fold]["train"])


def _declared(folder: Path) -> Task | None:
    return declared_task(folder) if (folder / LISTING).is_file() else None
