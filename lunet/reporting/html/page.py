"""The parts of a report section as plain data, and the page around them."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lunet.pages import render
from lunet.reporting.html.chart import Chart
from lunet.reporting.markup import Table

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


@dataclass(frozen=True)
class Text:
    """A paragraph (``text``, ``strong``), or a ``heading`` within a section."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Claim:
    """A sentence, and the verdict that is printed before it."""

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

    ``address`` is a ``data:`` address and ``rem`` the width on a large screen. ``least`` is the
    width in rem below which the smallest letters would be illegible; a narrower screen scrolls.
    """

    name: str
    caption: str
    address: str
    rem: float
    least: float
    kind: str = field(default="picture", init=False)


@dataclass(frozen=True)
class Folded:
    """Parts that are hidden until the reader opens them; they are always printed."""

    text: str
    parts: Sequence[Block]
    kind: str = field(default="folded", init=False)


Block = Text | Claims | Shown | Picture | Chart | Folded


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
        The sections, which a table of contents lists too.
    """
    return render("report.html", title=title, lead=lead, sections=sections)


def picture(path: Path, caption: str) -> Picture:
    """A figure from an image file, SVG or PNG (300 dots per inch)."""
    content = path.read_bytes()
    points = _points(path.suffix, content)
    return Picture(
        name=path.stem,
        caption=caption,
        address=f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode('ascii')}",
        rem=round(_PAGE * min(1.0, points / _TWO_COLUMNS), 1),
        least=round(points * _LEAST_PX / _SMALLEST_PT / _PX_OF_REM, 1),
    )


_PAGE, _TWO_COLUMNS = 68.0, 518.4
"""Width of the page in rem, and width of a journal's two columns in points; a figure as wide as the
two columns fills the page."""
_SMALLEST_PT, _LEAST_PX, _PX_OF_REM = 6.0, 10.0, 16.0
"""The smallest letters of the figures in points, their least size on a screen in CSS pixels, and
the pixels of one rem."""


def _points(suffix: str, content: bytes) -> float:
    """Width in points at which an image was drawn."""
    if suffix == ".png":
        return int.from_bytes(content[16:20], "big") * 72 / 300
    match = re.search(rb'<svg[^>]*? width="([0-9.]+)pt"', content)
    return float(match[1]) if match else _TWO_COLUMNS
