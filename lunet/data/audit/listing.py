"""Checks of the listing against the files in the folder, and of given splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lunet.data.audit.findings import REPAIR, Finding, FindingSite
from lunet.data.dataset import LISTING, Case, Dataset
from lunet.data.folds import read_splits
from lunet.data.io.images import is_hidden, stem_of, suffix_of
from lunet.files import real_path
from lunet.reading import read_object


def check_listing(dataset: Dataset) -> Iterator[Finding]:
    """Images without labels, labels without images, unlisted files, counts, names."""
    for case in dataset.cases:
        if case.listed_as == "training" and case.label is None:
            yield FindingSite(case.id, _shown(case.images[0], dataset)).error(
                "image_without_label",
                "label",
                "none",
                "a label for each training image",
                "add the label, or list the image under `test`",
            )
        elif case.label is not None:
            yield from _check_names(case, dataset)
    yield from _check_counts(dataset)
    yield from _check_unlisted(dataset)
    yield from _check_indices(dataset)


def _check_names(case: Case, dataset: Dataset) -> Iterator[Finding]:
    """Numbers in the names of image and label that contradict each other."""
    if case.label is None:
        return
    image, label = (_digits(stem_of(path)) for path in (case.images[0], case.label))
    shared = [number for number in label if number in image]
    if image and label and not shared:
        yield FindingSite(case.id, _shown(case.label, dataset)).error(
            "name_mismatch",
            "name",
            case.label.name,
            f"the number of {case.images[0].name}",
            f"correct {LISTING}",
        )


def _digits(text: str) -> list[int]:
    words = "".join(c if c.isdecimal() else " " for c in text).split()
    return [int(word) for word in words]


def _check_counts(dataset: Dataset) -> Iterator[Finding]:
    path = dataset.root / LISTING
    if not path.exists():
        return
    listing = read_object(path)
    for key, part in (("numTraining", "training"), ("numTest", "test")):
        listed = len(listing.get(part) or ())
        if key in listing and listing[key] != listed:
            yield FindingSite("", LISTING).warning(
                "wrong_count", key, str(listing[key]), f"{listed}, the number of entries", REPAIR
            )


def _check_unlisted(dataset: Dataset) -> Iterator[Finding]:
    """Files in the image and label folders that the listing does not name."""
    listed = {real_path(path) for case in dataset.cases for path in _files(case)}
    folders = sorted({path.parent for case in dataset.cases for path in _files(case)})
    usual = [dataset.root / name for name in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")]
    folders += [folder for folder in usual if folder not in folders]
    for folder in folders:
        if folder != dataset.root and folder.is_dir() and dataset.root in folder.parents:
            for path in sorted(folder.iterdir()):
                if path.is_file() and real_path(path) not in listed:
                    yield _unlisted_file(path, dataset)
    # other hidden files in the folder itself are left by tools, such as a workflow manager
    for pattern in ("._*", ".DS_Store", "Thumbs.db"):
        for path in sorted(dataset.root.glob(pattern)):
            yield _unlisted_file(path, dataset)


def _files(case: Case) -> list[Path]:
    return [*case.images, *([case.label] if case.label else [])]


def _unlisted_file(path: Path, dataset: Dataset) -> Finding:
    shown = _shown(path, dataset)
    if is_hidden(path):
        return FindingSite("", shown).warning(
            "stray_file", "file", "left by an operating system", "images and labels only", REPAIR
        )
    if not suffix_of(path):
        return FindingSite("", shown).warning(
            "stray_file", "file", "not an image", "images and labels only", REPAIR
        )
    if path.parent.name.startswith("labels"):
        return FindingSite(stem_of(path), shown).warning(
            "label_without_image",
            "file",
            "not listed",
            "an image of that name",
            f"find its image, or list the pair in {LISTING}",
        )
    labels = path.parent.with_name(path.parent.name.replace("images", "labels"))
    lonely = path.parent.name.endswith("Tr") and not (labels / path.name).exists()
    return FindingSite(stem_of(path), shown).warning(
        "image_without_label" if lonely else "unlisted_file",
        "file",
        "not listed" + (", and no label of that name" if lonely else ""),
        "every image in the listing",
        f"list it in {LISTING}, or remove it",
    )


def _check_indices(dataset: Dataset) -> Iterator[Finding]:
    indices = sorted(dataset.task.labels.values())
    if indices != list(range(1, len(indices) + 1)):
        yield FindingSite("", LISTING).info(
            "non_consecutive_labels",
            "labels",
            f"{indices}",
            f"1 to {len(indices)}; other tools require it, this one does not",
            "dataset.remap",
        )


def check_splits(dataset: Dataset, path: Path) -> Iterator[Finding]:
    """Subjects that are in more than one part of a split file, and cases that do not exist."""
    splits = read_splits(path).as_dict()
    groups = {case.id: case.group for case in dataset.cases}
    for number, fold in enumerate(splits["folds"]):
        parts = dict(fold) | {"held_out": splits["held_out"]}
        yield from _check_fold(number, parts, groups, path)


def _check_fold(
    number: int, parts: Mapping[str, Any], groups: Mapping[str, str], path: Path
) -> Iterator[Finding]:
    where: dict[str, tuple[str, str]] = {}
    for part in ("train", "validation", "test", "held_out"):
        for name in parts.get(part) or ():
            if name not in groups:
                yield FindingSite(name, str(path)).error(
                    "unknown_case",
                    f"folds[{number}].{part}",
                    name,
                    "a case of the data set",
                    "lunet folds",
                )
                continue
            before, twin = where.setdefault(groups[name], (part, name))
            if before != part:
                yield FindingSite(name, str(path)).error(
                    "group_leakage",
                    f"folds[{number}].{part}",
                    f"subject {groups[name]} is in {before} too (as {twin})",
                    "all cases of a subject in one part",
                    "lunet folds",
                )


def _shown(path: Path, dataset: Dataset) -> str:
    inside = path.is_relative_to(dataset.root)
    return path.relative_to(dataset.root).as_posix() if inside else str(path)
