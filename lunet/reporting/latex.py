"""A table as LaTeX that fits the page: ``p`` columns for long text, landscape for wide tables.

It needs the packages of :data:`PACKAGES` and compiles with pdfLaTeX. Nothing is scaled: the font is
never below ``\\scriptsize`` (7 pt). A table that is longer than a page is split over several pages
(``longtable``, which two-column journals allow only before ``\\twocolumn`` or in a supplement).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lunet.reporting.markup import Cell, Column, Table

PACKAGES = ("array", "booktabs", "longtable", "pdflscape")
_SIGNS = {
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
    "τ": r"$\tau$",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
}
_LONGEST_WORD, _SYLLABLE = 12, 6
"""A word longer than the first number may be broken into pieces of the second number of letters,
and after a sign within it."""
_TALLEST = 1500
"""Most letters of a printed line; LaTeX cannot break a row over two pages."""
_MOST_ROWS = 35
"""Most printed lines of a floating table; a longer table becomes a ``longtable``."""


@dataclass(frozen=True)
class _Page:
    """Line width of the article class, font, and mean width of a letter; widths in pt."""

    width: float
    font: str
    letter: float
    landscape: bool

    def letters(self, columns: int) -> float:
        """Letters that fit on a line after subtracting the space between the columns."""
        return (self.width - columns * _SPACE) / self.letter


_SPACE = 6.0  # pt between columns: twice \tabcolsep
_PAGES = (
    _Page(345.0, r"\footnotesize", 4.5, landscape=False),
    _Page(550.0, r"\footnotesize", 4.5, landscape=True),
    _Page(550.0, r"\scriptsize", 4.1, landscape=True),
)


def latex_escape(text: str) -> str:
    """Text with LaTeX's special characters, and the symbols used in tables, escaped."""
    return "".join(_SIGNS.get(letter, letter) for letter in text)


def latex(table: Table) -> str:
    """The table for ``\\input``: a float if it is short, else a ``longtable``."""
    page, widths = _layout(table)
    body = [line for row in table.rows for line in _rows(row, wrapped=widths is not None)]
    is_long = page.landscape or len(body) > _MOST_ROWS or _letters(table) > 60 * _MOST_ROWS
    lines = _long(table, page, widths, body) if is_long else _floating(table, page, widths, body)
    needed = "".join(rf"\usepackage{{{name}}}" for name in PACKAGES)
    return "\n".join([f"% needs {needed}", *lines]) + "\n"


def _letters(table: Table) -> int:
    return sum(len(line) for row in table.rows for item in row for line in item.lines)


def _layout(table: Table) -> tuple[_Page, list[float] | None]:
    """The page, and each column's share of the line width; None if no text has to be wrapped."""
    natural, numbers, words = (_letters_of(table, pieces) for pieces in (_lines, _numbers, _words))
    if sum(natural) <= _PAGES[0].letters(len(natural)):
        return _PAGES[0], None
    # a number or an interval is broken only if no page is wide enough for it
    fits = [(p, w) for w in (numbers, words) for p in _PAGES if sum(w) <= p.letters(len(w))]
    page, least = fits[0] if fits else (_PAGES[-1], words)
    room = page.letters(len(least))
    if sum(natural) <= room:
        return page, None
    if sum(least) >= room:  # words are broken, but no text is lost
        shares = [width / sum(least) for width in least]
    else:
        # the spare width is shared in proportion to the root of what each column lacks
        lack = [max(0.0, n - w) ** 0.5 for n, w in zip(natural, least, strict=True)]
        spare = (room - sum(least)) / (sum(lack) or 1)
        shares = [(w + spare * part) / room for w, part in zip(least, lack, strict=True)]
    usable = room * page.letter / page.width
    return page, [round(share * usable, 4) for share in shares]


def _letters_of(table: Table, pieces: Callable[[str, Column], Sequence[str]]) -> list[float]:
    """For each column, the width of its widest unbreakable piece in mean letters."""
    return [
        max(
            _ink(column.title) if pieces is _lines else _title(column.title),
            *(
                _ink(piece)
                for row in table.rows
                for line in row[place].lines
                for piece in pieces(line, column)
            ),
            1.0,
        )
        + 0.5
        for place, column in enumerate(table.columns)
    ]


def _lines(line: str, column: Column) -> Sequence[str]:
    return [line]


def _words(line: str, column: Column) -> Sequence[str]:
    return [word[: _LONGEST_WORD + 1] for word in line.split()]


def _numbers(line: str, column: Column) -> Sequence[str]:
    return _words(line, column) if column.text else [line]


def _title(text: str) -> float:
    return min(_SYLLABLE + 3.0, max(map(_ink, text.split()), default=1.0))


def _ink(text: str) -> float:
    """Width of a text in mean letters."""
    return sum(1.6 if letter in "mwM" or letter.isupper() else 1.0 for letter in text)


def _floating(
    table: Table, page: _Page, widths: Sequence[float] | None, body: Sequence[str]
) -> list[str]:
    return [
        r"\begin{table}[tbp]",
        rf"  \centering{page.font}\setlength{{\tabcolsep}}{{{_SPACE / 2:g}pt}}",
        rf"  \caption{{{latex_escape(table.caption)}}}",
        rf"  \label{{tab:{table.name}}}",
        rf"  \begin{{tabular}}{{{_kinds(table, widths)}}}",
        r"    \toprule",
        f"    {_head(table, widths)}",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}",
        *([rf"  \par\smallskip {latex_escape(table.note)}"] if table.note else []),
        r"\end{table}",
    ]


def _long(
    table: Table, page: _Page, widths: Sequence[float] | None, body: Sequence[str]
) -> list[str]:
    head = [r"    \toprule", f"    {_head(table, widths)}", r"    \midrule"]
    lines = [
        rf"{{{page.font}\setlength{{\tabcolsep}}{{{_SPACE / 2:g}pt}}",
        rf"  \begin{{longtable}}{{{_kinds(table, widths)}}}",
        rf"    \caption{{{latex_escape(table.caption)}}}\label{{tab:{table.name}}}\\",
        *head,
        r"    \endfirsthead",
        *head,
        r"    \endhead",
        r"    \bottomrule",
        r"    \endfoot",
        *(f"    {line}" for line in body),
        r"  \end{longtable}",
        *([rf"  \noindent {latex_escape(table.note)}\par"] if table.note else []),
        "}",
    ]
    return [r"\begin{landscape}", *lines, r"\end{landscape}"] if page.landscape else lines


def _kinds(table: Table, widths: Sequence[float] | None) -> str:
    """The column specification; wrapped columns are ragged, so spaces between words stay even."""
    if widths is None:
        return "".join("l" if column.text else "r" for column in table.columns)
    sides = (r"\raggedright" if column.text else r"\raggedleft" for column in table.columns)
    return "".join(
        rf">{{{side}\arraybackslash\hspace{{0pt}}}}p{{{width:.4f}\linewidth}}"
        for side, width in zip(sides, widths, strict=True)
    )


def _head(table: Table, widths: Sequence[float] | None) -> str:
    titles = (column.title for column in table.columns)
    text = (latex_escape(title) if widths is None else _breakable(title) for title in titles)
    return " & ".join(text) + r" \\"


def _rows(row: Sequence[Cell], *, wrapped: bool) -> list[str]:
    """One printed line per line of the tallest cell, kept on one page if possible."""
    columns = [[part for line in item.lines for part in _parts(line)] for item in row]
    height = max(map(len, columns), default=1) or 1
    is_whole = height == max((len(item.lines) for item in row), default=1)
    written = []
    for index in range(height):
        words = []
        for item, lines in zip(row, columns, strict=True):
            line = lines[index] if index < len(lines) else ""
            text = _breakable(line) if wrapped else latex_escape(line)
            words.append(rf"\textbf{{{text}}}" if item.bold and text else text)
        end = r" \\*" if is_whole and index < height - 1 else r" \\"
        written.append(" & ".join(words) + end)
    return written


def _parts(line: str) -> list[str]:
    return textwrap.wrap(line, _TALLEST) if len(line) > _TALLEST else [line]


def _breakable(text: str) -> str:
    """Escaped text whose long words may be broken: names after signs, digests anywhere."""
    return " ".join(map(_breakable_word, text.split(" ")))


def _breakable_word(word: str) -> str:
    if len(word) <= _LONGEST_WORD:
        return latex_escape(word)
    pieces = [
        piece[start : start + _SYLLABLE]
        for piece in re.findall(r"[^_.,:;/=+-]*[_.,:;/=+-]?", word)
        for start in range(0, len(piece), _SYLLABLE)
    ]
    return r"\allowbreak{}".join(map(latex_escape, pieces))
