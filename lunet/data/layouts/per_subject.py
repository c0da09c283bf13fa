"""Challenges that name the files of each subject alike: KiTS23, ACDC and BTCV as published."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lunet.data.catalog import CATALOG
from lunet.data.dataset import Case, Dataset
from lunet.data.layouts.task import chosen_groups, chosen_rule, chosen_task
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.task import Task

LOOKS_FOR = (
    "case_00000/imaging.nii.gz (KiTS23), patient001/patient001_frame01.nii.gz (ACDC) or "
    "img/img0001.nii.gz (BTCV), with their labels"
)


@dataclass(frozen=True)
class Form:
    """How a challenge names its files, relative to a folder of subjects.

    Attributes
    ----------
    files
        Pattern of the images for a search in folders.
    image
        What an image's path must be; its first group is the case, ``subject`` the person.
    label
        The label's path as a template of the image's match.
    """

    files: str
    image: re.Pattern[str]
    label: str


FORMS = {
    "KiTS23": Form(
        "case_*/imaging.nii.gz",
        re.compile(r"(?P<subject>case_\d{5})/imaging\.nii\.gz"),
        r"\g<subject>/segmentation.nii.gz",
    ),
    # the whole cine is there, too, as patient001_4d.nii.gz; only two of its frames have labels
    "ACDC": Form(
        "patient*/patient*_frame*.nii.gz",
        re.compile(r"(?P<subject>patient\d+)/(?P<case>(?P=subject)_frame\d+)\.nii\.gz"),
        r"\g<subject>/\g<case>_gt.nii.gz",
    ),
    "BTCV": Form(
        "img/img*.nii.gz",
        re.compile(r"img/(?P<case>img(?P<number>\d{4}))\.nii\.gz"),
        r"label/label\g<number>.nii.gz",
    ),
}


def matches(root: Path) -> bool:
    """Whether ``root``, or a folder up to two levels below, holds subjects of one of them."""
    return root.is_dir() and any(_cases(root, form) for form in FORMS.values())


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read all subjects; the frames of one patient (ACDC) share a group.

    Raises
    ------
    DataError
        If there are no subjects, or subjects of two challenges.
    """
    found = {name: cases for name, form in FORMS.items() if (cases := _cases(root, form))}
    if len(found) != 1:
        raise DataError(
            where=root,
            found=f"subjects of {' and '.join(found)}" if found else "no subjects",
            expected="one challenge" if found else LOOKS_FOR,
            action="Put each in its own folder" if found else "",
        )
    ((name, cases),) = found.items()
    entry = CATALOG[name]
    dataset = Dataset(
        root=root,
        name=name,
        task=Task(entry.channels, dict(entry.labels), dict(entry.regions)),
        cases=chosen_groups(cases, settings),
        rule=chosen_rule(settings),
    )
    return chosen_task(dataset, settings)


def _cases(root: Path, form: Form) -> list[Case]:
    """The cases in ``root``, or one or two folders below (``training``, ``RawData/Training``)."""
    return [case for depth in ("", "*/", "*/*/") for case in _at(root, form, depth)]


def _at(root: Path, form: Form, depth: str) -> Iterator[Case]:
    for path in sorted(root.glob(depth + form.files)):
        folder = path.parent.parent
        match = form.image.fullmatch(path.relative_to(folder).as_posix())
        if match is None:
            continue
        label = folder / match.expand(form.label)
        parts = match.groupdict()
        name = parts.get("case") or parts["subject"]
        group = parts.get("subject") or name
        has_label = os.path.lexists(label)
        part = "training" if has_label else "test"
        yield Case(name, (path,), label if has_label else None, group, part)
