"""A command's own files in a folder that the user names: nothing else is replaced or removed.

A small hidden list in the folder names what earlier runs wrote there. A file that it does not name
is somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypedDict

from lunet.errors import ConfigError
from lunet.files import write_json
from lunet.reading import read_record


class _Marker(TypedDict):
    files: list[str]


MARKER = ".lunet-files.json"


def claim(
    folder: str | Path,
    names: Sequence[str],
    *,
    inputs: Iterable[str | Path] = (),
    former: Iterable[str] = (),
) -> list[str]:
    """Check that ``names`` may be written into ``folder``, and note there that they are ours.

    The folder is made where it is missing. The note comes before the files, so that a run that was
    killed is recognised by the next one.

    Parameters
    ----------
    names
        Files that are about to be written, relative to the folder.
    inputs
        Files that are read; no output may be one of them, under whatever name or link.
    former
        Further files that an earlier run is known to have written here.

    Returns
    -------
    Files of earlier runs in the folder that are not among ``names``: these may be removed.

    Raises
    ------
    ConfigError
        If an output is an input, or exists and was not written by an earlier run. Nothing has been
        written then.
    """
    folder = Path(folder)
    own = {*_listed(folder), *filter(_is_inside, former)}
    read = {key for path in inputs if (key := _identity(Path(path)))}
    for name in names:
        path = folder / name
        if _identity(path) in read and read:
            raise ConfigError(
                "--out", f"{path} is an input", "inputs stay as they are", "Name another folder"
            )
        if (path.exists() or path.is_symlink()) and name not in own:
            raise ConfigError(
                "--out",
                f"{path} exists and was not written by this command",
                "a folder that is new, empty or its own",
                "Name another folder",
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MARKER, {"files": sorted(own | set(names))})
    return sorted(name for name in own - set(names) if (folder / name).is_file())


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells one file from another, through links and spellings; None if there is none."""
    if not path.exists():
        return None
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino


def _listed(folder: Path) -> list[str]:
    path = folder / MARKER
    if not path.is_file():
        return []
    return [name for name in read_record(path, _Marker)["files"] if _is_inside(name)]


def _is_inside(name: str) -> bool:
    """Whether a listed name stays in the folder; a list may come from somebody else."""
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts
