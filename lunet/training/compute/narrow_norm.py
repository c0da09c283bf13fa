"""Batch norm, instance norm and dropout with few channels in the channels-last layout on a CPU.

They treat ``k`` voxels with ``C`` channels as one voxel with ``k C`` channels, as described in
:mod:`lunet.training.compute.narrow_layers`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lunet.training.compute.voxel_views import laid_out, narrowed, repeats, widened

_aten = torch.ops.aten


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """``torch.nn.functional.batch_norm``, with its signature; None where torch is better."""
    k = repeats(x)
    if k == 1 or weight is None or bias is None or running_mean is None or running_var is None:
        return None
    if not training:
        wide = widened(x, k)
        return narrowed(_scaled(wide, weight, bias, running_mean, running_var, eps), x)
    y, mean, variance = _Norm.apply(x, weight, bias, eps, len(x))
    mean, variance = mean[0], variance[0]
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
    return y


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """``torch.nn.functional.instance_norm``, with its signature; None where torch is better.

    It is the batch norm of each sample on its own. Running statistics are left to torch.
    """
    is_known = running_mean is None and running_var is None and use_input_stats
    if repeats(x) == 1 or weight is None or bias is None or not is_known:
        return None
    return _Norm.apply(x, weight, bias, eps, 1)[0]


class _Norm(torch.autograd.Function):
    """The norm of ``samples`` samples at a time.

    Their means and biased variances are also returned, one row per group of samples.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, samples: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, channels = repeats(x), x.shape[1]
        y = torch.empty_like(x)  # not a view, so that a ReLU may work in place
        statistics = []
        for part, out in zip(x.split(samples), y.split(samples), strict=True):
            wide, zeros = widened(part, k), weight.new_zeros(channels * k)
            means, variances = _aten.batch_norm_update_stats(wide, zeros, zeros.clone(), 0.0)
            means, variances = means.view(k, channels), variances.view(k, channels)
            mean = means.mean(0)
            variance = variances.mean(0) + (means - mean).square().mean(0)
            statistics.append((mean, variance))
            parts = (value.repeat(k) for value in (weight, bias, mean, variance))
            saved = {"save_mean": mean.new_empty(0), "save_invstd": mean.new_empty(0)}
            target = widened(out, k)
            _aten.native_batch_norm.out(wide, *parts, False, 0.0, eps, out=target, **saved)
        mean, variance = (torch.stack(rows) for rows in zip(*statistics, strict=True))
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.samples = eps, samples
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, means, variances = ctx.saved_tensors
        dx, grad = torch.empty_like(x), laid_out(grad)
        dw, db = torch.zeros_like(weight), torch.zeros_like(weight)
        groups = (tensor.split(ctx.samples) for tensor in (x, grad, dx))
        for part, slope, out, mean, variance in zip(*groups, means, variances, strict=True):
            gradients = _gradients(part, slope, weight, mean, variance, ctx.eps)
            out.copy_(gradients[0])
            dw += gradients[1]
            db += gradients[2]
        return dx, dw, db, None, None


def _gradients(
    x: Tensor, grad: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``dx = a (g - mean(g) - z mean(g z))``, z the normalised input and a its scale; dw, db."""
    k, channels, count = repeats(x), x.shape[1], x.numel() // x.shape[1]
    wide, slope = widened(x, k), widened(grad, k)
    parts = (value.repeat(k) for value in (weight, mean, variance))
    dx, dw, db = _aten.native_batch_norm_backward(
        slope, wide, *parts, None, None, False, eps, [True, True, True]
    )
    dw, db = dw.view(k, channels).sum(0), db.view(k, channels).sum(0)
    scale = -weight * (variance + eps).rsqrt() / count
    dx += _scaled(wide, scale * dw, scale * db, mean, variance, eps)
    return narrowed(dx, x), dw, db


def _scaled(
    wide: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` of a view."""
    k = wide.shape[1] // len(weight)
    parts = (value.repeat(k) for value in (weight, bias, mean, variance))
    return _aten.native_batch_norm(wide, *parts, False, 0.0, eps)[0]


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor | None:
    """``dropout2d`` and ``dropout3d``: whole channels, with torch's own random numbers."""
    k = repeats(x)
    if k == 1 or not training or p == 0:
        return None
    kept = x.new_empty(x.shape[0], x.shape[1], *[1] * (x.ndim - 2)).bernoulli_(1 - p).div_(1 - p)
    return narrowed(widened(x, k) * kept.flatten(1).repeat(1, k)[:, :, None, None], x)
