"""Converts a data set of another layout to the project's: links to its files, and a listing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

from lunet.data.dataset import LISTING, Case, Dataset
from lunet.data.io.detached import DETACHED, data_files
from lunet.data.io.images import suffix_of
from lunet.data.left_out import KEY, LOST, NOTES, counts_of
from lunet.data.subjects import SUBJECTS
from lunet.errors import DataError
from lunet.files import real_path, write_json
from lunet.own_files import renewed

STEP = "import"


def write_project(dataset: Dataset, out: str | Path) -> Path:
    """Write ``dataset`` in the project's layout: symbolic links and ``dataset.json``.

    The folder appears in one step. Files keep their format; nothing is copied.

    Raises
    ------
    ConfigError
        If ``out`` holds anything that this step did not write, or a file of the data set.
    DataError
        If a file of the data set is missing.
    """
    require_files(dataset)
    with renewed(out, step=STEP, inputs=[dataset.root, *files_of(dataset)]) as stage:
        write_links(dataset, stage)
    return Path(out).absolute()


def files_of(dataset: Dataset) -> list[Path]:
    """Every image and label file."""
    return [p for c in dataset.cases for p in (*c.images, *((c.label,) if c.label else ()))]


def require_files(dataset: Dataset) -> None:
    """Raise :class:`DataError` for the first file that does not exist."""
    for case in dataset.cases:
        for path in (*case.images, *((case.label,) if case.label else ())):
            if not path.exists():
                raise DataError(
                    where=path,
                    found="missing",
                    expected=f"case {case.id} needs it",
                    action="Add the file",
                )


def require_inside(dataset: Dataset, folder: Path) -> None:
    """Raise :class:`DataError` for the first file that is outside ``folder``.

    Links, ``..`` and absolute paths are resolved: a listing from somebody else may only name files
    that came with it.
    """
    for case in dataset.cases:
        for path in (*case.images, *((case.label,) if case.label else ())):
            inside(path, folder, f"case {case.id}")


def inside(path: Path, folder: Path, owner: str) -> Path:
    """Resolve all links of a path; raise :class:`DataError` if the file is not in ``folder``.

    ``owner`` is what names the file, for the message.
    """
    real = real_path(path)
    if real_path(folder) not in real.parents:
        raise DataError(
            where=path,
            found=f"{owner} names a file elsewhere",
            expected="files of the data set itself",
        )
    return real


def write_links(dataset: Dataset, folder: Path) -> None:
    """Fill ``folder`` with links and, last, ``dataset.json``.

    Files that are already in the folder get a second name in it (a hard link).
    """
    listing = listing_of(dataset)
    if (dataset.root / SUBJECTS).is_file():  # it may hold more than the subjects
        shutil.copyfile(dataset.root / SUBJECTS, folder / SUBJECTS)
    for case in dataset.cases:
        entry = _entry(case, folder)
        listing[case.listed_as].append(entry)
    listing["numTraining"] = len(listing["training"])
    listing["numTest"] = len(listing["test"])
    write_json(folder / LISTING, listing)


def listing_of(dataset: Dataset) -> dict[str, Any]:
    """The content of ``dataset.json`` without its cases."""
    task = dataset.task
    listing: dict[str, Any] = {
        "name": dataset.name,
        "modality": {str(index): name for index, name in enumerate(task.channels)},
        "labels": {"0": "background"} | {str(index): name for name, index in task.labels.items()},
        "dimensions": task.dimensions,
        "training": [],
        "test": [],
    }
    counts = counts_of(dataset)
    if left := counts.pop(KEY):
        listing |= {KEY: left, LOST: sorted(dataset.lost)}
    listing["counts"] = counts
    if dataset.notes:
        listing[NOTES] = list(dataset.notes)
    if dataset.pixel_mm is not None or dataset.unit == "px":
        listing["pixel_mm"] = list(dataset.pixel_mm) if dataset.pixel_mm else None
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
    """Link a case's files; returns its entry in the listing."""
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
    suffix, real = suffix_of(path), real_path(path)
    is_inside = real_path(folder) in real.parents
    if suffix in DETACHED:  # a header that is linked alone would not find its data file
        return _link_header(real, folder, stem) if is_inside else str(real)
    place = folder / f"{stem}{suffix}"
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_inside:
        link_or_copy(real, place)
    else:
        place.symlink_to(real)
    return f"./{stem}{suffix}"


def _link_header(header: Path, folder: Path, stem: str) -> str:
    """Link header and data files under their own names, in a folder of their own."""
    place = folder / stem
    place.mkdir(parents=True, exist_ok=True)
    for path in (header, *data_files(header)):
        link_or_copy(inside(path, folder, str(header.name)), place / path.name)
    return f"./{stem}/{header.name}"


def link_or_copy(path: Path, place: Path) -> None:
    """Hard-link a file, or copy it where the file system has no hard links."""
    try:
        os.link(path, place)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
            raise
        shutil.copyfile(path, place)
