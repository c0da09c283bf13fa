"""The user's files are never lost: a step replaces and removes what it wrote itself, nothing else.

A small hidden list in each folder names the files that steps wrote there, which step wrote each,
its length and digest. A file that it does not name is somebody else's, and so is one that has
changed since (a mask that an expert corrected) and one that is read. One that was only touched or
copied is still the step's own, and the list of a command that is repeated is the same.
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
_ASIDE = {MARKER, ".snakemake_timestamp", ".checked.jsonl", ".DS_Store", "Thumbs.db"}
"""Marks and memories of tools and of readers of prepared volumes; they are nobody's work."""
_ADVICE = "Name another folder"
_LARGEST = 16 << 20
"""Bytes of the largest file whose digest is noted."""
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""File systems without locks (Lustre may be mounted so): a file may then be missing in a list."""


@dataclass(frozen=True)
class Entry:
    """A file of ours: the step that wrote it, its bytes and digest; None while it is being written.

    Files above 16 MiB have no digest: masks and tables are smaller, and to read all prepared
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
    """The content of the list."""

    files: dict[str, _Entry]


Files = dict[str, Entry]
"""File, relative to the folder, and what is known of it."""


@contextmanager
def claim(
    folder: str | Path,
    names: Sequence[str],
    *,
    step: str,
    inputs: Iterable[str | Path] = (),
    alone: bool = False,
) -> Iterator[list[str]]:
    """Check that ``step`` may write ``names`` into ``folder``, and list them there as its own.

    The folder is made where it is missing, and gone again if nothing was written. The list is
    written before the files, so that those of a run that was killed are recognised by the next one,
    and again when the block ends. What a dead process left half-written of them is removed.

    Parameters
    ----------
    names
        Files that are about to be written, relative to the folder.
    step
        Who writes them: a step replaces its own files only.
    inputs
        Files that are read; no output may be one of them, under whatever name or link.
    alone
        Whether the folder must hold nothing but files that steps wrote.

    Yields
    ------
    Files of earlier runs of the step that are not among ``names``: these may be removed, by
    :func:`discard`.

    Raises
    ------
    ConfigError
        If an output is an input, or a file of somebody else. Nothing has been written then.
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
    """:func:`claim` for single files, each in its own folder."""
    read = list(inputs)
    outputs = [Path(path).absolute() for path in paths]
    with ExitStack() as stack:
        for folder in dict.fromkeys(path.parent for path in outputs):
            names = [path.name for path in outputs if path.parent == folder]
            stack.enter_context(claim(folder, names, step=step, inputs=read))
        yield


def discard(folder: str | Path, names: Iterable[str], *, step: str) -> None:
    """Remove files of ``step`` and take them off the list; all others stay."""
    place = Path(folder)
    with _changing(place) as files:
        for name in names:
            entry, path = files.get(name), place / name
            if entry and entry.step == step and not path.is_dir() and _is_as_written(path, entry):
                path.unlink(missing_ok=True)
                del files[name]


def require_own(folder: str | Path, *, step: str, inputs: Iterable[str | Path] = ()) -> None:
    """Check that ``folder`` is new, empty or holds files of ``step`` alone, none of them read.

    Raises
    ------
    ConfigError
        If it is a file, an input, or holds anything else; the message names it.
    """
    known = _listed(Path(folder))
    own = {name: entry for name, entry in known.items() if entry.step == step}
    _refuse_foreign(Path(folder), own, list(inputs))


@contextmanager
def renewed(out: str | Path, *, step: str, inputs: Iterable[str | Path] = ()) -> Iterator[Path]:
    """A new folder that becomes ``out``, with the list of its files, when the block ends well.

    After an error, and after a kill by the next start, nothing of it is left.

    Raises
    ------
    ConfigError
        If ``out`` holds anything that ``step`` did not write, or is read (:func:`require_own`).
    """
    read = list(inputs)
    require_own(out, step=step, inputs=read)
    final = real_path(out)
    with staged(final) as stage, staged(final.with_name(f"{final.name}.old")) as grave:
        yield stage
        list_all(stage, step=step)
        require_own(out, step=step, inputs=read)  # minutes may have passed
        if final.exists():
            os.rename(final, grave)
        os.rename(stage, final)


def list_all(folder: str | Path, *, step: str) -> None:
    """List every file in a folder that ``step`` has just filled."""
    place = Path(folder)
    _write(place, _measured(place, _files_in(place), step))


def is_own(path: str | Path, *, step: str) -> bool:
    """Whether ``step`` wrote a file that is there, and nobody has changed it since."""
    place = Path(path)
    entry = _listed(place.parent).get(place.name)
    own = entry is not None and entry.step == step and _is_as_written(place, entry)
    return own and os.path.lexists(place)


def refuse_same(out: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise :class:`ConfigError` if ``out`` is an input, under whatever name or link."""
    here = _identity(Path(out))
    if here is not None and here in map(_identity, map(Path, inputs)):
        raise _is_input(Path(out))


def _refuse_inputs(folder: Path, inputs: Iterable[str | Path]) -> None:
    """Raise if an input is ``folder`` or lies in it."""
    here = real_path(folder)
    for path in inputs:
        # the name is looked at too: a folder of links is read through its links
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
    """Raise unless the folder is missing, or holds ``known`` files alone and no input."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ConfigError(
            where="--out",
            found=f"{folder} is a file",
            expected="a folder is written",
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
        expected="inputs stay as they are",
        action=_ADVICE,
    )


def _foreign(path: Path, entry: Entry | None) -> ConfigError:
    who = "was not written by this command"
    if entry:
        changed = not path.is_dir() and not _is_as_written(path, entry)
        who = f"was {'changed after' if changed else 'written by'} `lunet {entry.step}`"
        who += " wrote it" if changed else ""
    expected = "a folder that is new, empty or its own"
    return ConfigError(
        where="--out", found=f"{path} exists and {who}", expected=expected, action=_ADVICE
    )


def _identity(path: Path | int) -> tuple[int, int] | None:
    """What tells one file from another, through links and spellings; None if there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _is_as_written(path: Path, entry: Entry) -> bool:
    """Whether a file (or a link) is as its writer left it; a missing one is."""
    if entry.size is None or not os.path.lexists(path):
        return True
    if path.lstat().st_size != entry.size:
        return False
    return entry.sha256 is None or _digest(path) == entry.sha256


def _measured(folder: Path, names: Iterable[str], step: str) -> Files:
    """What is noted of the files that were written; what was never written is not listed."""
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
    """Files and links below a folder, relative to it, but for those that nobody misses."""
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_aside(name))
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        for name in sorted([*files, *links]):
            if not _is_aside(name):
                yield Path(top, name).relative_to(folder).as_posix()


def _is_aside(name: str) -> bool:
    """Marks of tools, locks of this package, and files that are being written."""
    is_lock = name.startswith(".") and name.endswith(".lock")
    return name in _ASIDE or is_lock or name.startswith((".part-", ".nfs"))


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
    # it may come from somebody else, so no name leads out of the folder
    inside = (name for name in named if not name.startswith("/") and ".." not in name)
    return {name: _entry(named[name]) for name in inside}


def _entry(noted: _Entry) -> Entry:
    return Entry(noted["step"], noted["size"], noted.get("sha256"))


def _write(folder: Path, files: Files) -> None:
    write_json(folder / MARKER, {"files": {name: asdict(files[name]) for name in files}})


@contextmanager
def _changing(folder: Path) -> Iterator[Files]:
    """The list of a folder, written when the block ends; other processes wait meanwhile."""
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
    """Descriptor of the file that ``path`` names while the lock is held: renames replace it."""
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
