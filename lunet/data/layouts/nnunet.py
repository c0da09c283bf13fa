"""nnU-Net v2 raw data: ``imagesTr/<case>_0000.nii.gz``, ``labelsTr/<case>.nii.gz``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from lunet.data.dataset import LISTING, Case, Dataset
from lunet.data.dataset_json import is_nnunet, nnunet_task
from lunet.data.io.images import PICTURES, is_hidden
from lunet.data.layouts.task import chosen_groups, chosen_rule, chosen_task
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.reading import read_object, typed

LOOKS_FOR = "dataset.json with `channel_names` and `file_ending`, imagesTr/<case>_0000.<ending>"


class _Pair(TypedDict):
    images: list[str]
    label: str


class _Files(TypedDict):
    """The entries of nnU-Net's ``dataset.json`` that locate the cases."""

    file_ending: str
    numTraining: NotRequired[int]
    dataset: NotRequired[dict[str, _Pair]]


def matches(root: Path) -> bool:
    """Whether ``root`` has this layout."""
    path = root / LISTING
    return path.is_file() and is_nnunet(read_object(path))


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read cases by the files in the folders, or by the listing's own ``dataset`` mapping."""
    path = root / LISTING
    listing = read_object(path)
    files = typed(listing, _Files, path)
    ending = files["file_ending"]
    task = nnunet_task(listing, path, 2 if ending.lower() in PICTURES else settings.dimensions)
    cases = [*_training(root, files, len(task.channels))]
    _check_count(path, files, cases)
    cases += _folder(root, "imagesTs", ending, len(task.channels))
    dataset = Dataset(
        root=root,
        name=str(listing.get("name") or root.name),
        task=task,
        cases=chosen_groups(cases, settings),
        rule=chosen_rule(settings),
    )
    return chosen_task(dataset, settings)


def _training(root: Path, listing: _Files, channels: int) -> Iterator[Case]:
    if "dataset" not in listing:
        yield from _folder(root, "imagesTr", listing["file_ending"], channels)
        return
    for name, files in listing["dataset"].items():
        images = tuple(root / file for file in files["images"])
        yield Case(name, images, root / files["label"], name)


def _check_count(path: Path, listing: _Files, cases: Sequence[Case]) -> None:
    """Check that there are as many training cases as the listing declares, so that none was lost.

    Raises
    ------
    DataError
        If there are fewer or more.
    """
    declared = listing.get("numTraining")
    if declared is not None and declared != len(cases):
        raise DataError(
            where=f"{path}: numTraining",
            found=f"{declared}, but {len(cases)} training cases were found",
            expected="both must be the same",
            action="Fetch or unpack the data set again, or correct the number",
        )


def _folder(root: Path, folder: str, ending: str, channels: int) -> Iterator[Case]:
    """Cases by the files of one folder, each with all its channels."""
    place = root / folder
    if not place.is_dir():
        if folder == "imagesTr":
            raise DataError(
                where=place, found="missing", expected="nnU-Net keeps its training images there"
            )
        return
    files = sorted(path for path in place.glob(f"*{ending}") if not is_hidden(path))
    names = {path.name[: -len(ending)] for path in files}
    for name in sorted({stem[:-5] for stem in names if _is_channel(stem)}):
        images = []
        for index in range(channels):
            stem = f"{name}_{index:04d}"
            if stem not in names:
                raise DataError(
                    where=place / f"{stem}{ending}",
                    found=f"subject {name} has no channel {index}",
                    expected=f"{channels} channels are declared",
                    action="Add the file, or remove the subject",
                )
            images.append(place / f"{stem}{ending}")
        label = root / folder.replace("images", "labels") / f"{name}{ending}"
        part = "training" if folder == "imagesTr" else "test"
        yield Case(name, tuple(images), label if os.path.lexists(label) else None, name, part)
    odd = sorted(stem for stem in names if not _is_channel(stem))
    if odd:
        raise DataError(
            where=place / f"{odd[0]}{ending}",
            found="no channel number",
            expected=f"<case>_0000{ending}",
            action="Rename it",
        )


def _is_channel(stem: str) -> bool:
    return len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdecimal()
