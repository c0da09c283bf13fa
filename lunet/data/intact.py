"""Checks, once and cheaply, whether prepared arrays are still what their manifest describes.

A file whose size, modification time and inode match the last check counts as unchanged; any other
file is read and its digest compared. Past checks are kept in a hidden list in the manifest's
folder, one line per file (if the list is lost, the files are just read again).
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from lunet.errors import DataError
from lunet.files import sha256
from lunet.reading import parse_json

CHECKED = ".checked.jsonl"
Check = tuple[int, int, int, str]  # size, modification time (ns), inode, digest
_KNOWN: dict[Path, dict[str, Check]] = {}


def require_intact(folder: Path, name: str, digest: str) -> None:
    """Refuse a prepared file whose content does not match the manifest.

    Parameters
    ----------
    folder
        The manifest's folder.
    name
        The file, relative to the folder.
    digest
        SHA-256 of its bytes, from the manifest.

    Raises
    ------
    DataError
        If the file is missing, or its content differs.
    """
    known = _known(folder)
    try:
        check = _check_of(folder / name, digest)
        if known.get(name) == check:
            return
        found = sha256(folder / name)
    except FileNotFoundError as error:
        raise DataError(
            where=folder / name, found="missing", expected="the manifest names it", action=_AGAIN
        ) from error
    if found != digest:
        raise DataError(
            where=folder / name,
            found=f"its content is not what was prepared (sha256 {found[:12]}...)",
            expected=f"sha256 {digest[:12]}... as in the manifest",
            action=_AGAIN,
        )
    note_intact(folder, name, digest)


def note_intact(folder: Path, name: str, digest: str) -> None:
    """Remember that a file of the folder has this digest now."""
    check = _check_of(folder / name, digest)
    _known(folder)[name] = check
    line = json.dumps([name, *check]) + "\n"
    with (
        contextlib.suppress(OSError),  # an unwritable folder only costs time
        open(folder / CHECKED, "a", encoding="utf-8") as stream,
    ):
        stream.write(line)  # one short write: lines of several processes do not mix


_AGAIN = "Prepare the data set again"


def _check_of(path: Path, digest: str) -> Check:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, digest


def _known(folder: Path) -> dict[str, Check]:
    """The checks of a folder, read once per process."""
    folder = folder.absolute()
    if folder not in _KNOWN:
        _KNOWN[folder] = _read(folder / CHECKED)
    return _KNOWN[folder]


def _read(path: Path) -> dict[str, Check]:
    found: dict[str, Check] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            name, size, time, inode, digest = parse_json(line, path)
        except (DataError, ValueError, TypeError):
            continue  # an incomplete line, left by a killed process
        found[str(name)] = (size, time, inode, digest)
    return found
