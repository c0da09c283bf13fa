"""Segmentation losses on logits, by name, for 2D and 3D.

Every loss works for three forms of a task:

* binary: logits ``(B, 1, *S)``, target ``(B, *S)`` of 0 and 1 (the same as two logits ``[0, z]``),
* classes: logits ``(B, C, *S)``, target ``(B, *S)`` of class indices, 0 is background,
* regions that may overlap: logits ``(B, K, *S)``, target ``(B, K, *S)`` of 0 and 1.

Formulas and the treatment of empty structures are in `lunet.training.losses.formulas`. Everything
is computed in float32 (float64 for float64 logits), also under autocast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lunet.errors import ConfigError, TrainingError
from lunet.models.resizing import resize
from lunet.task import Task
from lunet.training.losses.formulas import FORMULAS, Loss
from lunet.training.losses.table import loss_options, objective_options

Objective = Callable[[Tensor | Sequence[Tensor], Tensor], Tensor]


def build_loss(name: str, **options: Any) -> Loss:
    """The loss ``name`` as a function of logits and target (shapes in the module's docstring).

    ``lunet list losses`` shows options, defaults, formulas and sources. ``class_weights``
    has one weight per class, background first (per region for regions).

    Raises
    ------
    ConfigError
        If the name or an option is unknown (the message names the nearest known one), or a value is
        not allowed.
    """
    chosen = loss_options(name, options)
    return functools.partial(_compute, functools.partial(FORMULAS[name], **chosen))


def build_objective(
    loss: Mapping[str, float],
    options: Mapping[str, Any],
    *,
    task: Task,
    deep_supervision: Literal["halving"] | Sequence[float] = (),
) -> Objective:
    """The objective of a training: a weighted sum of losses over the outputs of the network.

    Parameters
    ----------
    loss, options
        ``train.loss`` and ``train.loss_options``.
    task
        Defines how labels become targets (:func:`encode_target`).
    deep_supervision
        Weights of the outputs, main output first; their sum is not normalised. ``halving``: 1, 1/2,
        1/4 ... over as many outputs as there are, divided by their sum. Outputs of another size are
        resized (linear, corners aligned) to the labels' size, so that small targets never vanish.
        Empty: only the main output counts.

    Returns
    -------
    Function of the network's output (one tensor, or several with the main one first) and the
    labels ``(B, *S)`` as stored (uint8) that returns a scalar. A single output (evaluation mode)
    always counts as the main output with weight 1.
    """
    chosen = objective_options(loss, options)
    terms = [(w, build_loss(name, **chosen[name])) for name, w in loss.items() if w > 0]

    def objective(outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        target = encode_target(labels, task)
        total = labels.new_zeros((), dtype=torch.float32)
        for weight, logits in _weighted_outputs(outputs, deep_supervision):
            resized = resize(_at_least_float32(logits), labels.shape[1:])
            for share, term in terms:
                total = total + weight * share * term(resized, target)
        return total

    return objective


def encode_target(labels: Tensor, task: Task) -> Tensor:
    """Turn stored labels ``(B, *S)`` into targets, for any class indices of the task.

    Returns ``(B, *S)`` of 0 and 1 for a binary task (uint8) and of 0 .. k in the order of
    ``task.labels`` for classes (int64), ``(B, K, *S)`` float32 for regions. Indices that the task
    does not name are background.
    """
    if task.regions:
        masks = [_any_of(labels, indices) for indices in task.regions.values()]
        return torch.stack(masks, dim=1).float()
    indices = list(task.labels.values())
    if len(indices) == 1:
        return (labels == indices[0]).to(torch.uint8)
    target = torch.zeros_like(labels)
    for channel, index in enumerate(indices, start=1):
        target.add_((labels == index).view(torch.uint8), alpha=channel)
    return target.long()


def _any_of(labels: Tensor, indices: Sequence[int]) -> Tensor:
    return functools.reduce(torch.logical_or, [labels == index for index in indices])


def _weighted_outputs(
    outputs: Tensor | Sequence[Tensor], weights: Literal["halving"] | Sequence[float]
) -> list[tuple[float, Tensor]]:
    if isinstance(outputs, Tensor):
        return [(1.0, outputs)]
    if not weights or len(outputs) == 1:
        return [(1.0, outputs[0])]
    if isinstance(weights, str):
        halves = [0.5**level for level in range(len(outputs))]
        weights = [half / sum(halves) for half in halves]
    if len(outputs) != len(weights):
        raise ConfigError(
            where="train.deep_supervision",
            found=f"{len(weights)} weights",
            expected=f"the network has {len(outputs)} outputs",
            action="Give one weight per output, main first",
        )
    return [(w, output) for w, output in zip(weights, outputs, strict=True) if w != 0]


def _compute(formula: Loss, logits: Tensor, target: Tensor) -> Tensor:
    """Check the shapes, switch off autocast and half precision, then apply the formula."""
    expected = (logits.shape[0], *logits.shape[2:])
    if tuple(target.shape) not in (tuple(logits.shape), expected):
        raise TrainingError(
            where="train.loss",
            found=f"target of shape {tuple(target.shape)} for logits of {tuple(logits.shape)}",
            expected=f"{expected} class indices or one mask per logit channel are expected",
        )
    with torch.autocast(logits.device.type, enabled=False):
        return formula(_at_least_float32(logits), target)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
