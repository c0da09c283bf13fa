"""Temporary names that contain their writer, so that leftovers of dead processes can be removed."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lunet.locks import host_name, process_start

_FORM = re.compile(r"\.part-([0-9a-f]{8})-(\d+)-(\w+)-(.+)", re.DOTALL)
_SILENCE = 3600.0
"""Seconds without a change after which a writer on another host is considered dead."""


def part_of(path: str | Path) -> Path:
    """The temporary name next to ``path`` under which this process writes it.

    It keeps the suffixes of ``path``, because writers choose their format by them.
    """
    final = Path(path)
    return final.with_name(f".part-{_owner(os.getpid())}-{final.name}")


@functools.cache
def _owner(pid: int) -> str:
    return f"{_host()}-{pid}-{process_start(pid) or 'unknown'}"


@functools.cache
def _host() -> str:
    return hashlib.sha256(host_name().encode()).hexdigest()[:8]


def remove_leftovers(folder: str | Path, names: Collection[str]) -> None:
    """Remove the temporary files and folders of ``names`` whose writer is dead.

    A writer on this host is dead if its process is gone, a writer on another host if it has changed
    nothing for an hour.
    """
    place = Path(folder)
    if not place.is_dir():
        return
    for entry in sorted(os.listdir(place)):
        found = _FORM.fullmatch(entry)
        if found and found[4] in names and _is_dead(place / entry, *found.groups()[:3]):
            remove(place / entry)


@contextmanager
def staged(target: str | Path) -> Iterator[Path]:
    """Yield a new folder next to ``target``; it is removed afterwards unless it was renamed.

    Leftovers of dead processes for the same target are removed first.
    """
    final = Path(target)
    remove_leftovers(final.parent, {final.name})
    stage = part_of(final)
    stage.mkdir(parents=True)
    try:
        yield stage
    finally:
        if stage.exists():
            shutil.rmtree(stage)


def _is_dead(path: Path, host: str, pid: str, start: str) -> bool:
    if host == _host():
        return process_start(int(pid)) != start
    return time.time() - _last_change(path) > _SILENCE


def _last_change(path: Path) -> float:
    """Time of the newest file at or below ``path``; the current time if it is being removed."""
    paths = [path, *(Path(top, name) for top, _, names in os.walk(path) for name in names)]
    try:
        return max(entry.lstat().st_mtime for entry in paths)
    except FileNotFoundError:
        return time.time()


def remove(path: Path) -> None:
    """Remove a file or a folder; another process may do so at the same time."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
