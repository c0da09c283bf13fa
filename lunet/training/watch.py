"""What the user sees: a progress bar in a terminal, a line per epoch in a log, TensorBoard."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from lunet.training.faults import no_progress
from lunet.training.history import Row
from lunet.training.memory import peak_memory
from lunet.training.progress import Training

_SECONDS_BETWEEN_LOOKS = 0.5
_EPOCHS_BEFORE_DOUBT = 10


def say(line: str) -> None:
    """One line for the user, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)


def warn(training: Training) -> None:
    """Say so if nothing is being learnt."""
    warning = no_progress(training)
    if warning:
        say(f"warning: {warning}")


class Watch:
    """Told of each step and epoch.

    Parameters
    ----------
    training
        The training that is watched, for its length and where it starts.
    bar
        Whether to draw a progress bar; else one line per epoch.
    on_epoch
        Further observers of the rows of the history.
    """

    def __init__(
        self, training: Training, *, bar: bool, on_epoch: tuple[Callable[[Row], None], ...] = ()
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

    def step(self, training: Training) -> None:
        """A step is done. The loss is looked at twice a second, since a look waits for CUDA."""
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

    def epoch(self, training: Training, row: Row) -> None:
        """An epoch is done."""
        dice = row["dice"]
        self._last = "" if dice is None else f", Dice {dice:.4f}"
        if self._bar.disable:
            say(self._line(training, row))
        if training.progress.epochs_done == _EPOCHS_BEFORE_DOUBT:
            warn(training)
        for observer in self._observers:
            observer(row)

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._bar.close()

    def _rate(self, training: Training) -> float:
        """Samples per second since this process began to train, validation included."""
        return (training.progress.samples - self._samples) / (time.perf_counter() - self._start)

    def _line(self, training: Training, row: Row) -> str:
        progress, epochs = training.progress, training.recipe.epochs
        numbers = [f"{key} {value:.5g}" for key, value in row.items() if _is_measured(key, value)]
        seconds = progress.training_seconds + progress.validation_seconds
        left = seconds / progress.epochs_done * (epochs - progress.epochs_done)
        memory = peak_memory(training.sampler.volumes.device) / 2**30
        return (
            f"epoch {progress.epochs_done}/{epochs}: {', '.join(numbers)}, "
            f"{self._rate(training):.1f} samples/s, {memory:.1f} GiB, {left:.0f} s left"
        )


def _is_measured(key: str, value: float | int | None) -> bool:
    return key != "epoch" and value is not None
