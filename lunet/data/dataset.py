"""Reads a data set in the project's layout, the layout of the Medical Segmentation Decathlon.

``dataset.json`` lists the cases one by one, so that a missing file can never pair images with the
wrong labels. Beyond the Decathlon's keys it may hold ``dimensions``, ``regions``, ``pixel_mm`` (of
pictures; null if it is not known), ``remap`` (value in the label files -> class
index), ``codes`` (all values that label files may hold), ``mask_threshold`` (soft or lossy masks),
and per case ``id`` and ``group``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from lunet.data.catalog import entry_of, remap_of
from lunet.data.dataset_json import LISTING, by_number, task_of_listing
from lunet.data.ids import require_different, require_id
from lunet.data.io.images import LabelRule, PixelSize, is_hidden, is_picture, stem_of
from lunet.data.left_out import KEY, LOST, NOTES
from lunet.data.settings import UNNAMED, DatasetSettings
from lunet.data.subjects import listed_subjects, subject_in
from lunet.errors import ConfigError, DataError, shown
from lunet.reading import read_json, typed
from lunet.settings import Millimetres, Within
from lunet.task import Length, Task

_Value = Annotated[int, Within(-(2**31), 2**31)]


class _Item(TypedDict):
    """A case in ``dataset.json``."""

    image: str | list[str]
    label: NotRequired[str | None]
    id: NotRequired[str | int]
    group: NotRequired[str | int]


class _Rule(TypedDict):
    """How label values are read, in ``dataset.json``."""

    remap: NotRequired[dict[str, Annotated[int, Within(0, 255)]] | None]
    codes: NotRequired[list[_Value] | None]
    mask_threshold: NotRequired[float | None]


class _Pixels(TypedDict):
    """The size of a picture's pixels, in ``dataset.json``."""

    pixel_mm: NotRequired[tuple[Millimetres, Millimetres] | None]


class _Parts(TypedDict):
    """The lists of ``dataset.json``."""

    training: list[Any]
    test: NotRequired[list[Any] | None]


@dataclass(frozen=True)
class Case:
    """One image with its label, if it has one.

    Attributes
    ----------
    id
        Unique name, also the stem of all files that are made from the case.
    images
        One file with all channels, or one file per channel in the order of the task's channels.
    label
        Label file; None for an unlabelled case.
    group
        Subject; a split keeps all cases of a subject in one part.
    listed_as
        ``training`` or ``test``: the part of ``dataset.json`` that names it.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    group: str
    listed_as: str = "training"

    @property
    def labelled(self) -> bool:
        """Whether the case has a label."""
        return self.label is not None


@dataclass(frozen=True)
class Dataset:
    """A data set on disk: the task, and the files of each case.

    ``left_out`` maps each item of the source that no case uses to the reason
    (:mod:`lunet.data.left_out`); ``lost`` are the names in it that are cases. ``notes`` are the
    assumptions made while reading the source that the user should know. ``pixel_mm`` is the size of
    the pixels, for pictures of a known size.
    """

    root: Path
    name: str
    task: Task
    cases: tuple[Case, ...]
    rule: LabelRule = field(default_factory=LabelRule)
    left_out: Mapping[str, str] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    pixel_mm: PixelSize | None = None

    @property
    def unit(self) -> Length:
        """Unit of distances: ``px`` for pictures whose size nobody knows, else ``mm``."""
        return "px" if self.pixel_mm is None and any(map(_of_pictures, self.cases)) else "mm"

    def case(self, name: str) -> Case:
        """The case with this id."""
        for case in self.cases:
            if case.id == name:
                return case
        raise DataError(
            where=self.root,
            found=f"no case {name!r}",
            expected=f"{len(self.cases)} cases are listed",
        )


def read_dataset(
    root: str | Path, settings: DatasetSettings | None = None, task: Task | None = None
) -> Dataset:
    """Read ``root/dataset.json``; no image is opened and no file has to exist yet.

    Parameters
    ----------
    root
        Folder in the project's layout.
    settings
        Settings of the data set: subject groups, label remapping and the limit on cases. They
        override ``dataset.json``.
    task
        Channels, labels and regions; by default read from ``dataset.json``.

    Raises
    ------
    DataError
        If ``dataset.json`` is missing, is not in this layout, or names a case twice.
    """
    root = Path(root)
    path = root / LISTING
    if not path.exists():
        raise DataError(
            where=root,
            found=f"has no {LISTING}",
            expected="the project's (Decathlon) layout is expected",
            action="Convert other layouts with `lunet import`",
        )
    return dataset_of(read_json(path), root, settings=settings, task=task)


def dataset_of(
    listing: Any,
    root: Path,
    *,
    settings: DatasetSettings | None = None,
    task: Task | None = None,
) -> Dataset:
    """The data set that a listing (the content of ``dataset.json``) describes."""
    where = root / LISTING
    parts = typed(listing, _Parts, where)
    entry = entry_of(settings) if settings else None
    subjects = listed_subjects(root)
    cases, left = [], _left_out(listing, where)
    for part, items in (("training", parts["training"]), ("test", parts.get("test"))):
        for index, item in enumerate(items or ()):
            case = _case(item, root, f"{where}: {part}[{index}]", part)
            if case is None:
                left[f"{part}[{index}]"] = "a file of an operating system"
            else:
                own = isinstance(item, Mapping) and "group" in item
                group = case.group if own or entry is None else entry.group_of(case.id)
                group = subject_in(subjects, case.id, root) if subjects else group
                pattern = settings.groups if settings else None
                cases.append(replace(case, group=group_of(case.id, pattern, group)))
    require_different(((case.id, case.images[0]) for case in cases), where)
    kept = _limited(cases, settings.limit if settings else None)
    beyond = {case.id for case in cases} - {case.id for case in kept}
    left |= dict.fromkeys(sorted(beyond), f"dataset.limit is {settings.limit}" if settings else "")
    pixels = typed(listing, _Pixels, where).get("pixel_mm")
    dataset = check_threshold(
        Dataset(
            root=root,
            name=chosen_name(str(listing.get("name") or root.name), settings),
            task=task or task_of_listing(listing, where),
            cases=kept,
            rule=_rule(listing, settings, where),
            left_out=left,
            lost=frozenset(beyond | (set(map(str, listing.get(LOST) or ())) & set(left))),
            notes=tuple(map(str, listing.get(NOTES) or ())),
            pixel_mm=pixels,
        )
    )
    return with_pixel_size(dataset, settings.pixel_mm if settings else None)


def chosen_name(stated: str, settings: DatasetSettings | None) -> str:
    """The name that the user gave the data set, or else the one that its files state."""
    if settings is None or settings.name == UNNAMED or entry_of(settings) is not None:
        return stated
    return settings.name


def with_pixel_size(dataset: Dataset, given: float | PixelSize | None) -> Dataset:
    """The data set with the size of its pictures' pixels in mm, where one is given.

    Raises
    ------
    ConfigError
        If a size is given for volumes, which state their own.
    DataError
        If some cases have a physical size and others have none.
    """
    pictures = [case for case in dataset.cases if _of_pictures(case)]
    if given is not None and dataset.cases and not pictures:
        raise ConfigError(
            where="dataset.pixel_mm",
            found=f"{shown(given)}, but the images are volumes",
            expected="volumes state the size of their voxels",
            action="Remove it",
        )
    if given is not None:
        size = (given, given) if isinstance(given, float) else given
        dataset = replace(dataset, pixel_mm=size)
    if dataset.unit == "px" and len(pictures) < len(dataset.cases):
        other = next(case for case in dataset.cases if not _of_pictures(case))
        raise DataError(
            where=dataset.root,
            found=f"{len(pictures)} pictures without a physical size (such as "
            f"{pictures[0].images[0].name}) among volumes in mm (such as {other.images[0].name})",
            expected="distances must have one unit in all cases",
            action="Split the data set, or state the size of the pixels with dataset.pixel_mm",
        )
    return dataset


def _of_pictures(case: Case) -> bool:
    return is_picture(case.images[0])


def check_threshold(dataset: Dataset) -> Dataset:
    """Return the data set, unless a threshold would merge its labels into one.

    Raises
    ------
    ConfigError
        If ``mask_threshold`` is set and there is more than one label.
    """
    labels = dataset.task.labels
    if dataset.rule.threshold is not None and len(labels) > 1:
        raise ConfigError(
            where="dataset.mask_threshold",
            found=f"{dataset.rule.threshold:g}, but the labels are {', '.join(labels)}",
            expected="with a threshold, every voxel above it becomes label 1",
            action="Remove it, or name one label",
        )
    return dataset


def _left_out(listing: Mapping[str, Any], where: Path) -> dict[str, str]:
    """What an import left out, as recorded in ``dataset.json``."""
    found = listing.get(KEY) or {}
    if not isinstance(found, Mapping) or not all(isinstance(why, str) for why in found.values()):
        raise DataError(
            where=where,
            found=f"{KEY!r} is not a mapping",
            expected="a mapping from each item that was left out to the reason",
        )
    return {str(name): why for name, why in found.items()}


def group_of(case: str, pattern: str | None, otherwise: str) -> str:
    """The subject of a case: what the first group of ``pattern`` matches in the case's id.

    Raises
    ------
    ConfigError
        If the pattern is not a regular expression with a group, or does not match the id.
    """
    if pattern is None:
        return otherwise
    try:
        found = re.search(pattern, case)
    except re.error as error:
        raise ConfigError(
            where="dataset.groups", found=f"{pattern!r}: {error}", expected="a regular expression"
        ) from None
    if found is None or not found.groups():
        raise ConfigError(
            where="dataset.groups",
            found=f"{pattern!r} finds no group in {case!r}",
            expected="every case id must contain one",
        )
    return found.group(1)


def _case(item: Any, root: Path, where: str, part: str) -> Case | None:
    fields = typed(item if isinstance(item, Mapping) else {"image": item}, _Item, where)
    files, label = fields["image"], fields.get("label")
    files = [files] if isinstance(files, str) else files
    if not files or not all(files):
        raise DataError(
            where=where,
            found=f"image {shown(files)}",
            expected="a file name or a list of them is expected",
        )
    if is_hidden(files[0]):
        return None
    name = require_id(str(fields.get("id") or _name(files)), where)
    return Case(
        id=name,
        images=tuple(root / file for file in files),
        label=root / label if label else None,
        group=str(fields.get("group", name)),
        listed_as=part,
    )


def _name(files: Sequence[str]) -> str:
    """Case id: the stem of the file, without the channel number if there is a file per channel."""
    stem = stem_of(files[0])
    return re.sub(r"_\d{4}$", "", stem) if len(files) > 1 else stem


def _limited(cases: Sequence[Case], limit: int | None) -> tuple[Case, ...]:
    if limit is None:
        return tuple(cases)
    kept = list(dict.fromkeys(case.group for case in cases if case.labelled))[:limit]
    return tuple(case for case in cases if case.group in kept)


def _rule(listing: Mapping[str, Any], settings: DatasetSettings | None, where: Path) -> LabelRule:
    """How label values are read: by the settings where they set it, else by the listing."""
    rules = typed(listing, _Rule, where)
    remap = by_number(rules.get("remap") or {}, f"{where}: remap")
    codes = frozenset(rules.get("codes") or ()) or None
    threshold = rules.get("mask_threshold")
    if settings is not None and settings.remap:
        remap, codes = remap_of(settings), None
    if settings is not None and settings.mask_threshold is not None:
        threshold = settings.mask_threshold
    return LabelRule(remap, threshold, codes)
