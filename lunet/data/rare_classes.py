"""Finds classes that a fold cannot learn or test because its training or test part lacks them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lunet.data.folds import Splits
from lunet.data.prepared import Manifest, read_manifest


def missing_classes(manifest: str | Path, splits: Splits) -> list[str]:
    """One warning per class and kind of part (training, test) if a fold has no case of the class.

    Parameters
    ----------
    manifest
        ``manifest.json`` of the prepared data set.
    splits
        Its folds.

    Raises
    ------
    DataError
        If the file is not a manifest.
    """
    prepared = read_manifest(manifest)
    return [
        line
        for name, index in prepared.task.labels.items()
        for line in _lines(f"{name} ({index})", _holders(prepared, index), splits)
    ]


def _holders(manifest: Manifest, index: int) -> set[str]:
    """Labelled cases that have a voxel of the class."""
    return {
        case.id
        for case in manifest.cases.values()
        if case.labelled and case.record["voxels"].get(str(index))
    }


def _lines(name: str, holders: set[str], splits: Splits) -> Iterator[str]:
    for part, kind in (("train", "training"), ("test", "test")):
        lacking = [
            str(number)
            for number, fold in enumerate(splits.folds)
            if not _some(holders, getattr(fold, part))
        ]
        if lacking:
            few = ", ".join(sorted(holders)[:3]) + (", ..." if len(holders) > 3 else "")
            where = f"{len(holders)} case(s) have it: {few}" if holders else "no case has it"
            folds = f"fold{'s' * (len(lacking) > 1)} {', '.join(lacking)}"
            yield f"warning: no {kind} case of {folds} has {name}; {where}"


def _some(holders: set[str], part: Iterable[str]) -> bool:
    return not holders.isdisjoint(part)
