"""The formulas behind :func:`lunet.training.losses.build.build_loss`, which documents the shapes.

"Probabilities" of a structure are the sigmoid of its logit, or its softmax share; the background
is never a structure.

Empty structures: a Dice without smoothing in its numerator is 0/0 for a structure that is absent
from target and prediction, and has no gradient for a structure that is absent only from the target.
There the loss is ``q / (q + 1)``, where q is the sum of the predicted probabilities: 0 for an empty
prediction, about 1 (the published value) for anything larger than a few voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from lunet.errors import ConfigError

Loss = Callable[[Tensor, Tensor], Tensor]


def probabilities(logits: Tensor, activation: str) -> Tensor:
    """Probabilities of the structures, ``(B, K, *S)``: no background channel for ``softmax``."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=1)[:, 1:]


def _overlapping(logits: Tensor, target: Tensor) -> bool:
    return target.ndim == logits.ndim


def _structure_logits(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """One-against-rest logits and masks of the structures, both ``(B, K, *S)``.

    For classes the logit is ``z_c - logsumexp(others)``, whose sigmoid is the softmax share.
    """
    masks = _masks(logits, target)
    if _overlapping(logits, target) or logits.shape[1] == 1:
        return logits, masks
    channels = logits.unbind(dim=1)
    before = list(accumulate(channels[:-1], torch.logaddexp))
    after = list(accumulate(reversed(channels[2:]), torch.logaddexp))[::-1]
    others = [*map(torch.logaddexp, before[:-1], after), before[-1]]
    columns = [z - rest for z, rest in zip(channels[1:], others, strict=True)]
    return torch.stack(columns, dim=1), masks


def _structures(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and masks of the structures, both ``(B, K, *S)``."""
    softmax = logits.shape[1] > 1 and not _overlapping(logits, target)
    activation = "softmax" if softmax else "sigmoid"
    return probabilities(logits, activation), _masks(logits, target)


def _masks(logits: Tensor, target: Tensor) -> Tensor:
    if _overlapping(logits, target):
        return target.to(logits.dtype)
    if logits.shape[1] == 1:
        return (target > 0).unsqueeze(1).to(logits.dtype)
    structures = torch.arange(1, logits.shape[1], device=target.device, dtype=target.dtype)
    wanted = structures.reshape(1, -1, *[1] * (target.ndim - 1))
    return (target.unsqueeze(1) == wanted).to(logits.dtype)


def _voxel_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each voxel ``(B, *S)``; for regions, of each voxel and region."""
    if _overlapping(logits, target):
        return functional.binary_cross_entropy_with_logits(
            logits, target.to(logits.dtype), reduction="none"
        )
    if logits.shape[1] == 1:
        truth = (target > 0).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits[:, 0], truth, reduction="none")
    return functional.cross_entropy(logits, target.long(), reduction="none")


def _voxel_weights(
    logits: Tensor, target: Tensor, class_weights: Sequence[float] | None
) -> Tensor | float:
    """Weight of each voxel by its true class (for regions, by its region)."""
    if class_weights is None:
        return 1.0
    regions = _overlapping(logits, target)
    classes = logits.shape[1] if regions else max(2, logits.shape[1])
    if len(class_weights) != classes:
        raise ConfigError(
            where="class_weights",
            found=f"{len(class_weights)} weights",
            expected=f"{classes} are expected",
        )
    # filled on the device, because a copy from the host would make a GPU wait
    table = torch.stack([logits.new_full((), weight) for weight in class_weights])
    if regions:
        return table.reshape(1, -1, *[1] * (logits.ndim - 2)).expand_as(logits)
    return table[target.long().clamp_max(classes - 1)]


def _overlap(p: Tensor, y: Tensor, over: str) -> tuple[Tensor, Tensor, Tensor]:
    """``sum(p y)``, ``sum(p)``, ``sum(y)`` per structure, over space and optionally the batch."""
    space = list(range(2, p.ndim))
    axes = [0, *space] if over == "batch" else space
    return (p * y).sum(axes), p.sum(axes), y.sum(axes)


def _smoothed_dice(p: Tensor, y: Tensor, *, smooth: float, over: str) -> Tensor:
    both, predicted, true = _overlap(p, y, over)
    return (1 - (2 * both + smooth) / (predicted + true + smooth).clamp_min(1e-8)).mean()


def _plain_dice(p: Tensor, y: Tensor, *, epsilon: float, over: str) -> Tensor:
    """Dice with epsilon only in the denominator; empty structures as in the module's docstring."""
    both, predicted, true = _overlap(p, y, over)
    present = 1 - 2 * both / (predicted + true + epsilon)
    return torch.where(true > 0, present, predicted / (predicted + 1)).mean()


def _dice(logits: Tensor, target: Tensor, *, over: str) -> Tensor:
    return _plain_dice(*_structures(logits, target), epsilon=1e-7, over=over)


def _bce(logits: Tensor, target: Tensor, *, foreground_weight: float) -> Tensor:
    z, y = _structure_logits(logits, target)
    weight = z.new_full((), foreground_weight)
    return functional.binary_cross_entropy_with_logits(z, y, pos_weight=weight)


def _dice_bce(logits: Tensor, target: Tensor, *, dice_weight: float, bce_weight: float) -> Tensor:
    dice = _dice(logits, target, over="batch")
    return dice_weight * dice + bce_weight * _bce(logits, target, foreground_weight=1.0)


def _ce(logits: Tensor, target: Tensor, *, class_weights: Sequence[float] | None) -> Tensor:
    loss = _voxel_ce(logits, target)
    weight = _voxel_weights(logits, target, class_weights)
    if isinstance(weight, float):
        return loss.mean()
    return (weight * loss).sum() / weight.sum().clamp_min(1e-12)


def _dice_2d(
    logits: Tensor, target: Tensor, *, smooth: float, include_background: bool = False
) -> Tensor:
    p, y = _structures(logits, target)
    if include_background:
        if _overlapping(logits, target):
            raise ConfigError(
                where="include_background",
                found="true",
                expected="regions have no background channel",
            )
        p = torch.cat([1 - p.sum(1, keepdim=True), p], dim=1)
        y = torch.cat([1 - y.sum(1, keepdim=True), y], dim=1)
    return _smoothed_dice(p, y, smooth=smooth, over="sample")


def _combined(
    logits: Tensor,
    target: Tensor,
    *,
    ce_weight: float,
    dice_weight: float,
    class_weights: Sequence[float] | None,
    smooth: float,
) -> Tensor:
    ce = _ce(logits, target, class_weights=class_weights)
    return ce_weight * ce + dice_weight * _dice_2d(logits, target, smooth=smooth)


def _modulated(ce: Tensor, gamma: float) -> Tensor:
    """``(1 - p)^gamma ce`` with ``ce = -log p``; the slope at p = 1 is kept finite."""
    return (-torch.expm1(-ce)).clamp_min(1e-12) ** gamma * ce


def _focal(
    logits: Tensor, target: Tensor, *, gamma: float, class_weights: Sequence[float] | None
) -> Tensor:
    weight = _voxel_weights(logits, target, class_weights)
    return (weight * _modulated(_voxel_ce(logits, target), gamma)).mean()


def _focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    fn_weight: float,
    fp_weight: float,
    gamma: float,
    smooth: float,
) -> Tensor:
    """One Tversky index per structure over the whole batch; mean over structures."""
    hit, predicted, true = _overlap(*_structures(logits, target), over="batch")
    errors = fn_weight * (true - hit) + fp_weight * (predicted - hit)
    miss = errors / (hit + errors + smooth).clamp_min(1e-8)
    return (miss.clamp_min(1e-7) ** gamma).mean()  # x^0.75 has an infinite slope at 0


def _balanced_ce(logits: Tensor, target: Tensor, *, foreground_weight: float) -> Tensor:
    """Foreground is every class except the background; for regions, each region separately."""
    if foreground_weight > 1:
        raise ConfigError(
            where="foreground_weight",
            found=f"found {foreground_weight}",
            expected="0 to 1 is expected",
        )
    loss = _voxel_ce(logits, target)
    foreground = (target > 0).to(loss.dtype)
    space = list(range(loss.ndim - logits.ndim + 2, loss.ndim))
    background = 1 - foreground
    inside = (loss * foreground).sum(space) / (foreground.sum(space) + 1e-6)
    outside = (loss * background).sum(space) / (background.sum(space) + 1e-6)
    return (foreground_weight * inside + (1 - foreground_weight) * outside).mean()


def _balanced_focal_tversky(
    logits: Tensor,
    target: Tensor,
    *,
    ce_weight: float,
    tversky_weight: float,
    foreground_weight: float,
    **tversky: float,
) -> Tensor:
    ce = _balanced_ce(logits, target, foreground_weight=foreground_weight)
    return ce_weight * ce + tversky_weight * _focal_tversky(logits, target, **tversky)


def _dice_bce_2d(
    logits: Tensor,
    target: Tensor,
    *,
    ce_weight: float,
    dice_weight: float,
    foreground_weight: float,
    smooth: float,
) -> Tensor:
    ce = _balanced_ce(logits, target, foreground_weight=foreground_weight)
    return ce_weight * ce + dice_weight * _dice_2d(logits, target, smooth=smooth)


def _dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    ce_weight: float,
    dice_weight: float,
    class_weights: Sequence[float] | None,
    smooth: float,
    over: str,
) -> Tensor:
    dice = _smoothed_dice(*_structures(logits, target), smooth=smooth, over=over)
    return ce_weight * _ce(logits, target, class_weights=class_weights) + dice_weight * dice


def _focal_dice(
    logits: Tensor, target: Tensor, *, focal_weight: float, dice_weight: float, gamma: float
) -> Tensor:
    z, y = _structure_logits(logits, target)
    ce = functional.binary_cross_entropy_with_logits(z, y, reduction="none")
    dice = _plain_dice(z.sigmoid(), y, epsilon=1e-5, over="sample")
    return focal_weight * _modulated(ce, gamma).mean() + dice_weight * dice


FORMULAS: dict[str, Callable[..., Tensor]] = {
    "dice": _dice,
    "bce": _bce,
    "dice_bce": _dice_bce,
    "ce": _ce,
    "dice_2d": _dice_2d,
    "combined": _combined,
    "focal": _focal,
    "focal_tversky": _focal_tversky,
    "balanced_ce": _balanced_ce,
    "balanced_focal_tversky": _balanced_focal_tversky,
    "dice_bce_2d": _dice_bce_2d,
    "dice_ce": _dice_ce,
    "focal_dice": _focal_dice,
}
