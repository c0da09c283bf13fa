"""The model card of a release: the network, its purpose, its results and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lunet.inference.description import Description
from lunet.metrics.catalog import title
from lunet.pages import render

RESULTS = ("dice", "hd95", "assd")
"""Metrics that a card shows."""


def model_card(
    described: Description,
    *,
    parameters: int,
    data: Mapping[str, Any],
    results: Mapping[str, Mapping[str, float]],
    checks: Sequence[Mapping[str, Any]],
    program: str = "",
) -> str:
    """Markdown text.

    Parameters
    ----------
    described
        Description of the network.
    parameters
        Number of the network's parameters.
    data
        ``name``, ``source`` (licence, citation) and ``digest`` of the data set, or empty.
    results
        Structure -> measured means, or empty.
    checks
        Comparisons of the ONNX file with torch, or empty.
    program
        Sizes that ``model.pt2`` accepts, in words; empty without one.
    """
    preset = described.model.get("preset") or described.model["name"]
    task, source = described.task, data.get("source") or {}
    regions = (f"{name} = {list(indices)}" for name, indices in task.regions.items())
    return render(
        "card.md",
        preset=preset,
        folder=re.sub(r"[^A-Za-z0-9_.-]", "_", preset),
        task=task,
        parameters=parameters,
        labels=", ".join(f"{name} = {index}" for name, index in task.labels.items()),
        regions=", ".join(regions),
        training=sorted(described.training.items()),
        preprocess=_pairs(described.preprocess),
        data=data,
        source=[(key, value) for key, value in sorted(source.items()) if value],
        has_licence=bool(source.get("licence")),
        metrics=[title(name) for name in RESULTS],
        results=[_row(name, row) for name, row in results.items()],
        checks=checks,
        worst=f"{max((float(row['difference']) for row in checks), default=0):.1e}",
        program=program,
        axes=", ".join("xyz"[: task.dimensions]),
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _row(name: str, row: Mapping[str, float]) -> tuple[str, ...]:
    """Cells of the table of results."""
    numbers = (f"{row[key]:.3g}" if key in row else "" for key in RESULTS)
    return (name, f"{row['cases']:g}", f"{row['missed']:g}", *numbers)
