"""Tables read back from the Markdown files that :mod:`lunet.reporting.markup` writes."""

from __future__ import annotations

import re
from pathlib import Path

from lunet.errors import DataError
from lunet.reporting.markup import Cell, Column, Table

_INTERVAL = re.compile(r"^(?P<value>.+?) (?P<interval>\[[^\[\]]*\])$")


def read_table(path: Path) -> Table:
    """A printed table; its ``records`` stay empty, they are in the CSV beside it.

    Raises
    ------
    DataError
        If the file holds no table.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    body = [line for line in lines if line.startswith("|")]
    if len(body) < 2:
        raise DataError(path, "no table", "a Markdown table of `lunet table` is needed")
    heads, rule, *rows = [_words(line) for line in body]
    columns = tuple(
        Column(head, text=not dashes.endswith(":"))
        for head, dashes in zip(heads, rule, strict=True)
    )
    first, last = lines.index(body[0]), len(lines) - 1 - lines[::-1].index(body[-1])
    return Table(
        name=path.stem,
        caption=" ".join(lines[:first]).strip(),
        columns=columns,
        rows=tuple(tuple(map(_cell, row)) for row in rows),
        records=(),
        note=" ".join(lines[last + 1 :]).strip(),
    )


def _words(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.strip())[1:-1]
    return [part.strip().replace("\\|", "|") for part in parts]


def _cell(text: str) -> Cell:
    bold = len(text) > 4 and text.startswith("**") and text.endswith("**")
    text = text[2:-2] if bold else text
    match = _INTERVAL.fullmatch(text)
    lines = (match["value"], match["interval"]) if match else (text,)
    return Cell(lines, bold)
