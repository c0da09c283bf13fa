"""Figures of a pruning study: channels along the iterations, Dice against parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from lunet.errors import ConfigError
from lunet.metrics.catalog import compared_title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.figures.hours import hours
from lunet.reporting.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    TWO_COLUMNS,
    VERMILLION,
    Drawing,
    save,
    style,
)
from lunet.reporting.pruned import TITLES, Pruning, by_strategy, layer_columns, read_prunings
from lunet.reporting.result_files import ResultFiles, read_cases, read_efficiency
from lunet.reporting.scores import headline, headline_summary
from lunet.reporting.units import stated_statistics

_LOOKS = {
    "stamp": (BLUE, "o"),
    "random_at_stamp_layer": (VERMILLION, "s"),
    "largest_layer": (GREEN, "^"),
    "scratch": (ORANGE, "D"),
    "flat": (PURPLE, "v"),
}


def write_figure(
    name: str,
    sources: ResultFiles,
    settings: Mapping[str, Any],
    base: str | Path,
    *,
    manifest: Path | None = None,
) -> list[Path]:
    """Draw one of :data:`FIGURES`; writes ``BASE.svg``, ``.pdf``, ``.png`` and ``.csv``.

    ``manifest`` is ignored, because no image is shown.
    """
    cases = read_cases(sources) if sources.metrics else pd.DataFrame()
    chosen = stated_statistics(settings, cases)
    with style():
        return save(FIGURES[name](sources, chosen), base)


def channels(sources: ResultFiles, _statistics: StatisticsSettings) -> Drawing:
    """Channels of each layer along the iterations, a panel per strategy; means over its runs."""
    groups = by_strategy(read_prunings(sources))
    shown = {name: runs for name, runs in groups.items() if len(runs[0].trajectory) > 1}
    if not shown:
        raise ConfigError(
            where="inputs",
            found="no strategy that removes channels",
            expected="the figure needs at least one",
        )
    layers = layer_columns(next(iter(shown.values()))[0].trajectory)
    grids = {name: _mean_channels(runs, layers) for name, runs in shown.items()}
    widest = max(float(grid.to_numpy().max()) for grid in grids.values())
    norm = LogNorm(1, max(widest, 2))
    height = 1.0 + 0.13 * len(layers)
    figure = Figure(figsize=(TWO_COLUMNS, height), layout="constrained")
    panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
    for axes, (name, grid) in zip(panels, grids.items(), strict=True):
        image = axes.imshow(
            grid.to_numpy().T, aspect="auto", norm=norm, cmap="viridis", interpolation="nearest"
        )
        axes.set_title(TITLES.get(name, name))
        axes.set_xlabel("Iteration")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.grid(visible=False)
        _mark_chosen(axes, shown[name])
    panels[0].set_yticks(range(len(layers)), layers, fontsize=5.5)
    bar = figure.colorbar(image, ax=list(panels), label="Channels", shrink=0.9)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    long = [
        grid.rename_axis("iteration").reset_index().assign(strategy=name)
        for name, grid in grids.items()
    ]
    return Drawing(figure, pd.concat(long, ignore_index=True))


def _mean_channels(runs: Sequence[Pruning], layers: Sequence[str]) -> pd.DataFrame:
    """Channels (iterations, layers): mean over the runs that have the iteration."""
    every = pd.concat([run.trajectory for run in runs])
    columns = [f"channels_{layer}" for layer in layers]
    means = every.groupby("iteration")[columns].mean()
    return means.set_axis(list(layers), axis="columns")


def _mark_chosen(axes: Axes, runs: Sequence[Pruning]) -> None:
    for run in runs:
        axes.axvline(run.chosen["iteration"], color="white", lw=1.0, ls="--")


def dice(sources: ResultFiles, statistics: StatisticsSettings) -> Drawing:
    """Validation Dice along the prunings (left) and test scores (right), against parameters.

    The test scores are of the chosen networks, the controls and the study's presets.
    """
    prunings, cases = read_prunings(sources), read_cases(sources)
    figure = Figure(figsize=(TWO_COLUMNS, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for run in prunings:
        _trajectory(left, run)
    data = _points(prunings, cases, sources, statistics)
    for row in data.to_dict("records"):
        _point(right, row)
    left.set_ylabel("Validation Dice (star: chosen)")
    right.set_ylabel(f"Test {compared_title(statistics.metric)}, {headline(cases)}")
    for axes in (left, right):
        _parameter_axis(axes)
    _legend(figure, by_strategy(prunings), has_presets=bool((data["strategy"] == "").any()))
    return Drawing(figure, pd.concat([_lines(prunings), data], ignore_index=True))


def _parameter_axis(axes: Axes) -> None:
    """Make a log axis with a few labelled ticks, however short it is."""
    axes.set_xscale("log")
    axes.margins(x=0.08, y=0.1)
    axes.set_xlabel("Parameters")
    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high / low > 8 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _look(strategy: str) -> tuple[str, str]:
    return _LOOKS.get(strategy, (GREY, "P"))


def _trajectory(axes: Axes, run: Pruning) -> None:
    colour, marker = _look(run.strategy)
    rows = run.trajectory
    axes.plot(rows["parameters"], rows["dice"], color=colour, marker=marker, ms=2.5, lw=0.9)
    chosen = run.chosen
    if len(rows) > 1 and chosen["dice"] is not None:
        axes.plot(
            chosen["parameters"], chosen["dice"], "*", ms=9, color=colour, mec="black", mew=0.5
        )


def _points(
    prunings: Sequence[Pruning],
    cases: pd.DataFrame,
    sources: ResultFiles,
    statistics: StatisticsSettings,
) -> pd.DataFrame:
    """One row per network: strategy (empty for a preset), parameters, score with interval."""
    scores = headline_summary(cases, statistics.metric, statistics)
    sizes = {
        runs[0].label: (name, float(np.mean([run.chosen["parameters"] for run in runs])))
        for name, runs in by_strategy(prunings).items()
    }
    for preset, cost in read_efficiency(sources).items():
        sizes.setdefault(preset, ("", flat(cost)["parameters"]))
    rows = [
        {"strategy": strategy, "network": name, "parameters": parameters}
        | {key: scores.loc[name, key] for key in ("mean", "ci_low", "ci_high", "n")}
        for name, (strategy, parameters) in sizes.items()
        if name in scores.index
    ]
    return pd.DataFrame(rows).assign(what=f"test {statistics.metric}")


def _point(axes: Axes, row: Mapping[str, Any]) -> None:
    colour, marker = _look(row["strategy"])
    if np.isfinite(row["ci_low"]):
        axes.plot([row["parameters"]] * 2, [row["ci_low"], row["ci_high"]], color=colour, lw=0.8)
    axes.plot(row["parameters"], row["mean"], marker, color=colour, ms=4.5)
    if not row["strategy"]:
        axes.annotate(
            row["network"],
            (row["parameters"], row["mean"]),
            xytext=(3, 3),
            textcoords="offset points",
            size=5.5,
            color=GREY,
        )


def _lines(prunings: Sequence[Pruning]) -> pd.DataFrame:
    """The numbers of the left panel."""
    columns = ["iteration", "parameters", "dice"]
    frames = [
        run.trajectory[columns]
        .rename(columns={"dice": "mean"})
        .assign(strategy=run.strategy, network=run.label, fold=run.fold, seed=run.seed)
        for run in prunings
    ]
    return pd.concat(frames, ignore_index=True).assign(what="validation dice")


def _legend(figure: Figure, groups: Mapping[str, object], *, has_presets: bool) -> None:
    names = [*groups, *([""] if has_presets else [])]
    handles = [
        Line2D(
            [],
            [],
            color=_look(name)[0],
            marker=_look(name)[1],
            ms=4,
            lw=0.9,
            label=TITLES.get(name, "preset of the study"),
        )
        for name in names
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)


FIGURES: dict[str, Callable[[ResultFiles, StatisticsSettings], Drawing]] = {
    "pruning_channels": channels,
    "pruning_dice": dice,
    "pruning_hours": hours,
}
