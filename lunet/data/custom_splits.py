"""Reads the user's own split file, in one of two forms, and checks it against the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lunet.data.folds import PARTS, Fold, SplitCase, Splits, by_group, shared, splits_of
from lunet.data.settings import SplitSettings
from lunet.errors import ConfigError, DataError
from lunet.reading import read_json


def own_splits(path: str | Path, cases: Iterable[SplitCase], settings: SplitSettings) -> Splits:
    """Read the user's own split file and check it against the cases.

    The file has the form of ``splits.json`` or of nnU-Net's ``splits_final.json``: a list of
    ``train`` and ``val``, where ``val`` are the cases that results are reported on. A fold without
    validation cases gets some: the share ``settings.validation`` of its training groups, drawn
    with ``settings.seed``.

    Raises
    ------
    ConfigError
        If its number of folds differs from ``settings.folds``.
    DataError
        If a part is empty, names unknown cases or has another number of cases than
        ``settings.counts``, a fold names a case twice, or a subject group has cases in more than
        one of the parts training, validation, test and held out.
    """
    splits = splits_of(_project_form(read_json(path)), path)
    if len(splits.folds) != settings.folds:
        raise ConfigError(
            where="split.folds",
            found=f"found {settings.folds}",
            expected=f"{path} has {len(splits.folds)} folds",
        )
    known = list(cases)
    group_of = {case.id: case.group for case in known}
    for index, fold in enumerate(splits.folds):
        where = f"{path}, fold {index}"
        parts = {part: getattr(fold, part) for part in PARTS} | {"held_out": splits.held_out}
        for part in ("train", "test"):
            if not parts[part]:
                raise DataError(
                    where=where,
                    found=f"{part!r} is empty",
                    expected="at least one case is expected",
                )
        _check_counts(where, parts, settings.counts)
        _check_known(where, parts, group_of)
        _check_leak(where, parts, group_of)
    folds = (_validated(fold, known, settings, k) for k, fold in enumerate(splits.folds))
    return Splits(splits.seed, splits.held_out, tuple(folds))


def unused_cases(splits: Splits, cases: Iterable[SplitCase]) -> list[str]:
    """Labelled cases that no part of any fold names."""
    named = {*splits.held_out}
    named |= {case for fold in splits.folds for part in PARTS for case in getattr(fold, part)}
    return sorted(case.id for case in cases if case.id not in named)


def all_of(splits: Splits) -> Splits:
    """One fold that trains, and selects its model, on every case that is not held out."""
    named = {case for fold in splits.folds for part in PARTS for case in getattr(fold, part)}
    cases = tuple(sorted(named - set(splits.held_out)))
    return Splits(splits.seed, splits.held_out, (Fold(cases, cases, ()),))


def _project_form(content: Any) -> Any:
    """Turn nnU-Net's list of ``train`` and ``val`` into the project's form; keep anything else."""
    is_nnunet = isinstance(content, list) and all(
        isinstance(fold, Mapping) and {"train", "val"} <= set(fold) for fold in content
    )
    if not is_nnunet or not content:
        return content
    return {"folds": [{"train": fold["train"], "test": fold["val"]} for fold in content]}


def _validated(fold: Fold, cases: list[SplitCase], settings: SplitSettings, index: int) -> Fold:
    """The fold; if it has no validation cases, some are taken from its training cases."""
    if fold.validation or settings.validation == 0:
        return fold
    groups = by_group(case for case in cases if case.id in set(fold.train))
    train, validation = shared(groups, groups, settings, index)
    if not train:
        raise DataError(
            where=f"split, fold {index}",
            found=f"{len(groups)} subject group(s) to train on, none of them for validation",
            expected="two are needed, one of them for validation",
            action="Name validation cases in the file",
        )
    ids = [
        tuple(sorted(c.id for name in names for c in groups[name])) for names in (train, validation)
    ]
    return Fold(ids[0], ids[1], fold.test)


def _check_counts(
    where: str, parts: Mapping[str, Sequence[str]], counts: Mapping[str, int]
) -> None:
    for part, wanted in counts.items():
        if part not in parts:
            raise ConfigError(
                where="split.counts",
                found=f"found {part!r}",
                expected=f"parts are {', '.join(parts)}",
            )
        if len(parts[part]) != wanted:
            raise DataError(
                where=where,
                found=f"{len(parts[part])} cases in {part!r}",
                expected=f"split.counts expects {wanted}",
                action="Use the file that the counts describe, or correct the counts",
            )


def _check_known(
    where: str, parts: Mapping[str, Sequence[str]], group_of: Mapping[str, str]
) -> None:
    listed = [case for cases in parts.values() for case in cases]
    unknown = sorted(set(listed) - set(group_of))
    if unknown:
        raise DataError(
            where=where,
            found=f"unknown or unlabelled cases {_some(unknown)}",
            expected=f"the labelled cases are {_some(sorted(group_of))}",
        )
    twice = sorted({case for case in listed if listed.count(case) > 1})
    if twice:
        raise DataError(
            where=where, found=f"named more than once: {_some(twice)}", expected="once is expected"
        )


def _check_leak(
    where: str, parts: Mapping[str, Sequence[str]], group_of: Mapping[str, str]
) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for part, cases in parts.items():
        for case in cases:
            group = group_of[case]
            other_part, other = seen.setdefault(group, (part, case))
            if other_part != part:
                raise DataError(
                    where=where,
                    found=(
                        f"group {group!r} leaks: {other!r} is in {other_part}, {case!r} in {part}"
                    ),
                    expected="all cases of a subject group must be in the same part",
                )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
