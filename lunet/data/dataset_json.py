"""What a data set says of itself in ``dataset.json``, without any of its images.

Standard library only: the configuration reads this before anything heavy loads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lunet.errors import DataError
from lunet.files import read_json
from lunet.task import Task

LISTING = "dataset.json"
NNUNET_RAW = "nnUNet_raw"
_IGNORE = "ignore"


def declared_task(source: str | Path, dimensions: int = 3) -> Task | None:
    """Channels, labels and regions that the data set at ``source`` declares; None if it does not.

    ``source`` is a folder with a ``dataset.json`` of the Decathlon or of nnU-Net, or an nnU-Net
    data set's number or name in ``$nnUNet_raw``.
    """
    try:
        path = locate(source) / LISTING
    except DataError:
        return None  # the download says what is missing
    if not path.is_file():
        return None
    listing = read_json(path)
    if not isinstance(listing, Mapping) or "channel_names" not in listing:
        return task_of_listing(listing if isinstance(listing, Mapping) else {}, path)
    if not isinstance(listing.get("labels"), Mapping):
        raise DataError(path, "no 'labels'", "nnU-Net's version 2 of dataset.json has a mapping")
    names = {int(index): str(name) for index, name in listing["channel_names"].items()}
    require_no_gap(names, path)
    labels, regions = nnunet_labels(listing["labels"], path)
    return Task(tuple(names[index] for index in sorted(names)), labels, regions, dimensions)


def locate(source: str | Path) -> Path:
    """The folder or file that is meant: a path, or an nnU-Net data set by its number or name.

    Raises
    ------
    DataError
        If there is no such thing.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path.absolute()
    number = re.fullmatch(r"(?:Dataset)?(\d{1,3})(_\w+)?", str(source))
    folder = os.environ.get(NNUNET_RAW)
    if number and folder:
        pattern = f"Dataset{int(number[1]):03d}{number[2] or '_*'}"
        found = sorted(Path(folder).glob(pattern))
        if len(found) == 1:
            return found[0].absolute()
        raise DataError(
            f"data set {source}",
            f"{len(found)} folders {pattern} in {folder}",
            f"${NNUNET_RAW} must hold exactly one",
        )
    advice = f"Set {NNUNET_RAW} to name nnU-Net data sets by number" if number else ""
    raise DataError(path, "does not exist", "a folder, a CSV file or an archive", advice)


def require_no_gap(numbers: Iterable[int], where: str | Path) -> None:
    """Raise :class:`DataError` unless channels are numbered 0, 1, 2, ...: files have these numbers.

    With a gap, a channel would be renumbered and read from another channel's file.
    """
    found = sorted(numbers)
    if found != list(range(len(found))):
        told = ", ".join(map(str, found))
        raise DataError(where, f"channels are numbered {told}", f"0 to {len(found) - 1}")


def nnunet_labels(
    entries: Mapping[str, Any], path: Path
) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """Class indices and, if an entry is a list, overlapping regions (then all entries are)."""
    members = {
        str(name): tuple(value) if isinstance(value, list) else (int(value),)
        for name, value in entries.items()
    }
    if _IGNORE in members:
        raise DataError(
            path,
            f"a label {_IGNORE!r} ({members[_IGNORE][0]})",
            "every voxel has a class here",
            f"Remove it from the labels and set dataset.remap={{{members[_IGNORE][0]}: 0}}",
        )
    members = {name: indices for name, indices in members.items() if indices != (0,)}
    single = {indices[0]: name for name, indices in members.items() if len(indices) == 1}
    every = sorted({index for indices in members.values() for index in indices})
    labels = {single.get(index, f"label_{index}"): index for index in every}
    has_regions = any(len(indices) > 1 for indices in members.values())
    return labels, members if has_regions else {}


def task_of_listing(listing: Mapping[str, Any], where: str | Path) -> Task:
    """Channels, labels and regions as ``dataset.json`` tells them."""
    modality: Any = listing.get("modality")
    labels: Any = listing.get("labels")
    for key, value in (("modality", modality), ("labels", labels)):
        if not isinstance(value, Mapping) or not value:
            raise DataError(where, f"no {key!r}", "a mapping such as {'0': ...} is expected")
    try:
        if all(isinstance(value, int) for value in labels.values()):
            labels = {index: name for name, index in labels.items()}  # as nnU-Net writes them
        numbered = {int(index): str(name) for index, name in labels.items()}
        require_no_gap(map(int, modality), where)
        channels = [str(modality[key]) for key in sorted(modality, key=int)]
        regions = {
            str(name): tuple(int(i) for i in members)
            for name, members in (listing.get("regions") or {}).items()
        }
    except (ValueError, TypeError) as error:
        raise DataError(where, f"labels or modality: {error}", "keys are whole numbers") from error
    foreground = {name: index for index, name in sorted(numbered.items()) if index != 0}
    return Task(tuple(channels), foreground, regions, int(listing.get("dimensions", 3)))
