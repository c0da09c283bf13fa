"""Reads a data set's description of itself, ``dataset.json``, without opening any image.

Standard library only: the configuration reads this before anything heavy loads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from lunet.errors import DataError, shown
from lunet.reading import read_object, typed, wrong_in
from lunet.task import ClassIndex, Task

LISTING = "dataset.json"
NNUNET_RAW = "nnUNet_raw"
_IGNORE = "ignore"
_Item = TypeVar("_Item")


class _Declared(TypedDict):
    """The task in the Decathlon's ``dataset.json``."""

    modality: dict[str, str]
    labels: dict[str, str | int]
    regions: NotRequired[dict[str, list[ClassIndex]] | None]
    dimensions: NotRequired[Literal[2, 3]]


class _NnunetDeclared(TypedDict):
    """The task in nnU-Net's ``dataset.json``."""

    channel_names: dict[str, str]
    labels: dict[str, int | list[ClassIndex]]


def by_number(items: Mapping[str, _Item], where: object) -> dict[int, _Item]:
    """Convert the keys of a JSON mapping (whole numbers in quotes) to integers and sort by them.

    Raises
    ------
    DataError
        If a key is not a whole number, or two keys are the same number.
    """
    wrong = [key for key in items if not re.fullmatch(r"-?[0-9]{1,9}", key.strip())]
    if wrong:
        raise DataError(
            where=where,
            found=f"found {shown(wrong[0])}",
            expected="whole numbers in quotes are expected",
        )
    found = {int(key): item for key, item in items.items()}
    if len(found) < len(items):
        raise DataError(
            where=where, found=f"keys {shown(list(items))}", expected="each number once"
        )
    return dict(sorted(found.items()))


def declared_task(source: str | Path, dimensions: int = 3) -> Task | None:
    """Channels, labels and regions that the data set at ``source`` declares; else None.

    ``source`` is a folder with a ``dataset.json`` of the Decathlon or of nnU-Net, or an nnU-Net
    data set's number or name in ``$nnUNet_raw``.
    """
    try:
        path = locate(source) / LISTING
    except DataError:
        return None  # the download reports what is missing
    if not path.is_file():
        return None
    listing = read_object(path)
    return (
        nnunet_task(listing, path, dimensions)
        if is_nnunet(listing)
        else task_of_listing(listing, path)
    )


def is_nnunet(listing: Mapping[str, Any]) -> bool:
    """Whether a ``dataset.json`` has the form of nnU-Net, version 2."""
    return "channel_names" in listing


def nnunet_task(listing: Mapping[str, Any], where: Path, dimensions: int) -> Task:
    """Channels, labels and regions from nnU-Net's ``dataset.json``.

    Raises
    ------
    DataError
        If ``channel_names`` or ``labels`` are missing or malformed.
    """
    declared = typed(listing, _NnunetDeclared, where)
    names = by_number(declared["channel_names"], f"{where}: channel_names")
    require_no_gap(names, where)
    labels, regions = nnunet_labels(declared["labels"], where)
    with wrong_in(where):
        return Task(tuple(names.values()), labels, regions, dimensions)


def locate(source: str | Path) -> Path:
    """The absolute path of a data set, given as a path or as an nnU-Net number or name.

    ``~`` and variables of the environment (``$SCRATCH``) are put in, unless a file is named so.

    Raises
    ------
    DataError
        If no such path or data set exists.
    """
    path = Path(os.path.expanduser(source))
    if not path.exists():
        path = Path(os.path.expanduser(os.path.expandvars(source)))
    if path.exists():
        return _without_steps_up(path)
    number = re.fullmatch(r"(?:Dataset)?(\d{1,3})(_\w+)?", str(source))
    folder = os.environ.get(NNUNET_RAW)
    if number and folder:
        pattern = f"Dataset{int(number[1]):03d}{number[2] or '_*'}"
        found = sorted(Path(folder).glob(pattern))
        if len(found) == 1:
            return found[0].absolute()
        raise DataError(
            where=f"data set {source}",
            found=f"{len(found)} folders {pattern} in {folder}",
            expected=f"${NNUNET_RAW} must hold exactly one",
        )
    advice = f"Set {NNUNET_RAW} to name nnU-Net data sets by number" if number else ""
    if variable := re.search(r"\$(\w+)|\$\{(\w+)\}", str(path)):
        advice = f"Set the variable {variable[1] or variable[2]}, or name the folder itself"
    raise DataError(
        where=path,
        found="does not exist",
        expected="a folder, a CSV file or an archive",
        action=advice,
    )


def _without_steps_up(path: Path) -> Path:
    """The absolute path without ``..``; links are only followed where they change its meaning."""
    plain = Path(os.path.normpath(path.absolute()))
    return plain if plain.exists() and plain.samefile(path) else path.resolve()


def require_no_gap(numbers: Iterable[int], where: str | Path) -> None:
    """Raise :class:`DataError` unless channels are numbered 0, 1, 2, ...: files have these numbers.

    With a gap, a channel would be renumbered and read from another channel's file.
    """
    found = sorted(numbers)
    if found != list(range(len(found))):
        listed = ", ".join(map(str, found))
        raise DataError(
            where=where, found=f"channels are numbered {listed}", expected=f"0 to {len(found) - 1}"
        )


def nnunet_labels(
    entries: Mapping[str, Any], path: Path
) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Class indices; and if any entry is a list, the overlapping regions, one per entry."""
    members = {
        str(name): tuple(value) if isinstance(value, list) else (value,)
        for name, value in entries.items()
    }
    if _IGNORE in members:
        raise DataError(
            where=path,
            found=f"a label {_IGNORE!r} ({members[_IGNORE][0]})",
            expected="every voxel has a class here",
            action=f"Remove it from the labels and set dataset.remap={{{members[_IGNORE][0]}: 0}}",
        )
    members = {name: indices for name, indices in members.items() if indices != (0,)}
    single = {indices[0]: name for name, indices in members.items() if len(indices) == 1}
    every = sorted({index for indices in members.values() for index in indices})
    labels = {single.get(index, f"label_{index}"): index for index in every}
    has_regions = any(len(indices) > 1 for indices in members.values())
    return labels, members if has_regions else {}


def task_of_listing(listing: Mapping[str, Any], where: str | Path) -> Task:
    """Channels, labels and regions from the Decathlon's ``dataset.json``."""
    declared = typed(listing, _Declared, where)
    labels = declared["labels"]
    if all(isinstance(index, int) for index in labels.values()):
        # as nnU-Net writes them
        named = {str(name): int(index) for name, index in labels.items()}
    else:
        numbered = by_number(labels, f"{where}: labels")
        named = {str(name): index for index, name in numbered.items()}
        if len(named) < len(numbered):
            raise DataError(
                where=f"{where}: labels", found=f"{shown(labels)}", expected="each name once"
            )
    foreground = {name: index for name, index in named.items() if index != 0}
    channels = by_number(declared["modality"], f"{where}: modality")
    require_no_gap(channels, where)
    regions = {name: tuple(members) for name, members in (declared.get("regions") or {}).items()}
    with wrong_in(where):
        return Task(tuple(channels.values()), foreground, regions, declared.get("dimensions", 3))
