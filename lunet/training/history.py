"""The history of a training: one row per epoch, a pure function of data, settings and seed.

It contains no times, so that a resumed training and an uninterrupted one write equal files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from lunet.errors import ConfigError, nearest
from lunet.files import write_csv
from lunet.task import Task
from lunet.training.recipe import Recipe

Row = dict[str, float | int | None]


def columns(task: Task) -> list[str]:
    """Columns of ``history.csv``: losses, learning rate, mean Dice, Dice per structure."""
    return ["epoch", "lr", "train_loss", "val_loss", "dice", *(f"dice_{n}" for n in task.names)]


def metric_names(task: Task) -> list[str]:
    """The allowed values of ``train.monitor`` and ``train.early_stopping.metric``."""
    return ["loss", "dice", *(f"dice_{name}" for name in task.names)]


def check_metrics(recipe: Recipe, task: Task) -> None:
    """Refuse a misspelt metric before the first step.

    Raises
    ------
    ConfigError
        If a metric is unknown; the message names the nearest one.
    """
    known = metric_names(task)
    for key, name in (
        ("train.monitor", recipe.monitor),
        ("train.early_stopping.metric", recipe.early_stopping.metric),
    ):
        if name not in known:
            expected = f"one of {', '.join(known)} is expected"
            raise ConfigError(
                where=key, found=f"found {name!r}", expected=expected, action=nearest(name, known)
            )


def value(row: Row, metric: str) -> float:
    """The metric of a row with a validation; NaN if it is undefined."""
    found = row["val_loss" if metric == "loss" else metric]
    return math.nan if found is None else float(found)


def score(row: Row, metric: str) -> float:
    """The metric of a row as a number where higher is better; -inf if it is undefined."""
    found = value(row, metric)
    if math.isnan(found):
        return -math.inf
    return -found if metric == "loss" else found


def write_history(path: str | Path, rows: Sequence[Row], task: Task) -> None:
    """Write the rows atomically; values that were not measured in an epoch are empty cells."""
    write_csv(path, columns(task), rows)
