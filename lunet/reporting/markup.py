"""A table as plain data, and its file formats: CSV (full precision), JSON, Markdown, LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lunet.errors import DataError
from lunet.files import write_csv, write_json, write_text
from lunet.pages import markdown_text
from lunet.reading import read_object
from lunet.reporting.latex import latex
from lunet.reporting.numbers import stored


@dataclass(frozen=True)
class Cell:
    """The lines of a cell (a value and, below it, its interval), and whether it is bold."""

    lines: tuple[str, ...]
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the printed table; its title includes the unit."""

    title: str
    text: bool = False


@dataclass(frozen=True)
class Table:
    """A table for readers (``columns``, ``rows``) with its numbers for programs (``records``)."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    records: tuple[Mapping[str, Any], ...]
    note: str = ""


def cell(*lines: object, bold: bool = False) -> Cell:
    """A cell of one or more lines."""
    return Cell(tuple(str(line) for line in lines), bold)


def write(table: Table, base: str | Path) -> list[Path]:
    """Write ``BASE.csv``, ``BASE.md``, ``BASE.tex`` and ``BASE.json``; returns the paths."""
    paths = [Path(f"{base}.{suffix}") for suffix in ("csv", "md", "tex", "json")]
    names = list(dict.fromkeys(key for record in table.records for key in record))
    records = ({key: stored(value) for key, value in r.items()} for r in table.records)
    write_csv(paths[0], names or [column.title for column in table.columns], records)
    write_text(paths[1], markdown(table))
    write_text(paths[2], latex(table))
    write_json(paths[3], as_json(table))
    return paths


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: caption, table, note."""
    heads = [markdown_text(column.title) for column in table.columns]
    rule = ["---" if column.text else "---:" for column in table.columns]
    rows = [[_markdown_cell(item) for item in row] for row in table.rows]
    lines = [f"| {' | '.join(words)} |" for words in (heads, rule, *rows)]
    note = f"\n{markdown_text(table.note)}\n" if table.note else ""
    return f"{markdown_text(table.caption)}\n\n" + "\n".join(lines) + f"\n{note}"


def _markdown_cell(item: Cell) -> str:
    text = " ".join(map(markdown_text, item.lines))
    return f"**{text}**" if item.bold else text


def as_json(table: Table) -> dict[str, Any]:
    """The table with its numbers as plain JSON values, which :func:`read_table` reads back."""
    return {
        "name": table.name,
        "caption": table.caption,
        "columns": [{"title": column.title, "text": column.text} for column in table.columns],
        "rows": [[{"lines": item.lines, "bold": item.bold} for item in row] for row in table.rows],
        "records": [_plain_record(record) for record in table.records],
        "note": table.note,
    }


def _plain_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers as in the CSV file; NaN and infinity become null."""
    plain = {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in record.items()
    }
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else stored(value)
        for key, value in plain.items()
    }


def read_table(path: Path) -> Table:
    """Read a table that :func:`write` wrote as JSON.

    Raises
    ------
    DataError
        If the file is missing, is not JSON or holds no table.
    """
    content = read_object(path)
    try:
        table = Table(
            name=str(content["name"]),
            caption=str(content["caption"]),
            columns=tuple(Column(str(c["title"]), bool(c["text"])) for c in content["columns"]),
            rows=tuple(tuple(map(_read_cell, row)) for row in content["rows"]),
            records=tuple(dict(record) for record in content["records"]),
            note=str(content["note"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            where=path, found=f"is not a table ({error!r})", expected="`lunet table` writes one"
        ) from error
    if any(len(row) != len(table.columns) for row in table.rows):
        raise DataError(
            where=path,
            found="has rows that are longer or shorter than its header",
            expected="`lunet table` writes such a file",
        )
    return table


def _read_cell(value: Mapping[str, Any]) -> Cell:
    return Cell(tuple(map(str, value["lines"])), bool(value["bold"]))
