"""Training curves: loss and validation Dice over the epochs, with the spread over the runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lunet.reporting.figures.style import BLUE, ONE_COLUMN, ORANGE, TWO_COLUMNS, VERMILLION, Drawing

_LINES = {
    "train_loss": ("training loss", ORANGE, "--"),
    "val_loss": ("validation loss", VERMILLION, "-"),
    "dice": ("validation Dice", BLUE, "-"),
}


def curves(histories: pd.DataFrame) -> Drawing:
    """Losses (above) and validation Dice (below) of each preset; mean and range over the runs."""
    names = list(dict.fromkeys(histories["preset"]))
    data = _bands(histories)
    down = -(-len(names) // 5)
    across = -(-len(names) // down)  # rows of nearly equal length
    width = ONE_COLUMN if across == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, 0.5 + 2.2 * down), layout="constrained")
    grid = figure.subplots(2 * down, across, sharex=True, sharey="row", squeeze=False)
    for place in range(down * across):
        pair = [grid[2 * (place // across) + part][place % across] for part in (0, 1)]
        if place < len(names):
            _panel(pair, data[data["preset"] == names[place]], names[place])
        else:
            for axes in pair:
                axes.remove()
    for place in range(max(0, len(names) - across), len(names)):
        grid[2 * (place // across) + 1][place % across].tick_params(labelbottom=True)
    _labels(figure, grid, down, _structure(histories))
    runs = histories.groupby("preset")[["fold", "seed"]].apply(
        lambda part: len(part.drop_duplicates())
    )
    most = int(runs.max())
    figure.supxlabel(
        f"Epoch (line: mean of {most} runs, band: their range)" if most > 1 else "Epoch", size=7
    )
    return Drawing(figure, data)


def _structure(histories: pd.DataFrame) -> str:
    """`` of <structure>`` if there is only one structure, else an empty text."""
    named = [name.removeprefix("dice_") for name in histories if str(name).startswith("dice_")]
    return f" of {named[0]}" if len(named) == 1 else ""


def _bands(histories: pd.DataFrame) -> pd.DataFrame:
    """Mean, lowest and highest value per preset, epoch and quantity over folds and seeds."""
    shown = [name for name in _LINES if name in histories]
    long = histories.melt(["preset", "fold", "seed", "epoch"], shown, "quantity").dropna()
    by = long.groupby(["preset", "quantity", "epoch"], sort=False)["value"]
    return by.agg(["mean", "min", "max", "count"]).reset_index()


def _panel(pair: list[Axes], data: pd.DataFrame, name: str) -> None:
    for quantity, (label, colour, dash) in _LINES.items():
        axes = pair[1 if quantity == "dice" else 0]
        part = data[data["quantity"] == quantity].sort_values("epoch")
        single: dict[str, Any] = {"marker": "."} if len(part) == 1 else {}
        axes.plot(part["epoch"], part["mean"], color=colour, ls=dash, label=label, **single)
        axes.fill_between(part["epoch"], part["min"], part["max"], color=colour, alpha=0.2, lw=0)
    pair[0].set_title(name)
    for axes in pair:
        axes.margins(x=0.02)


def _labels(figure: Figure, grid: Any, down: int, structure: str) -> None:
    for row in range(down):
        grid[2 * row][0].set_ylabel("Loss")
        grid[2 * row + 1][0].set_ylabel(f"Validation Dice{structure}")
    handles, labels = [], []
    for axes in (grid[0][0], grid[1][0]):
        found = axes.get_legend_handles_labels()
        handles += found[0]
        labels += found[1]
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
