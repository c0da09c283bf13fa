"""The model card of a release: the network, its purpose, its results and its licence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lunet.data.settings import PreprocessSettings
from lunet.inference.description import Description
from lunet.metrics.catalog import title
from lunet.pages import render
from lunet.settings import build_settings

_AXES = 3


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
        steps=preparation_steps(described),
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


def preparation_steps(described: Description) -> list[str]:
    """How a scan is prepared and its mask brought back, a sentence for each step."""
    how = build_settings(PreprocessSettings, described.preprocess, "preprocess")
    if how.orientation == "keep":
        steps = ["Orientation: the axes stay as they are in the file."]
    else:
        steps = [f"Orientation: the axes are permuted and flipped to {how.orientation.upper()}."]
    return [
        *steps,
        *_grid_steps(how, described),
        *_intensity_steps(how),
        *_size_steps(how),
        _back(described),
    ]


def _grid_steps(how: PreprocessSettings, described: Description) -> list[str]:
    if how.spacing == "keep":
        return ["Resampling: none, the spacing of the scan is kept."]
    spacing = " x ".join(f"{value:g}" for value in how.spacing)
    unit = described.training.get("unit", "mm")
    further = " (further axes keep theirs)" if len(how.spacing) < _AXES else ""
    return [
        f"Resampling: to {spacing} {unit}{further} about the centre of the scan, n voxels of "
        "spacing s become round(n s / new s), with a cubic B-spline (mirrored at the borders; "
        "linear if an axis has fewer than 4 voxels). Before, axes that get coarser by a factor f "
        "are smoothed by a Gaussian of sqrt(f^2 - 1) / 2.3548 voxels."
    ]


def _intensity_steps(how: PreprocessSettings) -> list[str]:
    inside = how.normalise == "zscore_nonzero"
    population = "voxels that are not zero" if inside else "all voxels"
    steps = []
    if how.window is not None:
        steps.append(f"Window: values are clipped to {how.window[0]:g} .. {how.window[1]:g}.")
    elif how.clip is not None:
        low, high = how.clip
        steps.append(
            f"Clipping: to the percentiles {low:g} and {high:g} of {population} of this scan "
            "and channel, after resampling and before padding."
        )
    if how.normalise == "minmax":
        bounds = "the window" if how.window is not None else "the smallest and largest value"
        return [*steps, f"Scaling: {bounds} to 0 .. 1."]
    if how.normalise == "none":
        return [*steps, "Scaling: none."]
    end = "; all others become 0" if inside else ""
    return [
        *steps,
        f"Scaling: minus the mean, divided by the standard deviation (n - 1) of {population} of "
        f"this scan and channel, after clipping{end}.",
    ]


def _size_steps(how: PreprocessSettings) -> list[str]:
    if how.size is None:
        return []
    size = " x ".join(map(str, how.size))
    return [
        f"Size: smaller axes are padded with 0 about the centre to {size} voxels, an odd voxel at "
        "the front; larger ones stay whole."
    ]


def _back(described: Description) -> str:
    sigmoid = described.task.activation == "sigmoid"
    back = "Way back: the padding is cropped"
    if described.preprocess.get("spacing", "keep") != "keep":
        back += ", the probabilities are resampled linearly to the grid of the scan"
    choice = "the label above 0.5" if sigmoid else "the largest channel"
    return f"{back}, {choice} is taken, and the axes are turned back."


def _rows(results: Mapping[str, Mapping[str, float]]) -> list[tuple[str, ...]]:
    """The table of results: a row per number that any structure has, a column per structure."""
    names = dict.fromkeys(name for row in results.values() for name in row)
    return [(title(name), *(_cell(row.get(name)) for row in results.values())) for name in names]


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3g}"
