"""Cross-validation folds by subject group: balanced, fixed by a seed, stored once.

The order of the groups is drawn from a hash of seed and group name, so that a split depends neither
on the order of a folder nor on the version of a random generator.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from lunet.data.settings import SplitSettings
from lunet.errors import DataError
from lunet.files import write_json
from lunet.reading import read_json, read_record, typed
from lunet.settings import Millimetres, Within

PARTS = ("train", "validation", "test")


class _FoldForm(TypedDict):
    train: list[str]
    validation: NotRequired[list[str]]
    test: list[str]


class _SplitFile(TypedDict):
    """What ``splits.json`` holds."""

    seed: NotRequired[int]
    held_out: NotRequired[list[str]]
    folds: list[_FoldForm]


class _Volume(TypedDict):
    id: str
    group: str
    labelled: bool
    foreground: NotRequired[Annotated[int, Within(0)]]
    spacing: list[Millimetres]


class _Volumes(TypedDict):
    """The part of a manifest that a split reads."""

    cases: list[_Volume]


@dataclass(frozen=True)
class SplitCase:
    """A labelled case as a split sees it; ``volume`` is its amount of foreground, in any unit."""

    id: str
    group: str
    volume: float = 0.0


@dataclass(frozen=True)
class Fold:
    """Case ids: ``validation`` selects the model, ``test`` is reported on."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """All folds of a study, and the cases that no fold sees."""

    seed: int
    held_out: tuple[str, ...]
    folds: tuple[Fold, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, the content of ``splits.json``."""
        folds = [{part: list(getattr(fold, part)) for part in PARTS} for fold in self.folds]
        return {"seed": self.seed, "held_out": list(self.held_out), "folds": folds}


def make_splits(cases: Iterable[SplitCase], settings: SplitSettings) -> Splits:
    """Divide the groups into ``settings.folds`` parts; fold k tests on part k.

    The parts are balanced: for each group size (number of cases) and each range of foreground
    volume, their numbers of groups differ by at most one. A share of the other parts' groups
    becomes the fold's validation set: at least one group, unless the share is 0.

    A single fold trains on everything that is not held out and tests on the held-out cases.

    Raises
    ------
    DataError
        If there are too few groups for the folds and for the validation and held-out shares.
    """
    groups = by_group(cases)
    key = str(settings.seed)
    ranked = _ranked(groups, key)
    held_out = _pick(ranked, settings.held_out, f"{key}:held out")
    left = [name for name in ranked if name not in held_out]
    if settings.folds == 1:
        return Splits(settings.seed, (), (_everything(groups, left, held_out, settings),))
    _check_enough(len(left), len(groups), settings)
    parts = _deal(left, settings.folds, f"{key}:parts")
    folds = []
    for index, tested in enumerate(parts):
        others = [name for name in left if name not in tested]
        train, validation = shared(groups, others, settings, index)
        folds.append(
            Fold(_cases(groups, train), _cases(groups, validation), _cases(groups, tested))
        )
    return Splits(settings.seed, _cases(groups, held_out), tuple(folds))


def _everything(
    groups: Mapping[str, Sequence[SplitCase]],
    left: Sequence[str],
    tested: Iterable[str],
    settings: SplitSettings,
) -> Fold:
    """The fold that trains on all groups ``left``.

    Without a share for validation, the training cases also select the model, as in nnU-Net's
    fold `all`.
    """
    train, validation = (_cases(groups, part) for part in shared(groups, left, settings, 0))
    if not train:
        raise DataError(
            where="split",
            found=f"{len(groups)} subject groups",
            expected="at least one to train on",
        )
    return Fold(train, validation or train, _cases(groups, tested))


def shared(
    groups: Mapping[str, Sequence[SplitCase]],
    names: Iterable[str],
    settings: SplitSettings,
    fold: int,
) -> tuple[list[str], list[str]]:
    """Divide groups into training and validation groups, by the share ``settings.validation``."""
    key = str(settings.seed)
    wanted = set(names)
    ranked = [name for name in _ranked(groups, key) if name in wanted]
    validation = _pick(ranked, settings.validation, f"{key}:fold {fold}")
    return [name for name in ranked if name not in validation], sorted(validation)


def by_group(cases: Iterable[SplitCase]) -> dict[str, list[SplitCase]]:
    """Subject group -> its cases."""
    groups: dict[str, list[SplitCase]] = defaultdict(list)
    for case in cases:
        groups[case.group].append(case)
    return groups


def _ranked(groups: Mapping[str, Sequence[SplitCase]], key: str) -> list[str]:
    """Group names by number of cases, then by mean volume; ties in an order drawn from ``key``."""

    def rank(name: str) -> tuple[int, float, str]:
        members = groups[name]
        return len(members), sum(case.volume for case in members) / len(members), _draw(key, name)

    return sorted(groups, key=rank)


def _deal(ranked: Sequence[str], count: int, key: str) -> list[set[str]]:
    """Divide ranked names into ``count`` parts: of each ``count`` neighbours, one to each part."""
    parts: list[set[str]] = [set() for _ in range(count)]
    for start in range(0, len(ranked), count):
        block = sorted(ranked[start : start + count], key=lambda name: _draw(key, name))
        # the parts that get the names of a short last block are drawn, too
        places = sorted(range(count), key=lambda part: _draw(f"{key}:{block[0]}", str(part)))
        for place, name in zip(places, block, strict=False):
            parts[place].add(name)
    return parts


def _pick(ranked: Sequence[str], share: float, key: str) -> set[str]:
    """Pick a share of ranked names, one from each of equally long stretches; none for share 0."""
    if share == 0 or not ranked:
        return set()
    count = max(1, round(share * len(ranked)))
    edges = [len(ranked) * index // count for index in range(count + 1)]
    stretches = [ranked[low:high] for low, high in itertools.pairwise(edges)]
    return {min(names, key=lambda name: _draw(key, name)) for names in stretches}


def _cases(groups: Mapping[str, Sequence[SplitCase]], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(case.id for name in names for case in groups[name]))


def _check_enough(left: int, total: int, settings: SplitSettings) -> None:
    """Refuse a split in which some part would be empty."""
    largest_part = -(-left // settings.folds)
    others = left - largest_part
    validation = max(1, round(settings.validation * others)) if settings.validation else 0
    if left < settings.folds or others - validation < 1:
        raise DataError(
            where="split",
            found=f"{total} subject groups, {left} of them not held out",
            expected=f"{settings.folds} folds each need a group to test, one to train"
            + (" and one to validate on" if settings.validation else ""),
            action="Use fewer folds, smaller shares, or more subjects",
        )


def _draw(key: str, name: str) -> str:
    return hashlib.sha256(f"{key}:{name}".encode()).hexdigest()


def read_cases(manifest: str | Path) -> list[SplitCase]:
    """The labelled cases of a prepared data set's ``manifest.json``.

    Their volume is the volume of the foreground in mm3 (in 2D: mm2).

    Raises
    ------
    DataError
        If the file is not a manifest, or no case is labelled.
    """
    cases = []
    for case in read_record(manifest, _Volumes)["cases"]:
        if case["labelled"]:
            if "foreground" not in case:
                found = f"case {case['id']} has no 'foreground'"
                raise DataError(
                    where=manifest, found=found, expected="a manifest of `lunet preprocess`"
                )
            volume = case["foreground"] * math.prod(case["spacing"])
            cases.append(SplitCase(case["id"], case["group"], volume))
    if not cases:
        raise DataError(
            where=manifest, found="no labelled case", expected="folds need labelled cases"
        )
    return cases


def read_splits(path: str | Path) -> Splits:
    """Read a split file: ``{"seed", "held_out", "folds": [{"train", "validation", "test"}]}``.

    ``seed``, ``held_out`` and ``validation`` may be missing in the user's own file.

    Raises
    ------
    DataError
        If the file is missing or malformed.
    """
    return splits_of(read_json(path), path)


def splits_of(content: Any, path: str | Path) -> Splits:
    """The splits that the content of a split file describes; ``path`` is named in messages."""
    found = typed(content, _SplitFile, path)
    folds = tuple(
        Fold(tuple(fold["train"]), tuple(fold.get("validation", ())), tuple(fold["test"]))
        for fold in found["folds"]
    )
    return Splits(found.get("seed", 0), tuple(found.get("held_out", ())), folds)


def write_splits(path: str | Path, splits: Splits) -> None:
    """Write ``splits.json`` atomically."""
    write_json(path, splits.as_dict())
