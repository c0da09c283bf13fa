"""The audit as one self-contained HTML page: findings, thumbnails, histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from lunet.data.audit.findings import COLUMNS, SEVERITIES, CaseFacts, Finding, counts, times
from lunet.data.audit.pictures import data_uri
from lunet.data.dataset import Dataset

# A page of more thumbnails than this is slow to open; cases with findings come first.
SHOWN = 240
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:80rem;padding:0 1rem;color:#222}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;font-size:.85rem;width:100%}
td,th{border-bottom:1px solid #ddd;padding:.25rem .5rem;text-align:left;vertical-align:top}
td{overflow-wrap:anywhere}.error{color:#a40000;font-weight:600}.warning{color:#8a5a00}
.info{color:#456}.cases{display:flex;flex-wrap:wrap;gap:.8rem}
figure{margin:0;border:1px solid #ddd;padding:.4rem;font-size:.75rem;max-width:20rem}
figure.error{border-color:#a40000}figure.warning{border-color:#c98a00}
figcaption{font-weight:400;color:#222}img{height:120px;display:block}svg{display:block}
"""
_LEGEND = (
    "<p>Axial slice with the most foreground of the first channel, true proportions, anterior up; "
    "outlines by class. Below: histogram between the percentiles 0.5 and 99.5.</p>"
)


def audit_page(dataset: Dataset, findings: Sequence[Finding], facts: Sequence[CaseFacts]) -> str:
    """The whole page as text; no file beside it and no network is needed."""
    count = counts(findings)
    verdict = ", ".join(f'<span class="{name}">{count[name]} {name}</span>' for name in SEVERITIES)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Audit of '
        f"{escape(dataset.name)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Audit of {escape(dataset.name)}</h1><p>{_overview(dataset)}</p><p>{verdict}</p>",
        _table(findings),
        "<h2>Cases</h2>",
        _LEGEND,
        _gallery(findings, facts),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _overview(dataset: Dataset) -> str:
    labelled = sum(case.labelled for case in dataset.cases)
    groups = len({case.group for case in dataset.cases})
    labels = ", ".join(f"{name} = {index}" for name, index in dataset.task.labels.items())
    return escape(
        f"{len(dataset.cases)} cases ({labelled} labelled) of {groups} groups; "
        f"channels: {', '.join(dataset.task.channels)}; labels: {labels}"
    )


def _table(findings: Sequence[Finding]) -> str:
    if not findings:
        return "<p>Nothing was found.</p>"
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "\n".join(_row(finding.as_row()) for finding in findings)
    return f"<h2>Findings</h2><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"


def _row(row: dict[str, str]) -> str:
    cells = [f'<td class="{row["severity"]}">{row["severity"]}</td>']
    cells += [f"<td>{escape(row[name])}</td>" for name in COLUMNS[1:]]
    return f"<tr>{''.join(cells)}</tr>"


def _gallery(findings: Sequence[Finding], facts: Sequence[CaseFacts]) -> str:
    worst: dict[str, int] = {}
    for finding in findings:
        rank = SEVERITIES.index(finding.severity)
        worst[finding.case] = min(rank, worst.get(finding.case, rank))
    ranked = sorted(facts, key=lambda case: (worst.get(case.id, len(SEVERITIES)), case.id))
    figures = [_figure(case, worst.get(case.id)) for case in ranked[:SHOWN]]
    rest = len(ranked) - len(figures)
    note = f"<p>{rest} further cases are not shown.</p>" if rest else ""
    return f'<div class="cases">{"".join(figures)}</div>{note}'


def _figure(case: CaseFacts, rank: int | None) -> str:
    kind = SEVERITIES[rank] if rank is not None else ""
    picture = ""
    if case.thumbnail is not None:
        picture = f'<img alt="slice of {escape(case.id)}" src="{data_uri(case.thumbnail)}">'
    text = "<br>".join(_facts(case))
    bars = "".join(_histogram(channel.histogram) for channel in case.channels)
    return f'<figure class="{kind}">{picture}{bars}<figcaption>{text}</figcaption></figure>'


def _facts(case: CaseFacts) -> Iterator[str]:
    yield f"<b>{escape(case.id)}</b> ({escape(case.group)})"
    spacing = times([round(size, 3) for size in case.spacing])
    yield f"{times(case.shape)} voxels, {spacing} mm, {case.axes}"
    for channel in case.channels:
        yield f"{channel.dtype}, {channel.minimum:.5g} to {channel.maximum:.5g}"
    if case.label:
        yield ", ".join(f"{index}: {ml:.3g} ml" for index, ml in case.label.volumes.items())


def _histogram(bins: Iterable[int]) -> str:
    """Bars as an inline SVG; heights by the square root, so that small counts are seen."""
    heights = [value**0.5 for value in bins]
    top = max(heights, default=0) or 1
    width, height = 3, 30
    path = "".join(
        f"M{index * width} {height}v{-height * value / top:.1f}h{width}V{height}z"
        for index, value in enumerate(heights)
    )
    total = width * len(heights)
    return (
        f'<svg width="{total}" height="{height}" role="img" aria-label="histogram">'
        f'<path d="{path}" fill="#567"/></svg>'
    )
