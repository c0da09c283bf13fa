"""Turning a data set of another layout into the project's: links to its files, and a listing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lunet.data.dataset import LISTING, Case, Dataset
from lunet.data.io.images import suffix_of
from lunet.errors import DataError
from lunet.files import write_json

# Formats whose header names a second file beside it: a link elsewhere would not find that.
_DETACHED = (".nhdr", ".mhd")


def write_project(dataset: Dataset, out: str | Path) -> Path:
    """Write ``dataset`` in the project's layout: symbolic links and ``dataset.json``.

    The folder appears in one step. Files keep their format; nothing is copied.

    Raises
    ------
    DataError
        If ``out`` holds something already, or a file of the data set is missing.
    """
    out = Path(out).absolute()
    require_new(out)
    require_files(dataset)
    with appearing(out) as stage:
        write_links(dataset, stage)
    return out


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """Path of a folder to be made, which becomes ``out`` at the end and is gone after an error."""
    stage = out.with_name(f".part-{os.getpid()}-{out.name}")
    try:
        yield stage
        if out.exists():
            out.rmdir()
        os.rename(stage, out)
    finally:
        if stage.exists():
            shutil.rmtree(stage)


def require_new(out: Path) -> None:
    """Raise :class:`DataError` unless ``out`` can be made, or is an empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            out, "exists already", "a new folder is needed", "Remove it or name another"
        )


def require_files(dataset: Dataset) -> None:
    """Raise :class:`DataError` for the first file that does not exist."""
    for case in dataset.cases:
        for path in (*case.images, *((case.label,) if case.label else ())):
            if not path.exists():
                raise DataError(path, "missing", f"case {case.id} needs it", "Add the file")


def write_links(dataset: Dataset, folder: Path) -> None:
    """Fill ``folder`` with links and, last, ``dataset.json``; files that lie in it are moved."""
    listing = listing_of(dataset)
    for case in dataset.cases:
        entry = _entry(case, folder)
        listing[case.listed_as].append(entry)
    listing["numTraining"] = len(listing["training"])
    listing["numTest"] = len(listing["test"])
    write_json(folder / LISTING, listing)


def listing_of(dataset: Dataset) -> dict[str, Any]:
    """The content of ``dataset.json`` but for its cases."""
    task = dataset.task
    listing: dict[str, Any] = {
        "name": dataset.name,
        "modality": {str(index): name for index, name in enumerate(task.channels)},
        "labels": {"0": "background"} | {str(index): name for name, index in task.labels.items()},
        "dimensions": task.dimensions,
        "training": [],
        "test": [],
    }
    if task.regions:
        listing["regions"] = {name: list(indices) for name, indices in task.regions.items()}
    if dataset.rule.remap:
        listing["remap"] = {str(old): new for old, new in dataset.rule.remap.items()}
    if dataset.rule.codes is not None:
        listing["codes"] = sorted(dataset.rule.codes)
    if dataset.rule.threshold is not None:
        listing["mask_threshold"] = dataset.rule.threshold
    return listing


def _entry(case: Case, folder: Path) -> dict[str, Any]:
    """Link a case's files; its entry in the listing."""
    end = "Tr" if case.listed_as == "training" else "Ts"
    files = []
    for index, path in enumerate(case.images):
        number = f"_{index:04d}" if len(case.images) > 1 else ""
        files.append(_link(path, folder, f"images{end}/{case.id}{number}"))
    entry: dict[str, Any] = {"id": case.id, "group": case.group, "image": files}
    if len(files) == 1:
        entry["image"] = files[0]
    if case.label is not None:
        entry["label"] = _link(case.label, folder, f"labels{end}/{case.id}")
    return entry


def _link(path: Path, folder: Path, stem: str) -> str:
    suffix = suffix_of(path)
    if suffix in _DETACHED:
        return str(path.resolve())
    place = folder / f"{stem}{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_relative_to(folder):
        path.rename(place)
    else:
        place.symlink_to(path.resolve())
    return f"./{stem}{suffix}"
