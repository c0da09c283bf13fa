"""Atomic files: a reader sees the old content or the new content, never half of it."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lunet.errors import DataError
from lunet.leftovers import part_of

_CLASSIFIED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE),
)
"""Errors of the system for which :mod:`lunet.failures` has advice."""
_FORMULA = tuple("=+-@\t\r")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name next to ``path``; on success fsync it and rename it into place.

    On an error the temporary file (:func:`lunet.leftovers.part_of`) is removed and ``path`` is left
    unchanged.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(final)
    try:
        yield part
        with open(part, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, final)
    except BaseException:  # not after the renaming: another thread may write under this name then
        part.unlink(missing_ok=True)
        raise
    _sync_folder(final.parent)


def real_path(path: str | Path) -> Path:
    """The absolute path behind all links; one of them where links form a circle."""
    return Path(os.path.realpath(path))  # `Path.resolve` raises in a circle


def identity(path: Path | int) -> tuple[int, int] | None:
    """Device and number of a file, the same for all its links; None if it does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def require_writable(path: str | Path) -> None:
    """Check that ``path`` can be created: its nearest existing folder accepts a new file.

    Raises
    ------
    DataError
        If no file can be created there (``/proc``, for example).
    OSError
        If the disk is full, permission is missing or too many files are open; ``filename`` is the
        folder.
    """
    here = Path(path).absolute()
    folder = next(place for place in (here, *here.parents) if place.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        error.filename = str(folder)
        if error.errno in _CLASSIFIED:
            raise
        found = f"no file can be created in this folder ({error.strerror})"
        raise DataError(
            where=folder, found=found, expected=f"needed for {path}", action="Name another --out"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable (POSIX; other systems have no folder descriptors)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic(path) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 with ``\\n`` line ends to ``path`` atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write strict JSON (no NaN, no infinity) with sorted keys, indented, atomically."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_new(path: str | Path, value: Any) -> bool:
    """Write strict JSON like :func:`write_json`, but never replace an existing file.

    If several processes write at the same time, one of them wins. Readers never see a partial file.

    Returns
    -------
    Whether this call wrote the file.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".part-{os.getpid()}-{final.name}")
    try:
        write_json(part, value)
        os.link(part, final)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
            raise
        return _write_without_links(part, final)
    finally:
        part.unlink(missing_ok=True)
    _sync_folder(final.parent)
    return True


def _write_without_links(part: Path, final: Path) -> bool:
    """For file systems without hard links: reserve the name first, then rename the file onto it."""
    try:
        os.close(os.open(final, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    os.replace(part, final)
    return True


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with ``columns`` as header, atomically.

    NaN and None become empty cells. A text that a spreadsheet would run as a formula (it begins
    with ``=``, ``+``, ``-``, ``@`` or a control character and is not a number) gets a leading
    ``'``, which makes spreadsheets treat it as text.
    """
    with atomic(path) as part, open(part, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n", extrasaction="raise")
        writer.writerow({column: _cell(column) for column in columns})
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if value[:1] in _FORMULA and not _is_number(value) else value
    is_number = isinstance(value, float)
    return "" if value is None or (is_number and math.isnan(value)) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"  # a dash alone marks an empty cell and is harmless
    return True


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces, strict numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
