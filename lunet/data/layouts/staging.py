"""Puts a local folder or archive into the project's layout, by links or by moving unpacked files.

A folder in the Decathlon's layout is used as it is; any other known layout is imported.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from lunet.data.dataset import LISTING, Dataset, read_dataset
from lunet.data.io.archive import extract
from lunet.data.io.images import suffix_of
from lunet.data.layouts.decathlon import matches
from lunet.data.layouts.importing import (
    inside,
    link_or_copy,
    require_files,
    require_inside,
    write_links,
)
from lunet.data.layouts.open import open_dataset
from lunet.data.settings import DatasetSettings
from lunet.data.source import possible_roots
from lunet.errors import DataError
from lunet.files import real_path

_UNPACKED = ".unpacked"


def place_folder(
    source: Path,
    stage: Path,
    settings: DatasetSettings,
    names: Sequence[str] = (),
    *,
    only: Path | None = None,
) -> Path:
    """Fill ``stage`` with links to the files of ``source``; returns the data set's own folder.

    Parameters
    ----------
    source
        A folder, or a CSV listing; the data set may also be in a subfolder that has one of
        ``names`` or is the only one.
    stage
        Existing folder to fill: ``dataset.json`` is copied, everything else is linked.
    settings
        Layout, labels and so on, for layouts that do not define them.
    only
        Folder that every file must be in after links are resolved; None for the user's own folder,
        which may name files elsewhere.

    Raises
    ------
    DataError
        If the layout is unknown, or a file is missing or outside ``only``.
    """
    roots = possible_roots(source, names)
    listed = next((root for root in roots if matches(root)), None)
    if listed is not None and settings.layout in ("auto", "decathlon"):
        if only is not None:
            require_inside(read_dataset(listed), only)
        _link_all(listed, stage)
        return listed
    dataset = _open_first(roots, settings)
    require_files(dataset)
    if only is not None:
        require_inside(dataset, only)
    write_links(dataset, stage)
    return dataset.root


def place_archive(
    archive: Path, stage: Path, settings: DatasetSettings, names: Sequence[str] = ()
) -> list[str]:
    """Unpack ``archive`` and fill ``stage`` with its data set; links are replaced with the files.

    Returns
    -------
    Images in the archive that are outside of the folder of its data set, for example those of a
    second data set.

    Raises
    ------
    DataError
        If the archive is broken or malicious, or holds no known layout.
    """
    unpacked = stage / _UNPACKED
    extract(archive, unpacked)
    try:
        root = place_folder(unpacked, stage, settings, names, only=unpacked)
        if matches(root):  # lost cases must be noticed
            require_files(read_dataset(root))
    except DataError as error:  # the error's path is temporary
        where = f"{archive}: {error.where.removeprefix(str(unpacked))}"
        raise DataError(
            where=where, found=error.found, expected=error.expected, action=error.action
        ) from error
    outside = _images_outside(root, unpacked)
    for link in sorted(stage.rglob("*")):
        if link.is_symlink():
            _replace_link(link, unpacked)
    shutil.rmtree(unpacked)
    return outside


def _images_outside(root: Path, unpacked: Path) -> list[str]:
    return [
        name.as_posix()
        for path in sorted(unpacked.rglob("*"))
        if path.is_file() and suffix_of(path) and root not in path.parents
        if not _is_ignored(name := path.relative_to(unpacked))
    ]


def _replace_link(link: Path, unpacked: Path) -> None:
    """Replace a link with the unpacked file that it leads to."""
    real = inside(link, unpacked, "the archive")
    link.unlink()
    link_or_copy(real, link)


def _open_first(roots: Sequence[Path], settings: DatasetSettings) -> Dataset:
    """The data set in the first folder that has one; else the error of the first folder."""
    faults = []
    for root in roots:
        try:
            return open_dataset(root, settings)
        except DataError as error:
            faults.append(error)
    raise faults[0]


def _link_all(root: Path, stage: Path) -> None:
    shutil.copyfile(root / LISTING, stage / LISTING)  # small, and read by every step
    for child in sorted(root.iterdir()):
        base = real_path(child)
        for path in sorted(base.rglob("*")) if base.is_dir() else [base]:
            relative = Path(child.name, path.relative_to(base))
            if path.is_dir() or _is_ignored(relative) or relative == Path(LISTING):
                continue
            place = stage / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(real_path(path))


def _is_ignored(relative: Path) -> bool:
    """Hidden files, Macintosh side files, and the record of an earlier download."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)
    return hidden or relative == Path("source.json")
