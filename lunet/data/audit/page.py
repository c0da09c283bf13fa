"""The audit as one self-contained HTML page: findings, thumbnails, histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lunet.data.audit.findings import COLUMNS, SEVERITIES, CaseFacts, Finding, counts, times
from lunet.data.audit.pictures import data_uri
from lunet.data.dataset import Dataset
from lunet.pages import render
from lunet.task import Length

# A page of more thumbnails than this is slow to open; cases with findings come first.
SHOWN = 240


def audit_page(dataset: Dataset, findings: Sequence[Finding], facts: Sequence[CaseFacts]) -> str:
    """The whole page as text; it needs no other file and no network."""
    count = counts(findings)
    worst = _worst(findings)
    ranked = sorted(facts, key=lambda case: (worst.get(case.id, len(SEVERITIES)), case.id))
    shown = ranked[:SHOWN]
    return render(
        "audit.html",
        title=f"Audit of {dataset.name}",
        lead=_overview(dataset),
        counts={name: count[name] for name in SEVERITIES},
        columns=COLUMNS,
        findings=[finding.as_row() for finding in findings],
        cases=[_case(case, worst.get(case.id), dataset.unit) for case in shown],
        rest=len(ranked) - len(shown),
    )


def _overview(dataset: Dataset) -> str:
    labelled = sum(case.labelled for case in dataset.cases)
    groups = len({case.group for case in dataset.cases})
    labels = ", ".join(f"{name} = {index}" for name, index in dataset.task.labels.items())
    return (
        f"{len(dataset.cases)} cases ({labelled} labelled) of {groups} groups; "
        f"channels: {', '.join(dataset.task.channels)}; labels: {labels}"
        + ("; no physical size is known: distances are in px" if dataset.unit == "px" else "")
    )


def _worst(findings: Sequence[Finding]) -> dict[str, int]:
    """Case -> the rank of its most severe finding."""
    worst: dict[str, int] = {}
    for finding in findings:
        rank = SEVERITIES.index(finding.severity)
        worst[finding.case] = min(rank, worst.get(finding.case, rank))
    return worst


def _case(case: CaseFacts, rank: int | None, unit: Length) -> dict[str, Any]:
    """What the page shows of a case."""
    return {
        "id": case.id,
        "group": case.group,
        "severity": SEVERITIES[rank] if rank is not None else "",
        "picture": data_uri(case.thumbnail) if case.thumbnail is not None else "",
        "histograms": [_histogram(channel.histogram) for channel in case.channels],
        "lines": list(_lines(case, unit)),
    }


def _lines(case: CaseFacts, unit: Length) -> Iterator[str]:
    spacing = times([round(size, 3) for size in case.spacing])
    has_size = unit == "mm"
    shape = times(case.shape)
    yield f"{shape} voxels, {spacing} mm, {case.axes}" if has_size else f"{shape} pixels"
    for channel in case.channels:
        yield f"{channel.dtype}, {channel.minimum:.5g} to {channel.maximum:.5g}"
    if case.label:
        volumes = case.label.volumes.items()
        yield ", ".join(
            f"{index}: {ml:.3g} ml" if has_size else f"{index}: {1000 * ml:.0f} px"
            for index, ml in volumes
        )


def _histogram(bins: Iterable[int]) -> dict[str, Any]:
    """Bars as the path of an SVG; heights by the square root, so that small counts stay visible."""
    heights = [value**0.5 for value in bins]
    top = max(heights, default=0) or 1
    width, height = 3, 30
    path = "".join(
        f"M{index * width} {height}v{-height * value / top:.1f}h{width}V{height}z"
        for index, value in enumerate(heights)
    )
    return {"width": width * len(heights), "height": height, "path": path}
