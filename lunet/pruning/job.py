"""The description of one pruning or control: settings, data, first network, epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch

from lunet.errors import ConfigError, nearest
from lunet.models.build import build_for_task
from lunet.pruning.settings import CONTROLS, PRUNING, PruneSettings
from lunet.reading import read_record
from lunet.settings import Within
from lunet.task import Task
from lunet.training.job import TrainingJob
from lunet.training.recipe import EarlyStopping

Section = Mapping[str, Any]


class _Network(TypedDict):
    arguments: dict[str, Any]


class _Chosen(TypedDict):
    parameters: Annotated[int, Within(1, 10**12)]
    model: _Network


class _Stamped(TypedDict):
    """The part of a ``stamp`` pruning's ``run.json`` that a control reads."""

    epochs: Annotated[int, Within(1)]
    chosen: _Chosen


@dataclass(frozen=True)
class PruneJob:
    """One strategy on one fold with one seed.

    Attributes
    ----------
    training
        Data, recipe, seed and folders. ``recipe.epochs`` is not used: the number of epochs comes
        from ``settings``, or for a control from the run ``like``.
    settings, strategy
        How to prune.
    like
        ``run.json`` of the ``stamp`` run that a control is compared with.
    """

    training: TrainingJob
    settings: PruneSettings
    strategy: str
    like: Path | None = None

    @property
    def removes_channels(self) -> bool:
        """Whether the strategy removes channels; False for controls."""
        return self.strategy in PRUNING

    def last_epoch(self, iteration: int) -> int:
        """Epoch (from 1) that ends an iteration; iteration 0 is the one before the first cut."""
        return self.settings.first_epochs + iteration * self.settings.recovery_epochs


def starting_job(task: PruneJob) -> TrainingJob:
    """The training that a strategy starts with: its network and its total number of epochs.

    Early stopping and snapshots are off: each iteration recovers for exactly the epochs in the
    settings, and a control trains for as many epochs as the whole ``stamp`` run.

    Raises
    ------
    ConfigError
        Unknown strategy, a control without the run to compare with, or a network that has no
        flat counterpart.
    """
    if task.strategy not in (*PRUNING, *CONTROLS):
        advice = nearest(task.strategy, (*PRUNING, *CONTROLS))
        raise ConfigError(where="--strategy", found=f"found {task.strategy!r}", expected=advice)
    job, epochs = task.training, task.last_epoch(task.settings.iterations)
    model = dict(job.model)
    if not task.removes_channels:
        model["arguments"], epochs = _control(task)
    recipe = dataclasses.replace(
        job.recipe, epochs=epochs, save_every=0, keep_state=False, early_stopping=EarlyStopping()
    )
    model["preset"] = f"{job.model['preset']}_{task.strategy}"
    return dataclasses.replace(job, model=model, recipe=recipe)


def _control(task: PruneJob) -> tuple[dict[str, Any], int]:
    """Arguments of a control's network, and its epochs."""
    if task.like is None:
        action = "Prune with --strategy stamp first and name its run.json"
        raise ConfigError(
            where="--like",
            found=f"missing for {task.strategy}",
            expected="a stamp run's record",
            action=action,
        )
    record = read_record(task.like, _Stamped)
    chosen, epochs = record["chosen"], record["epochs"]
    if task.strategy == "scratch":
        return dict(chosen["model"]["arguments"]), epochs
    job = task.training
    return flat_arguments(job.model, job.task, chosen["parameters"]), epochs


def flat_arguments(model: Section, task: Task, parameters: int) -> dict[str, Any]:
    """Arguments of the network of equal width at all levels that is nearest in parameters.

    Of two that are equally near, the smaller one is chosen.

    Raises
    ------
    ConfigError
        If the network is not described by a width per level.
    """
    widths = model["arguments"].get("widths")
    if not isinstance(widths, list | tuple):
        raise ConfigError(
            where="prune.strategies",
            found=f"flat with {model['preset']}",
            expected=(
                "a UNet, LUNet, UNet++ or LUNet++ with a width per level has a flat counterpart"
            ),
            action="Leave `flat` out",
        )
    before: tuple[int, dict[str, Any]] | None = None
    width = 1
    while True:
        arguments = {**model["arguments"], "widths": [width] * len(widths)}
        found = parameters_of({**model, "arguments": arguments}, task)
        if found >= parameters:
            nearer = before and parameters - before[0] <= found - parameters
            return before[1] if before and nearer else arguments
        before, width = (found, arguments), width + 1


def parameters_of(model: Section, task: Task) -> int:
    """Number of parameters of a ``model`` section's network, without allocating it."""
    with torch.device("meta"):
        network = build_for_task(model, task)
    return sum(parameter.numel() for parameter in network.parameters())
