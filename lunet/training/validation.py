"""Validates on the whole validation set: hard Dice per structure and the loss, per case."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lunet.errors import TrainingError
from lunet.task import Task
from lunet.training.compute.device import send
from lunet.training.losses.build import Objective, encode_target
from lunet.training.volumes import Volumes, Window

Tile = tuple[int, Window]


@dataclass(frozen=True)
class Validation:
    """The results of one validation.

    Attributes
    ----------
    loss
        Mean over cases of the mean loss over a case's tiles.
    dice
        Structure -> mean hard Dice over the cases where it is defined (NaN if there are none).
    case_dice
        (cases, structures) float64; NaN where reference and prediction are both empty.
    """

    loss: float
    dice: dict[str, float]
    case_dice: Tensor

    @property
    def mean_dice(self) -> float:
        """Mean over the structures whose Dice is defined."""
        known = [value for value in self.dice.values() if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan


@dataclass(frozen=True)
class Validator:
    """Runs a network over the validation set.

    ``tiles`` are groups of windows of equal size that cover each case once; a group is one batch.
    """

    volumes: Volumes
    tiles: tuple[tuple[Tile, ...], ...]
    task: Task
    objective: Objective

    @torch.no_grad()
    def run(
        self,
        model: nn.Module,
        forward: Callable[[nn.Module, Tensor], Tensor],
        stop: Callable[[], bool],
    ) -> Validation | None:
        """Validate ``model`` in evaluation mode; None if ``stop()`` became true meanwhile.

        ``forward(model, image)`` computes the logits (autocast, memory format).
        """
        cases, structures = len(self.volumes.names), len(self.task.names)
        device = self.volumes.device
        counts = torch.zeros(cases, structures, 3, dtype=torch.int64, device=device)
        losses = torch.zeros(cases, 2, dtype=torch.float64, device=device)
        was_training = model.training
        model.eval()
        for group in self.tiles:
            if stop():
                break
            self._add(model, forward, group, counts, losses)
        model.train(was_training)
        return None if stop() else self._summary(counts.cpu(), losses.cpu())

    def _add(
        self,
        model: nn.Module,
        forward: Callable[[nn.Module, Tensor], Tensor],
        group: Sequence[Tile],
        counts: Tensor,
        losses: Tensor,
    ) -> None:
        slices = self.task.dimensions == 2
        window = group[0][1]
        batch = self.volumes.gather(group, size=[s.stop - s.start for s in window], squeeze=slices)
        logits = forward(model, batch.image).float()
        loss = sample_losses(self.objective, logits, batch.label).double()
        index = send(torch.tensor([case for case, _ in group]), counts.device)
        losses.index_add_(0, index, torch.stack([loss, torch.ones_like(loss)], dim=1))
        counts.index_add_(0, index, overlap_counts(logits, batch.label, self.task))

    def _summary(self, counts: Tensor, losses: Tensor) -> Validation:
        per_case = losses[:, 0] / losses[:, 1]
        bad = torch.nonzero(~torch.isfinite(per_case)).flatten().tolist()
        if bad:
            raise TrainingError(
                where="validation",
                found=f"the loss of case {self.volumes.names[bad[0]]} is {per_case[bad[0]]:g}",
                expected="a finite loss is needed",
                action="Lower train.optimiser.lr; if only this case fails, look at its image",
            )
        both, predicted, true = counts.double().unbind(-1)
        case_dice = 2 * both / (predicted + true)  # 0 / 0 is NaN: undefined, not counted
        means = case_dice.nanmean(dim=0).tolist()
        dice = dict(zip(self.task.names, means, strict=True))
        return Validation(float(per_case.mean()), dice, case_dice)


def sample_losses(objective: Objective, logits: Tensor, label: Tensor) -> Tensor:
    """The loss of each sample by itself, (batch,), from as many operators as a single sample takes.

    ``logits`` are (batch, channel, \\*spatial), ``label`` (batch, \\*spatial) uint8.
    """
    each: Tensor = torch.vmap(objective)(logits.unsqueeze(1), label.unsqueeze(1))
    return each


def overlap_counts(logits: Tensor, label: Tensor, task: Task) -> Tensor:
    """Count the voxels in both masks, in the prediction and in the reference.

    Parameters
    ----------
    logits, label
        (batch, channel, \\*spatial) and (batch, \\*spatial) uint8 class indices.
    task
        Defines the structures and the activation.

    Returns
    -------
    (batch, structure, 3) int64.
    """
    target = encode_target(label, task)
    if task.activation == "softmax":
        structures = torch.arange(1, logits.shape[1], device=logits.device)
        wanted = structures.reshape(1, -1, *[1] * (logits.ndim - 2))
        # as argmax, in an eighth of its time on a CPU
        predicted = logits.max(dim=1, keepdim=True).indices == wanted
        true = target.unsqueeze(1) == wanted
    else:
        predicted = logits > 0
        true = target.reshape(logits.shape) > 0
    masks = (predicted & true, predicted, true)
    return torch.stack([mask.flatten(2).sum(2) for mask in masks], dim=2)


def build_validator(
    volumes: Volumes,
    task: Task,
    objective: Objective,
    *,
    patch: Sequence[int] | None,
    batch_size: int,
) -> Validator:
    """Cut each case into tiles without overlap, and group tiles of equal size into batches.

    3D cases without ``patch`` are one tile; with it, a case is cut evenly into tiles of at most
    ``patch`` voxels. 2D tasks have one tile per slice.
    """
    slices = task.dimensions == 2
    tiles = [
        (case, window)
        for case, shape in enumerate(volumes.shapes)
        for window in _windows(shape, None if slices else patch, slices=slices)
    ]
    return Validator(volumes, tuple(_groups(tiles, batch_size)), task, objective)


def _windows(
    shape: Sequence[int], patch: Sequence[int] | None, *, slices: bool
) -> Iterator[Window]:
    parts = [math.ceil(length / want) for length, want in zip(shape, patch or shape, strict=True)]
    if slices:
        parts[-1] = shape[-1]
    cuts = [
        [slice(i * length // n, (i + 1) * length // n) for i in range(n)]
        for length, n in zip(shape, parts, strict=True)
    ]
    for x in cuts[0]:
        for y in cuts[1]:
            for z in cuts[2]:
                yield x, y, z


def _groups(tiles: Sequence[Tile], batch_size: int) -> Iterator[tuple[Tile, ...]]:
    by_size: dict[tuple[int, ...], list[Tile]] = {}
    for case, window in tiles:
        size = tuple(s.stop - s.start for s in window)
        by_size.setdefault(size, []).append((case, window))
    for same in by_size.values():
        for i in range(0, len(same), batch_size):
            yield tuple(same[i : i + batch_size])
