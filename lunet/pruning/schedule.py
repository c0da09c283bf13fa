"""The schedule of a pruning: its progress, its trajectory, when it ends, and the chosen network.

Everything is decided on validation data; no function here reads a test case.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lunet.pruning.channel_groups import Layer, layers_of_network
from lunet.pruning.job import PruneJob
from lunet.pruning.settings import PruneSettings
from lunet.training.job import TrainingJob
from lunet.training.state import TrainingState

Row = dict[str, Any]


@dataclass
class PruningSchedule:
    """What changes during a pruning besides the training itself; part of the resume state.

    Attributes
    ----------
    model
        The ``model`` section of the current network.
    iteration
        Number of cuts so far.
    rows
        Finished iterations, see :func:`iteration_row`.
    removed
        Layer -> channels that the last cut removed, by their indices before it.
    dropouts
        Current probabilities of targeted dropout.
    seconds
        Time spent on ranking and cutting, over all processes of the pruning.
    """

    model: dict[str, Any]
    iteration: int = 0
    rows: list[Row] = field(default_factory=list)
    removed: dict[str, list[int]] = field(default_factory=dict)
    dropouts: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def state(self) -> dict[str, Any]:
        """Entries of the resume state."""
        return {"pruning": dict(vars(self))}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state`."""
        vars(self).update(state["pruning"])

    def job(self, start: TrainingJob) -> TrainingJob:
        """The training of the current network."""
        init = start.init if self.iteration == 0 else None
        return dataclasses.replace(start, model=self.model, init=init)


def iteration_row(course: PruningSchedule, training: TrainingState, best_epoch: int) -> Row:
    """The row of the trajectory for an iteration that has just ended.

    ``dice`` and ``val_loss`` belong to the iteration's best epoch on validation cases, whose
    weights are kept; ``channels`` counts the outputs of all convolutions except the up-convolutions
    and the projection, ``macs`` the multiply-adds of one forward pass of a training sample.
    """
    layers = layers_of_network(training.model)
    measured = training.progress.history[best_epoch - 1]
    shape = training.sampler.size or training.sampler.volumes.shapes[0]
    channels = len(training.task.channels)
    return {
        "iteration": course.iteration,
        "epochs": training.progress.epochs_done,
        "best_epoch": best_epoch,
        "parameters": sum(parameter.numel() for parameter in training.model.parameters()),
        "macs": macs_of(training.model, (1, channels, *shape[: training.task.dimensions])),
        "channels": convolution_channels(layers),
        "dice": measured["dice"],
        "val_loss": measured["val_loss"],
        "removed": course.removed,
        "dropouts": course.dropouts,
        "widths": {name: layer.width for name, layer in layers.items()},
        "model": course.model,
    }


def convolution_channels(layers: Mapping[str, Layer]) -> int:
    """Output channels of all convolutions except up-convolutions and the projection (N_ch)."""
    return sum(layer.width for layer in layers.values() if not layer.block.startswith("up."))


def macs_of(model: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of one forward pass in evaluation mode, as the efficiency tables count them."""
    network = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(tuple(shape), device="meta"))
    return counter.get_total_flops() // 2


def reason_to_stop(task: PruneJob, rows: Sequence[Row], *, can_shrink: bool) -> str | None:
    """Why the iteration of the last row is the final one; None if it is not."""
    settings, last = task.settings, rows[-1]
    drop = max(map(dice_of, rows)) - dice_of(last)
    if not task.removes_channels:
        return "a control has one iteration"
    if last["iteration"] >= settings.iterations:
        return f"{settings.iterations} iterations are done"
    if last["parameters"] <= settings.stop_parameters:
        return f"{last['parameters']:,} parameters are at most {settings.stop_parameters:,}"
    if drop > settings.stop_dice_drop:
        return f"validation Dice is {drop:.4f} below its best"
    return None if can_shrink else "every layer has its least width"


def dice_of(row: Row) -> float:
    """Validation Dice of a row; -inf where it is undefined."""
    value = row["dice"]
    return -math.inf if value is None or math.isnan(value) else float(value)


def chosen_row(rows: Sequence[Row], settings: PruneSettings) -> Row:
    """The chosen network: the smallest within the tolerance of the best validation Dice."""
    best = max(map(dice_of, rows))
    close = [row for row in rows if dice_of(row) >= best - settings.tolerance]
    return min(close, key=lambda row: row["parameters"])
