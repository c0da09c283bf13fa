"""The model card of a release: the network, its purpose, its results and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lunet.inference.description import Description
from lunet.metrics.catalog import title
from lunet.pages import render


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
        structures=list(results),
        results=_rows(results),
        checks=checks,
        worst=f"{max((float(row['difference']) for row in checks), default=0):.1e}",
        program=program,
        axes=", ".join("xyz"[: task.dimensions]),
    )


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items() if value is not None)


def _rows(results: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """The table of results: a row per number that any structure has, a column per structure."""
    names = dict.fromkeys(name for row in results.values() for name in row)
    return [(title(name), *(_cell(row.get(name)) for row in results.values())) for name in names]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3g}"
