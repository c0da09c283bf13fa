"""Protect the user's files: a step replaces and removes only files that it wrote itself.

A small hidden list in each folder names the files that steps wrote there, with the step, the length
and the digest of each. A step may not touch a file that is not on the list, a file that has changed
since it was written (a mask that an expert corrected), or one of its own inputs. A file that was
only touched or copied is still the step's own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from lunet.errors import ConfigError, DataError
from lunet.files import real_path, sha256, write_json
from lunet.leftovers import remove_leftovers, staged
from lunet.reading import read_record

MARKER = ".lunet-files.json"
_IGNORED = {MARKER, ".snakemake_timestamp", ".checked.jsonl", ".DS_Store", "Thumbs.db"}
"""Files that tools create for themselves; losing them costs nobody any work."""
_ADVICE = "Name another folder"
_LARGEST = 16 << 20
"""Bytes of the largest file whose digest is noted."""
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""Errors of file systems without locks (Lustre, for example); a list may then miss a file."""


@dataclass(frozen=True)
class Entry:
    """A file on the list: its step, its size in bytes (None while writing) and its digest.

    Files above 16 MiB have no digest: masks and tables are smaller, and reading all prepared
    volumes again takes long.
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


@contextmanager
def claim(
    folder: str | Path,
    names: Sequence[str],
    *,
    step: str,
    inputs: Iterable[str | Path] = (),
    alone: bool = False,
) -> Iterator[list[str]]:
    """Check that ``step`` may write ``names`` into ``folder``, and list them as its own.

    A missing folder is created, and removed again if nothing was written. The list is written
    before the files, so that the next run recognises the files of a run that was killed, and again
    when the block ends. Temporary files that dead processes left are removed.

    Parameters
    ----------
    names
        Files that are about to be written, relative to the folder.
    step
        The step that writes them; it replaces only its own files.
    inputs
        Files that are read; no output may be one of them, whatever its name or link.
    alone
        Whether the folder must hold only files that steps wrote.

    Yields
    ------
    Files of earlier runs of the step that are not among ``names``; :func:`discard` removes them.

    Raises
    ------
    ConfigError
        If an output is an input, or exists and was not written by the step. In that case nothing
        was written.
    """
    place, read = Path(folder), list(inputs)
    known = _listed(place)
    if alone:
        _refuse_foreign(place, known, read)
    own = {name: entry for name, entry in known.items() if entry.step == step}
    _check_outputs(place, names, own, read)
    is_new = not place.exists()
    place.mkdir(parents=True, exist_ok=True)
    _begin(place, names, step)
    try:
        yield sorted(name for name in own if name not in names and os.path.lexists(place / name))
    finally:
        measured = _measured(place, names, step)
        with _changing(place) as files:
            for name in names:
                files.pop(name, None)
            files |= measured
        if is_new and not any(place.iterdir()):
            place.rmdir()


@contextmanager
def claim_files(
    paths: Sequence[str | Path], *, step: str, inputs: Iterable[str | Path] = ()
) -> Iterator[None]:
    """Like :func:`claim`, for files in any number of folders."""
    read = list(inputs)
    outputs = [Path(path).absolute() for path in paths]
    with ExitStack() as stack:
        for folder in dict.fromkeys(path.parent for path in outputs):
            names = [path.name for path in outputs if path.parent == folder]
            stack.enter_context(claim(folder, names, step=step, inputs=read))
        yield


def discard(folder: str | Path, names: Iterable[str], *, step: str) -> None:
    """Remove files of ``step`` from the folder and the list; all other files stay."""
    place = Path(folder)
    with _changing(place) as files:
        for name in names:
            entry, path = files.get(name), place / name
            if entry and entry.step == step and not path.is_dir() and _is_as_written(path, entry):
                path.unlink(missing_ok=True)
                del files[name]


def require_own(folder: str | Path, *, step: str, inputs: Iterable[str | Path] = ()) -> None:
    """Check that ``folder`` is new, empty, or holds only files of ``step`` and no input.

    Raises
    ------
    ConfigError
        If it is a file or an input, or holds anything else, which the message names.
    """
    known = _listed(Path(folder))
    own = {name: entry for name, entry in known.items() if entry.step == step}
    _refuse_foreign(Path(folder), own, list(inputs))


@contextmanager
def renewed(out: str | Path, *, step: str, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """Yield a new folder that replaces ``out``, list included, if the block ends without an error.

    After an error the new folder is removed; after a kill, the next start removes it.

    Raises
    ------
    ConfigError
        If ``out`` is an input or holds anything that ``step`` did not write (:func:`require_own`).
    """
    read = list(inputs)
    require_own(out, step=step, inputs=read)
    final = real_path(out)
    with staged(final) as stage, staged(final.with_name(f"{final.name}.old")) as grave:
        yield stage
        list_all(stage, step=step)
        require_own(out, step=step, inputs=read)  # again, because minutes may have passed
        if final.exists():
            os.rename(final, grave)
        os.rename(stage, final)


def list_all(folder: str | Path, *, step: str) -> None:
    """List every file in a folder that ``step`` has just filled."""
    place = Path(folder)
    _write(place, _measured(place, _files_in(place), step))


def is_own(path: str | Path, *, step: str) -> bool:
    """Whether a file exists, was written by ``step`` and has not changed since."""
    place = Path(path)
    entry = _listed(place.parent).get(place.name)
    own = entry is not None and entry.step == step and _is_as_written(place, entry)
    return own and os.path.lexists(place)


def refuse_same(out: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise :class:`ConfigError` if ``out`` is an input, whatever its name or link."""
    here = _identity(Path(out))
    if here is not None and here in map(_identity, map(Path, inputs)):
        raise _is_input(Path(out))


def _refuse_inputs(folder: Path, inputs: Iterable[str | Path]) -> None:
    """Raise if an input is ``folder`` or lies in it."""
    here = real_path(folder)
    for path in inputs:
        # the path itself counts, too: a folder of links is read through its links
        places = (Path(path).absolute(), real_path(path))
        if any(place == here or here in place.parents for place in places):
            raise _is_input(Path(path))


def _check_outputs(
    folder: Path, names: Sequence[str], own: Files, inputs: Iterable[str | Path]
) -> None:
    read = {key for path in inputs if (key := _identity(Path(path)))}
    for name in names:
        path = folder / name
        if _identity(path) in read:
            raise _is_input(path)
        if os.path.lexists(path):
            if name not in own or path.is_dir():
                raise _foreign(path, _listed(folder).get(name))
            if not _is_as_written(path, own[name]):
                raise _foreign(path, own[name])


def _refuse_foreign(folder: Path, known: Files, inputs: Iterable[str | Path]) -> None:
    """Raise unless the folder is missing, or holds only ``known`` files and no input."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ConfigError(
            where="--out",
            found=f"{folder} is a file",
            expected="a folder is needed",
            action=_ADVICE,
        )
    _refuse_inputs(folder, inputs)
    for name in _files_in(folder):
        if name not in known or not _is_as_written(folder / name, known[name]):
            raise _foreign(folder / name, _listed(folder).get(name))


def _begin(folder: Path, names: Sequence[str], step: str) -> None:
    for parent in {Path(name).parent for name in names}:
        here = {Path(name).name for name in names if Path(name).parent == parent}
        remove_leftovers(folder / parent, here)
    with _changing(folder) as files:
        files |= dict.fromkeys(names, Entry(step))


def _is_input(path: Path) -> ConfigError:
    return ConfigError(
        where="--out",
        found=f"{path} is an input",
        expected="inputs are never overwritten",
        action=_ADVICE,
    )


def _foreign(path: Path, entry: Entry | None) -> ConfigError:
    why = "was not written by this command"
    if entry:
        changed = not path.is_dir() and not _is_as_written(path, entry)
        why = f"was {'changed after' if changed else 'written by'} `lunet {entry.step}`"
        why += " wrote it" if changed else ""
    expected = "the folder must be new, empty, or written by this command"
    return ConfigError(
        where="--out", found=f"{path} exists and {why}", expected=expected, action=_ADVICE
    )


def _identity(path: Path | int) -> tuple[int, int] | None:
    """Device and number of a file, the same for all its links; None if it does not exist."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _is_as_written(path: Path, entry: Entry) -> bool:
    """Whether a file or link is as it was written; true if it is missing."""
    if entry.size is None or not os.path.lexists(path):
        return True
    if path.lstat().st_size != entry.size:
        return False
    return entry.sha256 is None or _digest(path) == entry.sha256


def _measured(folder: Path, names: Iterable[str], step: str) -> Files:
    """The entries of those files that exist."""
    found: Files = {}
    for name in names:
        path = folder / name
        if os.path.lexists(path):
            found[name] = Entry(step, path.lstat().st_size, _digest(path))
    return found


def _digest(path: Path) -> str | None:
    """Digest of a file's bytes or of a link's target; None for large and unreadable files."""
    if path.is_symlink():
        return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
    try:
        is_short = path.is_file() and path.stat().st_size <= _LARGEST
        return sha256(path) if is_short else None
    except OSError:
        return None


def _files_in(folder: Path) -> Iterator[str]:
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


def _listed(folder: Path) -> Files:
    path = folder / MARKER
    if not os.path.lexists(path):
        return {}
    if path.is_symlink():
        raise DataError(
            where=path, found="is a link", expected="a list that lunet wrote", action="Remove it"
        )
    if path.stat().st_size == 0:
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


def _entry(noted: _Entry) -> Entry:
    return Entry(noted["step"], noted["size"], noted.get("sha256"))


def _write(folder: Path, files: Files) -> None:
    write_json(folder / MARKER, {"files": {name: asdict(files[name]) for name in files}})


@contextmanager
def _changing(folder: Path) -> Iterator[Files]:
    """Yield the list of a folder and write it when the block ends; other processes wait."""
    descriptor = _locked(folder / MARKER)
    try:
        files = _listed(folder)
        before = dict(files)
        yield files
        if files and files != before:
            _write(folder, files)
        elif not files:
            (folder / MARKER).unlink()
    finally:
        os.close(descriptor)  # frees the lock as well


def _locked(path: Path) -> int:
    """Lock the file that ``path`` names and return its descriptor; retry if it was replaced."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if _identity(path) == _identity(descriptor):
            return descriptor
        os.close(descriptor)
