"""BraTS as published: a folder per subject with one file per contrast and one segmentation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lunet.data.catalog import CATALOG
from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import NIFTI, code_book, stem_of, suffix_of
from lunet.data.layouts.task import chosen_groups, chosen_rule, chosen_task
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.task import Task

LOOKS_FOR = (
    "BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz or "
    "BraTS-GLI-00000-000/BraTS-GLI-00000-000-{t2f,t1n,t1c,t2w,seg}.nii.gz"
)
_FORMS = {
    "BraTS2021": (re.compile(r"BraTS(?:20)?(?:2021|20|21)?_(?:\w+_)?\d+"), "_"),
    "BraTS2023": (re.compile(r"BraTS-\w+-\d+-\d+"), "-"),
}
_VISIT = re.compile(r"-\d+$")


def matches(root: Path) -> bool:
    """Whether ``root``, or a folder in it, holds subjects of BraTS."""
    return root.is_dir() and bool(_subjects(root)[1])


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read all subjects; a missing contrast is an error that names subject and file.

    Edition, contrasts, labels and codes (in 2021, code 4 is class 3) come from the catalog. Visits
    of one person (2023) share a group.
    """
    name, subjects = _subjects(root)
    if not subjects:
        raise DataError(where=root, found="no subject folders", expected=LOOKS_FOR)
    _refuse_editions(root, subjects)
    left = _other_folders(subjects)
    entry = CATALOG[name]
    cases = [_case(folder, entry.channels, _FORMS[name][1]) for folder in subjects]
    dataset = Dataset(
        root=root,
        name=name,
        task=Task(entry.channels, dict(entry.labels), dict(entry.regions)),
        cases=chosen_groups(cases, settings),
        rule=chosen_rule(settings, code_book(entry.labels, entry.remap)),
        left_out=left,
        lost=frozenset(left),
        notes=tuple(
            f"{case.id}: {case.label.name} is taken as its segmentation"
            for case in cases
            if case.label and not stem_of(case.label).endswith(f"{_FORMS[name][1]}seg")
        ),
    )
    return chosen_task(dataset, settings)


def _refuse_editions(root: Path, subjects: Sequence[Path]) -> None:
    """Raise if there are subjects of two editions: their contrasts and codes differ."""
    folders = [path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern))]
    kinds = {
        name: path.name
        for name, (form, _) in _FORMS.items()
        for path in folders
        if path.is_dir() and form.fullmatch(path.name)
    }
    if len(kinds) > 1:
        found = " and ".join(f"{name} ({example})" for name, example in kinds.items())
        raise DataError(
            where=root,
            found=f"subjects of {found}",
            expected="one edition",
            action="Put each in its own folder",
        )


def _other_folders(subjects: Sequence[Path]) -> dict[str, str]:
    """Folders next to the subjects that hold volumes but do not have a subject's name."""
    places = sorted({path.parent for path in subjects})
    others = [p for place in places for p in sorted(place.iterdir()) if p.is_dir()]
    return {
        path.name: "not named like a subject, such as " + subjects[0].name
        for path in others
        if path not in subjects and any(suffix_of(file) in NIFTI for file in path.iterdir())
    }


def _subjects(root: Path) -> tuple[str, list[Path]]:
    """Edition and subject folders, in ``root`` or one folder below."""
    for pattern in ("*", "*/*"):
        folders = [path for path in sorted(root.glob(pattern)) if path.is_dir()]
        for name, (form, _) in _FORMS.items():
            found = [path for path in folders if form.fullmatch(path.name)]
            if found:
                return name, found
    return "", []


def _case(folder: Path, channels: Sequence[str], separator: str) -> Case:
    files = {path.name: path for path in folder.iterdir() if suffix_of(path) in NIFTI}
    stem = f"{folder.name}{separator}"
    images = []
    for channel in channels:
        found = [files[stem + channel + end] for end in NIFTI if stem + channel + end in files]
        if not found:
            raise DataError(
                where=folder / f"{stem}{channel}.nii.gz",
                found=f"subject {folder.name} has no {channel}",
                expected=f"all of {', '.join(channels)}",
                action="Add the file, or remove the subject's folder",
            )
        images.append(found[0])
    label = next((files[f"{stem}seg{end}"] for end in NIFTI if f"{stem}seg{end}" in files), None)
    label = label or _misnamed([path for path in files.values() if path not in images])
    group = _VISIT.sub("", folder.name) if separator == "-" else folder.name
    return Case(folder.name, tuple(images), label, group, "training" if label else "test")


def _misnamed(others: Sequence[Path]) -> Path | None:
    """The only other volume, if its name marks it as a segmentation: subject 355 of 2020 was
    published that way (``W39_1998.09.19_Segm.nii``)."""
    found = [path for path in others if "seg" in path.name.lower()]
    return found[0] if len(found) == len(others) == 1 else None
