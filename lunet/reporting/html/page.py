"""The frame of the HTML report: style and script inside, so that one file is all."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

CSS = """
:root { color-scheme: light; --ink: #1b1f23; --soft: #57606a; --line: #d8dee4; --tint: #f6f8fa;
  --accent: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main, header, nav { max-width: 70rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; list-style: none; padding: 0; }
a { color: var(--accent); }
p.soft, .note, figcaption { color: var(--soft); font-size: .88rem; }
figcaption { margin-bottom: .4rem; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { width: 100%; height: auto; display: block; }
figure.narrow img { max-width: 32rem; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-size: .84rem; width: 100%;
  font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { white-space: nowrap; }
th.text, td.text { text-align: left; }
td.long { white-space: normal; min-width: 18rem; overflow-wrap: anywhere; }
td small { color: var(--soft); }
th { background: var(--tint); }
tbody tr { background: #fff; }
tbody tr:nth-child(even) { background: var(--tint); }
td:first-child { position: sticky; left: 0; background: inherit; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0;
  padding: 0; cursor: pointer; text-align: inherit; }
th button::after { content: "\\a0\\2195"; color: #8c959f; }
th[aria-sort="ascending"] button::after { content: "\\a0\\2191"; color: var(--ink); }
th[aria-sort="descending"] button::after { content: "\\a0\\2193"; color: var(--ink); }
ul.claims { list-style: none; padding: 0; margin: .4rem 0; }
ul.claims li { border-left: 4px solid #8c959f; background: var(--tint); padding: .4rem .7rem;
  margin: .4rem 0; border-radius: 0 6px 6px 0; font-size: .92rem; }
ul.claims li.better { border-color: #009e73; } ul.claims li.worse { border-color: #d55e00; }
ul.claims li.non-inferior { border-color: #0072b2; }
ul.claims b { display: inline-block; min-width: 7.2em; }
details { margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
@media print { nav { display: none; } .scroll { overflow: visible; } }
"""

SCRIPT = """
"use strict";
function sortKey(cell) {
  const text = cell.firstChild ? cell.firstChild.textContent.trim() : "";
  const number = text.replace(/,/g, "").replace(/\\u2212/g, "-").replace(/^[<>*]\\s*/, "");
  const value = parseFloat(number);
  return Number.isNaN(value) || /^[A-Za-z_]/.test(number) ? text.toLowerCase() : value;
}
function compare(a, b) {
  if (typeof a === typeof b) { return a < b ? -1 : a > b ? 1 : 0; }
  return typeof a === "number" ? -1 : 1;
}
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[column]), row]);
    rows.sort((a, b) => up ? compare(a[0], b[0]) : compare(b[0], a[0]));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }));
}
"""

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}


def html_page(title: str, lead: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A complete HTML document.

    Parameters
    ----------
    title, lead
        Plain texts of the heading and the paragraph below it.
    sections
        Anchor, heading (both plain text) and body (HTML) of each section.
    """
    links = "".join(
        f'<li><a href="#{anchor}">{html.escape(head)}</a></li>' for anchor, head, _ in sections
    )
    bodies = "".join(
        f'<section id="{anchor}"><h2>{html.escape(head)}</h2>\n{body}</section>\n'
        for anchor, head, body in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        f'<header><h1>{html.escape(title)}</h1><p class="soft">{html.escape(lead)}</p></header>\n'
        f'<nav aria-label="Contents"><ul>{links}</ul></nav>\n<main>\n{bodies}</main>\n'
        f"<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def picture(path: Path, caption: str, *, narrow: bool = False) -> str:
    """A figure with its image inside the page; ``narrow`` for one column of a journal."""
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    kind = ' class="narrow"' if narrow else ""
    width = f' style="width: min(100%, {_rem(path):.1f}rem)"' if path.suffix == ".svg" else ""
    return (
        f'<figure{kind} id="figure-{html.escape(path.stem)}"><figcaption>{html.escape(caption)}'
        f'</figcaption><img loading="lazy"{width} alt="{html.escape(caption)}" '
        f'src="data:{_TYPES[path.suffix]};base64,{content}"></figure>\n'
    )


def _rem(path: Path) -> float:
    """Width on screen of a vector figure: two columns of a journal fill the page."""
    match = re.search(r'<svg[^>]*? width="([0-9.]+)pt"', path.read_text(encoding="utf-8"))
    return 68 * min(1.0, float(match[1]) / 518.4) if match else 68.0


def folded(summary: str, body: str) -> str:
    """A part that opens on demand."""
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>\n"
