"""A table as plain data, and its forms: CSV (full numbers), Markdown, LaTeX (booktabs), HTML."""

from __future__ import annotations

import html as escaping
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.errors import DataError
from lunet.files import write_csv, write_text
from lunet.reading import read_text
from lunet.reporting.numbers import stored


@dataclass(frozen=True)
class Cell:
    """One cell: its lines (a value, its interval below), and whether tests allow it in bold."""

    lines: tuple[str, ...]
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the printed table; the title names the unit."""

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
    """Write ``BASE.csv``, ``BASE.md`` and ``BASE.tex``; returns the paths."""
    paths = [Path(f"{base}.{suffix}") for suffix in ("csv", "md", "tex")]
    names = list(dict.fromkeys(key for record in table.records for key in record))
    records = ({key: stored(value) for key, value in r.items()} for r in table.records)
    write_csv(paths[0], names or [column.title for column in table.columns], records)
    write_text(paths[1], markdown(table))
    write_text(paths[2], latex(table))
    return paths


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown: caption, table, note."""
    heads = [_plain(column.title) for column in table.columns]
    rule = ["---" if column.text else "---:" for column in table.columns]
    rows = [[_markdown_cell(item) for item in row] for row in table.rows]
    lines = [f"| {' | '.join(words)} |" for words in (heads, rule, *rows)]
    note = f"\n{table.note}\n" if table.note else ""
    return f"{table.caption}\n\n" + "\n".join(lines) + f"\n{note}"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _markdown_cell(item: Cell) -> str:
    text = " ".join(_plain(line) for line in item.lines)
    return f"**{text}**" if item.bold else text


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "[": "{[}",  # a bracket at the start of a row would be an option of the \\ before it
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "α": r"$\alpha$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
}


def latex_escape(text: str) -> str:
    """Text with LaTeX's special characters, and the signs that tables use, written safely."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def latex(table: Table) -> str:
    """A ``table`` float for the ``booktabs`` package; it compiles with pdfLaTeX."""
    kinds = "".join("l" if column.text else "r" for column in table.columns)
    head = " & ".join(latex_escape(column.title) for column in table.columns)
    body = [line for row in table.rows for line in _latex_rows(row)]
    note = [rf"\par\smallskip\footnotesize {latex_escape(table.note)}"] if table.note else []
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table}[tbp]",
        r"  \centering\small",
        rf"  \caption{{{latex_escape(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"  \begin{{tabular}}{{{kinds}}}",
        r"    \toprule",
        rf"    {head} \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}}",
        *(f"  {line}" for line in note),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(row: Sequence[Cell]) -> list[str]:
    """One printed line per line of the tallest cell, so that no further package is needed."""
    height = max((len(item.lines) for item in row), default=1)
    rows = []
    for index in range(height):
        words = []
        for item in row:
            text = latex_escape(item.lines[index]) if index < len(item.lines) else ""
            words.append(rf"\textbf{{{text}}}" if item.bold and text else text)
        rows.append(" & ".join(words) + r" \\")
    return rows


def html(table: Table) -> str:
    """A ``figure`` with a sortable table; the sort key of a cell is its first line."""
    heads = "".join(
        f'<th scope="col"{_class(column)}><button type="button">{escaping.escape(column.title)}'
        "</button></th>"
        for column in table.columns
    )
    rows = "".join(
        "<tr>" + "".join(map(_html_cell, row, table.columns)) + "</tr>\n" for row in table.rows
    )
    note = f'<p class="note">{escaping.escape(table.note)}</p>' if table.note else ""
    return (
        f'<figure class="table" id="table-{table.name}"><figcaption>'
        f"{escaping.escape(table.caption)}</figcaption>"
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>{note}</figure>\n"
    )


def _class(column: Column) -> str:
    return ' class="text"' if column.text else ""


def _html_cell(item: Cell, column: Column) -> str:
    first, *rest = [escaping.escape(line) for line in item.lines] or [""]
    first = f"<b>{first}</b>" if item.bold else first
    below = "".join(f"<br><small>{line}</small>" for line in rest)
    return f"<td{_class(column)}>{first}{below}</td>"


_WHAT = "a Markdown table of `lunet table`"
_INTERVAL = re.compile(r"^(?P<value>.+?) (?P<interval>\[[^\[\]]*\])$")


def read_table(path: Path) -> Table:
    """A printed table; its ``records`` stay empty, they are in the CSV beside it.

    Raises
    ------
    DataError
        If the file holds no table.
    """
    lines = read_text(path, needed=_WHAT).split("\n")
    body = [line for line in lines if line.startswith("|")]
    if len(body) < 2 or len({len(_words(line)) for line in body}) > 1:
        raise DataError(path, "no table whose rows have equally many cells", f"{_WHAT} is needed")
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
