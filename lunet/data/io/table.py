"""Reads text tables (CSV) as spreadsheets of any country write them; used for listings.

Standard library only.
"""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from lunet.errors import DataError

_SEPARATORS = (",", ";", "\t")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
Row = dict[str, str]


def read_table(path: Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of a table with a header; cells are stripped of surrounding blanks.

    The encoding is UTF-8, UTF-16 with a byte-order mark, or else the Western code page of Windows
    (cp1252). The separator is the comma, semicolon or tab, whichever the header has most of.

    Raises
    ------
    DataError
        If the file is missing or not text, or a row has more cells than the header.
    """
    text = _decoded(path)
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    try:
        rows = [
            [cell.strip() for cell in row]
            for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
            if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DataError(
            where=path, found=f"is not a table ({error})", expected="CSV with a header"
        ) from error
    if not rows:
        return [], []
    columns, *body = rows
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise DataError(
            where=path,
            found=f"two columns {twice[0]!r}",
            expected="every column needs its own name",
        )
    for number, row in enumerate(body, start=2):
        if len(row) > len(columns):
            found = f"{len(row)} cells"
            raise DataError(
                where=f"{path}, row {number}",
                found=found,
                expected=f"the header has {len(columns)}",
            )
    return columns, [dict(zip(columns, row, strict=False)) for row in body]


def _decoded(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(where=path, found="the file is missing", expected="a CSV table") from error
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), None)
    if marked is None and b"\0" in content:
        raise DataError(
            where=path,
            found="is not text",
            expected="CSV in UTF-8",
            action="Save it as CSV in UTF-8",
        )
    try:
        return content.decode(marked or "utf-8")
    except UnicodeDecodeError as error:
        if marked:
            raise DataError(
                where=path, found=f"is not text ({error})", expected="CSV in UTF-8"
            ) from error
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise DataError(
            where=path,
            found=f"is not text ({error})",
            expected="CSV in UTF-8",
            action="Save it as CSV in UTF-8",
        ) from error
