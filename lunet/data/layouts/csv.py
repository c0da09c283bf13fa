"""A CSV listing: a row per case with its files, relative to the listing."""

from __future__ import annotations

from pathlib import Path

from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import stem_of
from lunet.data.layouts.task import chosen_groups, dimensions_of, infer_labels
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.reading import read_spreadsheet
from lunet.task import Task

LOOKS_FOR = "a .csv file with columns image (or image_<channel>), label, and optionally id, group"
_LABELS = ("label", "mask", "seg", "segmentation")
_IDS, _GROUPS = ("id", "case"), ("group", "subject", "patient")


def matches(root: Path) -> bool:
    """Whether ``root`` is such a listing."""
    return root.is_file() and root.suffix.lower() == ".csv"


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read the listing; rows without a label are unlabelled cases."""
    if not root.is_file():
        raise DataError(where=root, found="is not a file", expected=LOOKS_FOR)
    rows = read_spreadsheet(root, what="a CSV listing")
    if not rows:
        raise DataError(where=root, found="lists no case", expected=LOOKS_FOR)
    columns = list(rows[0])
    images = [c for c in columns if c == "image" or c.startswith("image_")]
    if not images:
        raise DataError(where=root, found=f"columns {', '.join(columns)}", expected=LOOKS_FOR)
    cases = [
        _case(row, images, columns, root, f"{root}, row {number}")
        for number, row in enumerate(rows, start=2)
    ]
    labels, rule = infer_labels(cases, settings)
    names = tuple(column.removeprefix("image_") for column in images)
    task = Task(
        settings.channels or names, labels, settings.regions or {}, dimensions_of(cases, settings)
    )
    return Dataset(root.parent, root.stem, task, chosen_groups(cases, settings), rule)


def _case(
    row: dict[str, str], images: list[str], columns: list[str], root: Path, where: str
) -> Case:
    files = []
    for column in images:
        if not row.get(column):
            raise DataError(
                where=where, found=f"no file in column {column}", expected="every channel is needed"
            )
        files.append(root.parent / row[column])
    label = next((row[c] for c in _LABELS if c in columns and row.get(c)), None)
    name = next((row[c] for c in _IDS if c in columns and row.get(c)), stem_of(files[0]))
    group = next((row[c] for c in _GROUPS if c in columns and row.get(c)), name)
    for path in [*files, *([root.parent / label] if label else [])]:
        if not path.is_file():
            found = "is a folder" if path.is_dir() else "does not exist"
            raise DataError(where=where, found=f"{path} {found}", expected=f"case {name} needs it")
    part = "training" if label else "test"
    return Case(name, tuple(files), root.parent / label if label else None, group, part)
