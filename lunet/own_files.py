"""Protect the user's files: a step replaces and removes only files that it wrote itself.

A small hidden list in each folder names the files that steps wrote there, with the step, the length
and the digest of each. A step may not touch a file that is not on the list, a file that has changed
since it was written (a mask that an expert corrected), or one of its own inputs. A file that was
only touched or copied is still the step's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lunet.errors import ConfigError
from lunet.file_list import (
    Entry,
    Files,
    changing,
    files_in,
    is_as_written,
    measured,
    read_list,
    write_list,
)
from lunet.files import identity, real_path
from lunet.leftovers import remove_leftovers, staged

_ADVICE = "Name another folder"


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
    if alone:
        _refuse_unusable(place, read)
    is_new = not place.exists()
    place.mkdir(parents=True, exist_ok=True)
    try:
        own = _begin(place, names, step=step, inputs=read, alone=alone)
        try:
            others = (name for name in own if name not in names)
            yield sorted(name for name in others if os.path.lexists(place / name))
        finally:
            with changing(place) as files:
                for name in names:
                    files.pop(name, None)
                files |= measured(place, names, step)
    finally:
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


def note(folder: str | Path, names: Iterable[str], *, step: str) -> None:
    """List files that the step has finished, before the end of its :func:`claim`.

    A step that takes long may be killed before that. What people then change in its files is only
    protected if they are listed as they were written.
    """
    with changing(Path(folder)) as files:
        files |= measured(Path(folder), names, step)


def discard(folder: str | Path, names: Iterable[str], *, step: str) -> None:
    """Remove files of ``step`` from the folder and the list; all other files stay."""
    place = Path(folder)
    with changing(place) as files:
        for name in names:
            entry, path = files.get(name), place / name
            if entry and entry.step == step and not path.is_dir() and is_as_written(path, entry):
                path.unlink(missing_ok=True)
                del files[name]


def require_own(folder: str | Path, *, step: str, inputs: Iterable[str | Path] = ()) -> None:
    """Check that ``folder`` is new, empty, or holds only files of ``step`` and no input.

    Raises
    ------
    ConfigError
        If it is a file or an input, or holds anything else, which the message names.
    """
    known = read_list(Path(folder))
    own = {name: entry for name, entry in known.items() if entry.step == step}
    _refuse_unusable(Path(folder), list(inputs))
    _refuse_foreign(Path(folder), own)


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
    write_list(place, measured(place, files_in(place), step))


def is_own(path: str | Path, *, step: str) -> bool:
    """Whether a file exists, was written by ``step`` and has not changed since."""
    place = Path(path)
    entry = read_list(place.parent).get(place.name)
    own = entry is not None and entry.step == step and is_as_written(place, entry)
    return own and os.path.lexists(place)


def refuse_same(out: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise :class:`ConfigError` if ``out`` is an input, whatever its name or link."""
    here = identity(Path(out))
    if here is not None and here in map(identity, map(Path, inputs)):
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
    read = {key for path in inputs if (key := identity(Path(path)))}
    for name in names:
        path = folder / name
        if identity(path) in read:
            raise _is_input(path)
        if os.path.lexists(path):
            if name not in own or path.is_dir():
                raise _foreign(path, read_list(folder).get(name))
            if not is_as_written(path, own[name]):
                raise _foreign(path, own[name])


def _refuse_unusable(folder: Path, inputs: Iterable[str | Path]) -> None:
    """Raise if ``folder`` is a file, or is or holds an input."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise ConfigError(
            where="--out",
            found=f"{folder} is a file",
            expected="a folder is needed",
            action=_ADVICE,
        )
    _refuse_inputs(folder, inputs)


def _refuse_foreign(folder: Path, known: Files) -> None:
    """Raise if a folder holds anything but ``known`` files."""
    for name in files_in(folder):
        if name not in known or not is_as_written(folder / name, known[name]):
            raise _foreign(folder / name, read_list(folder).get(name))


def _begin(
    folder: Path, names: Sequence[str], *, step: str, inputs: Sequence[str | Path], alone: bool
) -> Files:
    """Check and list what is about to be written; the files that the step wrote before.

    Both happen under one lock: otherwise a second process of the same step could find a file that
    it had not seen on the list.
    """
    with changing(folder) as files:
        if alone:
            _refuse_foreign(folder, files)
        own = {name: entry for name, entry in files.items() if entry.step == step}
        _check_outputs(folder, names, own, inputs)
        for parent in {Path(name).parent for name in names}:
            here = {Path(name).name for name in names if Path(name).parent == parent}
            remove_leftovers(folder / parent, here)
        files |= dict.fromkeys(names, Entry(step))
    return own


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
        changed = not path.is_dir() and not is_as_written(path, entry)
        why = f"was {'changed after' if changed else 'written by'} `lunet {entry.step}`"
        why += " wrote it" if changed else ""
    expected = "the folder must be new, empty, or written by this command"
    return ConfigError(
        where="--out", found=f"{path} exists and {why}", expected=expected, action=_ADVICE
    )
