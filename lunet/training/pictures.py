"""Optional observers of a training: TensorBoard files and a live picture of the curves.

No part of what a training computes: the results do not depend on this module.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError
from lunet.files import atomic
from lunet.training.history import Row

_SECONDS_BETWEEN_PICTURES = 10.0


def tensorboard(folder: Path) -> Callable[[Row], None]:
    """An observer that writes TensorBoard files into ``folder``.

    Raises
    ------
    ConfigError
        If the package ``tensorboard`` is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "--tensorboard",
            "the package tensorboard is not installed",
            "it writes these files",
            "Run `pip install tensorboard`, or leave the option out: history.csv is always written",
        ) from error
    writer: Any = SummaryWriter(str(folder))

    def observe(row: Row) -> None:
        for key, value in _numbers(row).items():
            writer.add_scalar(key, value, row["epoch"])
        writer.flush()

    return observe


def curves(path: Path, *, seconds: float = _SECONDS_BETWEEN_PICTURES) -> Callable[[Row], None]:
    """An observer that draws losses and Dice so far to ``path`` (PNG), every few seconds at most.

    After a resumption the picture shows the epochs of this process.
    """
    rows: list[dict[str, float]] = []
    drawn = [-math.inf]

    def observe(row: Row) -> None:
        rows.append(_numbers(row) | {"epoch": float(row["epoch"] or 0)})
        if time.monotonic() - drawn[0] >= seconds:
            draw_curves(path, rows)
            drawn[0] = time.monotonic()

    return observe


def draw_curves(path: Path, rows: list[dict[str, float]]) -> None:
    """Losses on the left, Dice on the right, over the epochs."""
    from matplotlib.figure import Figure  # no pyplot: no window system, no global state

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key in sorted({key for row in rows for key in row} - {"epoch", "lr"}):
        points = [(row["epoch"], row[key]) for row in rows if key in row]
        axes = left if key.endswith("loss") else right
        axes.plot(*zip(*points, strict=True), label=key.replace("_", " "), marker=".")
    for axes, name in ((left, "loss"), (right, "Dice (validation)")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False)
    right.set_ylim(0, 1)
    with atomic(path) as part:
        figure.savefig(part, dpi=100, format="png")


def _numbers(row: Row) -> dict[str, float]:
    """The measured, finite values of a row."""
    known = {k: float(v) for k, v in row.items() if v is not None and k != "epoch"}
    return {key: value for key, value in known.items() if math.isfinite(value)}
