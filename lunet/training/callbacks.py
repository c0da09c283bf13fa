"""Output for the user: a progress bar in a terminal, a line per epoch in a log, TensorBoard."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lunet.files import atomic
from lunet.reading import read_rows
from lunet.training.diagnostics import no_progress
from lunet.training.history import Row, write_history
from lunet.training.memory import peak_memory
from lunet.training.state import TrainingState

_SECONDS_BETWEEN_LOOKS = 0.5
_EPOCHS_BEFORE_DOUBT = 10


def log(line: str) -> None:
    """Print one line for the user, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)


def warn(training: TrainingState) -> None:
    """Warn if the network does not learn."""
    warning = no_progress(training)
    if warning:
        log(f"warning: {warning}")


class ProgressReporter:
    """Shows each step and epoch to the user.

    Parameters
    ----------
    training
        The training to report on; defines its length and where it starts.
    bar
        Whether to draw a progress bar; otherwise there is one line per epoch.
    on_epoch
        Further observers, called with each row of the history.
    """

    def __init__(
        self,
        training: TrainingState,
        *,
        bar: bool,
        on_epoch: tuple[Callable[[Row], None], ...] = (),
    ) -> None:
        steps, progress = training.sampler.steps, training.progress
        self._bar = tqdm(
            total=training.recipe.epochs * steps,
            initial=(progress.epoch - 1) * steps + progress.step,
            unit="step",
            disable=not bar,
            dynamic_ncols=True,
            file=sys.stderr,
        )
        self._observers = on_epoch
        self._last = ""
        self._looked = time.perf_counter()
        self._start, self._samples = time.perf_counter(), progress.samples

    def step(self, training: TrainingState) -> None:
        """Report a finished step; the loss is read twice a second, as reading waits for CUDA."""
        if self._bar.disable:
            return
        self._bar.update()
        if time.perf_counter() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.perf_counter()
        progress = training.progress
        loss = float(progress.losses[max(progress.step - 1, 0)])
        memory = peak_memory(training.sampler.volumes.device) / 2**30
        self._bar.set_postfix_str(
            f"loss {loss:.4f}{self._last}, {self._rate(training):.1f} samples/s, {memory:.1f} GiB"
        )

    def epoch(self, training: TrainingState, row: Row) -> None:
        """Report a finished epoch with its row of the history."""
        dice = row["dice"]
        self._last = "" if dice is None else f", Dice {dice:.4f}"
        if self._bar.disable:
            log(self._line(training, row))
        if training.progress.epochs_done == _EPOCHS_BEFORE_DOUBT:
            warn(training)
        for observer in self._observers:
            observer(row)

    def close(self) -> None:
        """Close the progress bar."""
        self._bar.close()

    def _rate(self, training: TrainingState) -> float:
        """Samples per second since this process started to train, including validation."""
        return (training.progress.samples - self._samples) / (time.perf_counter() - self._start)

    def _line(self, training: TrainingState, row: Row) -> str:
        progress, epochs = training.progress, training.recipe.epochs
        measured = {k: v for k, v in row.items() if k != "epoch" and v is not None}
        numbers = [f"{key} {value:.5g}" for key, value in measured.items()]
        seconds = progress.training_seconds + progress.validation_seconds
        left = seconds / progress.epochs_done * (epochs - progress.epochs_done)
        memory = peak_memory(training.sampler.volumes.device) / 2**30
        return (
            f"epoch {progress.epochs_done}/{epochs}: {', '.join(numbers)}, "
            f"{self._rate(training):.1f} samples/s, {memory:.1f} GiB, {left:.0f} s left"
        )


_SECONDS_BETWEEN_PICTURES = 10.0
_SECONDS_BETWEEN_HISTORIES = 2.0


def growing_history(
    path: Path, training: TrainingState, *, seconds: float = _SECONDS_BETWEEN_HISTORIES
) -> Callable[[Row], None]:
    """An observer that writes the history so far to ``path``, at most every few seconds.

    Readers see whole rows; the file that the finished training writes replaces it.
    """
    written = [-math.inf]

    def observe(_: Row) -> None:
        if time.monotonic() - written[0] >= seconds:
            write_history(path, training.progress.history, training.task)
            written[0] = time.monotonic()

    return observe


def tensorboard(folder: Path) -> Callable[[Row], None]:
    """An observer that writes TensorBoard files into ``folder``; needs the package tensorboard.

    What an earlier process wrote from the first epoch of this one on is no longer shown.
    """
    from torch.utils.tensorboard import SummaryWriter

    writers: list[Any] = []

    def observe(row: Row) -> None:
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=int(row["epoch"] or 0)))
        for key, value in _numbers(row).items():
            writers[0].add_scalar(key, value, row["epoch"])
        writers[0].flush()

    return observe


def live_curves(path: Path, *, seconds: float = _SECONDS_BETWEEN_PICTURES) -> Callable[[Row], None]:
    """An observer that draws losses and Dice so far to ``path`` (PNG), at most every few seconds.

    The epochs before a resumption are read from the history next to it.
    """
    rows: list[dict[str, float]] = []
    drawn = [-math.inf]

    def observe(row: Row) -> None:
        epoch = float(row["epoch"] or 0)
        if not rows:
            earlier = earlier_rows(path.with_name("history.csv"))
            rows.extend(one for one in earlier if one["epoch"] < epoch)
        rows.append(_numbers(row) | {"epoch": epoch})
        if time.monotonic() - drawn[0] >= seconds:
            draw_curves(path, rows)
            drawn[0] = time.monotonic()

    return observe


def earlier_rows(history: Path) -> list[dict[str, float]]:
    """The measured values of a ``history.csv``, epoch by epoch; empty if there is none."""
    if not history.is_file():
        return []
    rows = read_rows(history, needed=["epoch"], what="a history.csv")
    known = ({key: float(text) for key, text in row.items() if text} for row in rows)
    return [{key: value for key, value in row.items() if math.isfinite(value)} for row in known]


def draw_curves(path: Path, rows: list[dict[str, float]]) -> None:
    """Losses on the left, Dice on the right, over the epochs."""
    # not pyplot, which has global state and needs a window system
    from matplotlib.figure import Figure

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
