"""The free-response ROC curve: lesions found against false positives per patient."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from lunet.metrics.lesions import FROC_RATES
from lunet.reporting.figures.style import PALETTE, TWO_COLUMNS, Drawing
from lunet.reporting.tables.lesions import froc_points

_DASHES = ("-", "--", ":", "-.")
_LEAST = FROC_RATES[0] / 2  # where points without false positives are drawn on the log axis


def froc(rows: pd.DataFrame) -> Drawing:
    """A panel per structure and a line per preset, pooled over folds and seeds.

    ``rows`` are the rows of ``froc.csv``. Faint lines are single seeds; dotted vertical lines are
    the rates of the FROC score.
    """
    labels = list(dict.fromkeys(rows["label"]))
    pooled = froc_points(rows, ["preset", "label"]).assign(seed="all")
    single = froc_points(rows, ["preset", "label", "seed"])
    data = pd.concat([pooled, single.astype({"seed": "str"})], ignore_index=True)
    figure = Figure(figsize=(TWO_COLUMNS, 3.0 * len(labels)), layout="constrained")
    grid = figure.subplots(len(labels), 1, squeeze=False)
    presets = list(dict.fromkeys(rows["preset"]))
    for axes, label in zip(grid[:, 0], labels, strict=True):
        part = data[data["label"] == label]
        for place, preset in enumerate(presets):
            colour, dash = PALETTE[place % len(PALETTE)], _DASHES[place // len(PALETTE) % 4]
            for seed, line in part[part["preset"] == preset].groupby("seed", sort=False):
                whole = seed == "all"
                line = _envelope(line)
                axes.plot(
                    line["false_positives_per_image"].clip(lower=_LEAST),
                    line["sensitivity"],
                    drawstyle="steps-post",  # nothing was measured between two thresholds
                    color=colour,
                    ls=dash,
                    lw=1.3 if whole else 0.5,
                    alpha=1.0 if whole else 0.35,
                    label=preset if whole else None,
                )
        _axis(axes, label)
    grid[-1][0].set_xlabel("False positives per patient")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right upper")
    order = ["preset", "label", "seed", "threshold", "sensitivity", "false_positives_per_image"]
    return Drawing(figure, data[order])


def _envelope(line: pd.DataFrame) -> pd.DataFrame:
    """The best sensitivity with at most this many false positives, as in the FROC score."""
    line = line.sort_values(["false_positives_per_image", "sensitivity"])
    return line.assign(sensitivity=line["sensitivity"].cummax())


def _axis(axes: Axes, label: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(left=_LEAST)
    axes.xaxis.set_major_locator(FixedLocator([_LEAST, *FROC_RATES, 16, 32, 64]))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda rate, _: f"≤{rate:g}" if rate == _LEAST else f"{rate:g}")
    )
    for rate in FROC_RATES:
        axes.axvline(rate, color="#BBBBBB", ls=":", lw=0.6, zorder=0)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("Sensitivity per lesion")
    axes.set_title(label)
