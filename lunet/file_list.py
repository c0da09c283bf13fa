"""The list of a folder: which step wrote which file there, with length and digest.

It is a small hidden file, changed by one process at a time. :mod:`lunet.own_files` decides by it
what a step may replace.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from lunet.errors import DataError
from lunet.files import identity, sha256, write_json
from lunet.reading import read_record

MARKER = ".lunet-files.json"
_IGNORED = {MARKER, ".snakemake_timestamp", ".checked.jsonl", ".DS_Store", "Thumbs.db"}
"""Files that tools create for themselves; losing them costs nobody any work."""
_LARGEST = 16 << 20
"""Bytes of the largest file whose digest is noted, unless its step is among these."""
_EDITED = {"predict"}
"""Steps whose files people correct by hand."""
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of file systems without locks (Lustre, for example); a list may then miss a file."""


@dataclass(frozen=True)
class Entry:
    """A file on the list: its step, its size in bytes (None while writing) and its digest.

    Files above 16 MiB have no digest, because reading all prepared volumes again takes long. Masks
    have one in any case: an expert may have corrected them, which need not change their size.
    """

    step: str
    size: int | None = None
    sha256: str | None = None


class _Entry(TypedDict):
    step: str
    size: int | None
    sha256: NotRequired[str | None]


class _Marker(TypedDict):
    """The content of the list's file."""

    files: dict[str, _Entry]


Files = dict[str, Entry]
"""Path relative to the folder -> entry."""


def read_list(folder: Path) -> Files:
    """The list of a folder; empty if it has none.

    Raises
    ------
    DataError
        If it is a link or not a list.
    """
    path = folder / MARKER
    _refuse_link(path)
    try:
        if path.stat().st_size == 0:
            return {}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        named = read_record(path, _Marker)["files"]
    except DataError as error:
        raise DataError(
            where=error.where,
            found=error.found,
            expected="a list that lunet wrote",
            action="Remove it",
        ) from error
    # the list may come from somebody else, so no name may lead out of the folder
    inside = (name for name in named if not name.startswith("/") and ".." not in name)
    return {name: _entry(named[name]) for name in inside}


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise DataError(
            where=path, found="is a link", expected="a list that lunet wrote", action="Remove it"
        )


def _entry(noted: _Entry) -> Entry:
    return Entry(noted["step"], noted["size"], noted.get("sha256"))


def write_list(folder: Path, files: Files) -> None:
    """Replace the list of a folder."""
    write_json(folder / MARKER, {"files": {name: asdict(files[name]) for name in files}})


@contextmanager
def changing(folder: Path) -> Iterator[Files]:
    """Yield the list of a folder and write it when the block ends; other processes wait."""
    path = folder / MARKER
    descriptor = _locked(path)
    try:
        files = read_list(folder)
        before = dict(files)
        yield files
        if not files:
            path.unlink()
        elif files != before:
            write_list(folder, files)
    except BaseException:
        if path.stat().st_size == 0:  # made by this lock
            path.unlink()
        raise
    finally:
        os.close(descriptor)  # frees the lock as well


def _locked(path: Path) -> int:
    """Lock the file that ``path`` names and return its descriptor; retry if it was replaced."""
    while True:
        _refuse_link(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if identity(path) == identity(descriptor):
            return descriptor
        os.close(descriptor)


def is_as_written(path: Path, entry: Entry) -> bool:
    """Whether a file or link is as it was written; true if it is missing."""
    if entry.size is None or not os.path.lexists(path):
        return True
    if path.lstat().st_size != entry.size:
        return False
    return entry.sha256 is None or _digest(path, entry.step) == entry.sha256


def measured(folder: Path, names: Iterable[str], step: str) -> Files:
    """The entries of those files that exist."""
    found: Files = {}
    for name in names:
        path = folder / name
        if os.path.lexists(path):
            found[name] = Entry(step, path.lstat().st_size, _digest(path, step))
    return found


def _digest(path: Path, step: str) -> str | None:
    """Digest of a file's bytes or of a link's target; None for large and unreadable files."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    try:
        is_read = step in _EDITED or path.stat().st_size <= _LARGEST
        return sha256(path) if is_read and path.is_file() else None
    except OSError:
        return None


def files_in(folder: Path) -> Iterator[str]:
    """Files and links below a folder, relative to it, except ignored ones."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_ignored(name))
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        for name in sorted([*files, *links]):
            if not _is_ignored(name):
                yield Path(top, name).relative_to(folder).as_posix()


def _is_ignored(name: str) -> bool:
    """Whether a file belongs to a tool, is a lock of this package, or is being written."""
    is_lock = name.startswith(".") and name.endswith(".lock")
    return name in _IGNORED or is_lock or name.startswith((".part-", ".nfs"))
