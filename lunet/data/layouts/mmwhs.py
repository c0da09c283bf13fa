"""MM-WHS as published: ``ct_train/ct_train_1001_image.nii.gz`` and ``..._label.nii.gz``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lunet.data.catalog import CATALOG
from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import code_book
from lunet.data.layouts.task import chosen_groups, chosen_rule, chosen_task
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.task import Task

LOOKS_FOR = "{ct,mr}_train/{ct,mr}_train_1001_image.nii.gz and ..._label.nii.gz"
_NAMES = {"ct": "MM-WHS_CT", "mr": "MM-WHS_MR"}
_FORM = re.compile(r"((ct|mr)_(train|test)_\d+)_image\.nii(\.gz)?")


def matches(root: Path) -> bool:
    """Whether ``root`` holds images of MM-WHS."""
    return root.is_dir() and bool(_images(root))


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read one modality; the codes 500, 600, ... become the class indices of the catalog."""
    modality = _modality(root, settings)
    entry = CATALOG[_NAMES[modality]]
    cases = [_case(path) for path in _images(root) if path.name.startswith(modality)]
    dataset = Dataset(
        root=root,
        name=entry.name,
        task=Task(entry.channels, dict(entry.labels), dict(entry.regions)),
        cases=chosen_groups(cases, settings),
        rule=chosen_rule(settings, code_book(entry.labels, entry.remap)),
    )
    return chosen_task(dataset, settings)


def _images(root: Path) -> list[Path]:
    files = [*root.glob("*_image.nii*"), *root.glob("*/*_image.nii*")]
    return sorted(path for path in files if _FORM.fullmatch(path.name))


def _modality(root: Path, settings: DatasetSettings) -> str:
    found = sorted({path.name[:2] for path in _images(root)})
    wanted = next((key for key, name in _NAMES.items() if name == settings.name), None)
    if wanted is None and len(found) == 1:
        return found[0]
    if wanted is None or wanted not in found:
        raise DataError(
            where=root,
            found=f"images of {' and '.join(found) or 'no modality'}",
            expected=f"images of {wanted}" if wanted else "one modality",
            action=f"Set dataset.name to {' or '.join(_NAMES.values())}",
        )
    return wanted


def _case(image: Path) -> Case:
    found = _FORM.fullmatch(image.name)
    name = found.group(1) if found else image.name
    label = image.with_name(image.name.replace("_image", "_label"))
    part = "training" if "_train_" in name else "test"
    return Case(name, (image,), label if os.path.lexists(label) else None, name, part)
