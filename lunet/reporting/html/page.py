"""What a section of the report is made of, as plain data, and the page around it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lunet.pages import render
from lunet.reporting.markup import Table

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Text:
    """A paragraph (``text``, ``strong``), or a ``heading`` within a section."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Claim:
    """A sentence and the verdict that stands before it."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class Claims:
    """A list of claims."""

    claims: Sequence[Claim]
    kind: str = field(default="claims", init=False)


@dataclass(frozen=True)
class Shown:
    """A table."""

    table: Table
    kind: str = field(default="table", init=False)


@dataclass(frozen=True)
class Picture:
    """A figure with its image inside the page.

    ``address`` is a ``data:`` address; ``rem`` the width on screen, 0 for the image's own;
    ``narrow`` is for one column of a journal.
    """

    name: str
    caption: str
    address: str
    rem: float
    narrow: bool
    kind: str = field(default="picture", init=False)


@dataclass(frozen=True)
class Folded:
    """Parts that open on demand, and on paper."""

    text: str
    parts: Sequence[Block]
    kind: str = field(default="folded", init=False)


Block = Text | Claims | Shown | Picture | Folded


@dataclass(frozen=True)
class Section:
    """A section of the report; ``anchor`` is its address within the page."""

    anchor: str
    head: str
    body: Sequence[Block]


def html_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """A complete HTML document; every text is plain text and is escaped.

    Parameters
    ----------
    title, lead
        Heading and the paragraph below it.
    sections
        What follows, with a table of contents.
    """
    return render("report.html", title=title, lead=lead, sections=sections)


def picture(path: Path, caption: str, *, narrow: bool = False) -> Picture:
    """A figure of an image file, SVG or PNG."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(
        name=path.stem,
        caption=caption,
        address=f"data:{_TYPES[path.suffix]};base64,{content}",
        rem=_rem(path) if path.suffix == ".svg" else 0.0,
        narrow=narrow,
    )


def _rem(path: Path) -> float:
    """Width on screen of a vector figure: two columns of a journal fill the page."""
    match = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', path.read_text(encoding="utf-8"))
    return 68 * min(1.0, float(match[1]) / 518.4) if match else 68.0
