"""Pictures of cases: image, reference and prediction; one preset, or presets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lunet.data.prepared import Manifest
from lunet.metrics.catalog import compared_title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.slices import (
    Array,
    SliceCase,
    SlicePlace,
    best_place,
    common_axis,
    cut,
    pixel_size,
    read_case,
    read_prediction,
)
from lunet.reporting.figures.style import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    TWO_COLUMNS,
    VERMILLION,
    YELLOW,
    Drawing,
)
from lunet.reporting.scores import by_quality, presets
from lunet.statistics.paired import magnitudes

Folders = Mapping[tuple[str, int, int], Path]
_COLOURS = (ORANGE, SKY, VERMILLION, GREEN, PURPLE, YELLOW, BLUE)
_MOST_COLUMNS = 7


@dataclass(frozen=True)
class Shown:
    """A case to draw: which run predicted it, and its score."""

    word: str
    preset: str
    fold: int
    seed: int
    case: str
    score: float


def examples(
    cases: pd.DataFrame,
    folders: Folders,
    manifest: Manifest,
    statistics: StatisticsSettings,
    *,
    count: int = 3,
) -> Drawing:
    """Best to worst case of each preset: image, reference and prediction with the outline.

    ``folders`` has the folder of predictions of each run. The slice with the largest reference area
    is shown, and the first of several seeds.
    """
    rows = [
        shown
        for name in presets(cases)
        for shown in choose_cases(cases[cases["preset"] == name], statistics, count)
    ]
    figure = Figure(figsize=(TWO_COLUMNS * 0.72, 0.35 + 1.72 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 3, squeeze=False)
    several = len(presets(cases)) > 1
    read = {shown.case: read_case(manifest, shown.case) for shown in rows}
    axis = common_axis(list(read.values()))
    for axes, shown in zip(grid, rows, strict=True):
        folder = folders[shown.preset, shown.fold, shown.seed]
        _row(axes, read[shown.case], best_place(read[shown.case], axis), folder)
        name = f"{shown.preset}\n" if several else ""
        score = f"{compared_title(statistics.metric)} {shown.score:.3f}"
        axes[0].set_ylabel(f"{name}{shown.word}\n{shown.case}\n{score}")
    for axes, text in zip(grid[0], ("Image", "Reference", "Prediction"), strict=True):
        axes.set_title(text)
    _legend(figure, manifest)
    return Drawing(figure, pd.DataFrame([vars(shown) for shown in rows]))


def choose_cases(part: pd.DataFrame, statistics: StatisticsSettings, count: int) -> list[Shown]:
    """Cases of one preset from best to worst, evenly spaced in the order of the scores."""
    part = part[part["seed"] == part["seed"].min()]
    keys = ["preset", "fold", "seed", "case"]
    means = magnitudes(part, statistics.metric).groupby(keys, sort=True)[statistics.metric].mean()
    scores = by_quality(means.dropna().reset_index(), statistics.metric, best_first=True)
    count = min(count, len(scores))
    places = np.linspace(0, len(scores) - 1, count).round().astype(int) if count > 1 else [0]
    words = ["best", "median", "worst"] if count == 3 else [f"rank {p + 1}" for p in places]
    return [
        Shown(
            word=word,
            preset=str(row["preset"]),
            fold=int(row["fold"]),
            seed=int(row["seed"]),
            case=str(row["case"]),
            score=float(row[statistics.metric]),
        )
        for word, row in zip(words, scores.iloc[places].to_dict("records"), strict=True)
    ]


def side_by_side(
    cases: pd.DataFrame,
    folders: Folders,
    manifest: Manifest,
    statistics: StatisticsSettings,
) -> Drawing:
    """The same case and slice for the reference and every preset, in columns.

    The rows are the best, median and worst case by the mean over presets. If there are more columns
    than fit, only the median case is shown, in several rows.
    """
    names, cases = presets(cases), magnitudes(cases, statistics.metric)
    mean = cases.groupby(["fold", "seed", "case"], sort=False)[[statistics.metric]].mean()
    ranked = choose_cases(mean.reset_index().assign(preset="mean"), statistics, 3)
    wide = len(names) + 1 > _MOST_COLUMNS
    ranked = ranked[len(ranked) // 2 :][:1] if wide else ranked
    across = min(len(names) + 1, _MOST_COLUMNS)
    down = -(-(len(names) + 1) // across) if wide else len(ranked)
    size = TWO_COLUMNS / across
    figure = Figure(figsize=(TWO_COLUMNS, 0.4 + (size + 0.22) * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False)
    read = [read_case(manifest, shown.case) for shown in ranked]
    axis = common_axis(read)
    records = []
    for row, case in enumerate(read):
        panels = list(grid.ravel()) if wide else list(grid[row])
        records += _compare(panels, case, best_place(case, axis), cases, folders, statistics)
    numbers = f"numbers: {compared_title(statistics.metric)}, mean over the structures"
    _legend(figure, manifest, numbers)
    return Drawing(figure, pd.DataFrame(records))


def _compare(
    panels: Sequence[Axes],
    case: SliceCase,
    place: SlicePlace,
    cases: pd.DataFrame,
    folders: Folders,
    statistics: StatisticsSettings,
) -> list[dict[str, Any]]:
    """Fill a row: the reference, then each preset's prediction with its score."""
    _overlay(panels[0], case, place, case.reference)
    panels[0].set_title(f"reference\n{case.name}", size=6)
    records = []
    names = presets(cases)
    for axes, name in zip(panels[1:], names, strict=False):
        rows = cases[(cases["preset"] == name) & (cases["case"] == case.name)]
        rows = rows[rows["seed"] == rows["seed"].min()]
        key = (name, int(rows["fold"].iloc[0]), int(rows["seed"].iloc[0]))
        score = float(rows[statistics.metric].mean())
        _overlay(axes, case, place, read_prediction(folders[key], case))
        axes.set_title(f"{name}\n{score:.3f}", size=6)
        records.append({"case": case.name, "preset": name, statistics.metric: score})
    for axes in panels[len(names) + 1 :]:
        axes.remove()
    return records


def _row(axes: Sequence[Axes], case: SliceCase, place: SlicePlace, folder: Path) -> None:
    _picture(axes[0], case, place)
    _scale_bar(axes[0], case, place)
    _overlay(axes[1], case, place, case.reference)
    _overlay(axes[2], case, place, read_prediction(folder, case))


def _picture(axes: Axes, case: SliceCase, place: SlicePlace) -> None:
    plane = cut(case.image, place)
    low, high = np.percentile(plane, (0.5, 99.5))
    width, height = pixel_size(case, place)
    axes.imshow(
        plane,
        cmap="gray",
        origin="lower",
        vmin=low,
        vmax=high,
        aspect=height / width,
        interpolation="nearest",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _overlay(axes: Axes, case: SliceCase, place: SlicePlace, mask: Array | None) -> None:
    """Draw the image with the mask's structures in colour and the reference outlined in white."""
    _picture(axes, case, place)
    reference = cut(case.reference, place)
    if mask is None:
        axes.text(0.5, 0.04, "no prediction", color="white", ha="center", transform=axes.transAxes)
    else:
        plane = cut(mask, place)
        for index, colour in _colours(np.union1d(case.reference, mask)).items():
            layer = np.zeros((*plane.shape, 4))
            layer[plane == index] = to_rgba(colour, 0.55)
            axes.imshow(layer, origin="lower", aspect=axes.get_aspect(), interpolation="nearest")
    for index in np.unique(reference[reference > 0]):
        outline = np.pad((reference == index).astype(float), 1)
        rows, columns = (np.arange(n) - 1 for n in outline.shape)
        lines = axes.contour(columns, rows, outline, levels=[0.5], colors="white", linewidths=0.8)
        lines.set_path_effects(_halo(1.7))


def _colours(indices: Array) -> dict[int, str]:
    found = [int(index) for index in np.unique(indices) if index > 0]
    return {index: _COLOURS[(index - 1) % len(_COLOURS)] for index in found}


def _scale_bar(axes: Axes, case: SliceCase, place: SlicePlace) -> None:
    width, _ = pixel_size(case, place)
    (start, stop), _ = place.window
    length = 10.0 if (stop - start) * width < 120 else 50.0
    left = 0.04 * (stop - start)
    (line,) = axes.plot([left, left + length / width], [1.2, 1.2], color="white", lw=1.4)
    text = axes.text(left, 2.4, f"{length:g} {case.unit}", color="white", size=5.5, va="bottom")
    line.set_path_effects(_halo(2.4))
    text.set_path_effects(_halo(1.4))


def _legend(figure: Figure, manifest: Manifest, title: str | None = None) -> None:
    labels = manifest.task.labels
    shown = list(labels.items())[: len(_COLOURS)]
    handles: list[Any] = [
        Patch(facecolor=_COLOURS[(index - 1) % len(_COLOURS)], alpha=0.7, label=name)
        for name, index in shown
    ]
    outline = Line2D([], [], color="white", lw=1.2, label="reference outline")
    outline.set_path_effects(_halo(2.4))
    figure.legend(
        handles=[*handles, outline],
        loc="outside lower center",
        ncols=min(4, len(handles) + 1),
        title=title,
    )


def _halo(width: float) -> list[Any]:
    """A dark rim that makes white lines visible on white."""
    return [patheffects.Stroke(linewidth=width, foreground="#333333"), patheffects.Normal()]
