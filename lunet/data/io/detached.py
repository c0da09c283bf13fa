"""Headers whose voxels lie in other files: NRRD (``.nhdr``) and MetaImage (``.mhd``)."""

from __future__ import annotations

import re
from pathlib import Path

from lunet.errors import DataError

DETACHED = (".nhdr", ".mhd")
"""Suffixes of headers that usually name a second file; ``.nrrd`` and ``.mha`` may do so too."""
_MOST = 1 << 20  # bytes of a header
_KEY = re.compile(r"(?:data ?file:=?|ElementDataFile\s*=)\s*(.*)", re.IGNORECASE)
_LIST = re.compile(r"LIST(?:\s+\d+D?)?", re.IGNORECASE)
_PATTERN = re.compile(r"(.*%\d*d\S*)(?:\s+-?\d+){3,4}")
_LOCAL = "LOCAL"


def data_files(header: Path) -> list[Path]:
    """The files next to a header that hold its voxels; none if the header's own file does.

    Raises
    ------
    DataError
        If the header names a file in another folder: any file could be read as image data.
    """
    names = _names(_lines(header))
    for name in names:
        if name != Path(name).name or "\\" in name:
            raise DataError(
                where=header,
                found=f"names the file {name[:100]!r}",
                expected="a file in its own folder",
            )
    folder = header.parent
    found = [sorted(folder.glob(n)) if "*" in n else [folder / n] for n in names]
    return [path for paths in found for path in paths]


def _lines(header: Path) -> list[str]:
    with open(header, "rb") as stream:
        text = stream.read(_MOST).decode("latin-1")
    lines = text.splitlines()
    is_nrrd = text.startswith("NRRD")
    end = lines.index("") if is_nrrd and "" in lines else len(lines)
    return lines[:end]


def _names(lines: list[str]) -> list[str]:
    """File names that the data key gives: one, a list in the lines after it, or a pattern."""
    for number, line in enumerate(lines):
        found = _KEY.match(line)
        if not found:
            continue
        value = found[1].strip()
        if value.upper() == _LOCAL:
            return []
        if _LIST.fullmatch(value):
            return [name.strip() for name in lines[number + 1 :] if name.strip()]
        pattern = _PATTERN.fullmatch(value)
        return [re.sub(r"%\d*d", "*", pattern[1])] if pattern else [value]
    return []
