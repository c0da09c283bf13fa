"""Layers of narrow networks in the channels-last layout on a CPU.

torch's kernels for that layout work along the channels, of which a compact network has four, so
they leave most of a vector register empty; and batch norm adds millions of float32 numbers one by
one, which costs its statistics half a percent of accuracy. In memory, however, ``k`` voxels in a
row of ``C`` channels are the same as one voxel of ``k C`` channels. Seen like that, the same
kernels are several times faster and, since they build ``k`` partial sums, more accurate.

The first convolution of an image of one channel is widened along the last axis likewise.

Measured for 16x4x48x64x48, forward and backward of one layer, CPU ms on one thread of an AVX-512
machine, bfloat16: batch norm 49 -> 11, first convolution 77 -> 28; relative error of float32 batch
norm 5e-3 -> 4e-5.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_WIDTH = 256  # of the views, at most; beyond a quarter of it a layer is wide enough by itself
_aten = torch.ops.aten


class NarrowLayers(TorchFunctionMode):
    """Inside this context, layers of narrow channels-last tensors are computed as told above."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Route the layers that are known here; everything else stays what it is."""
        options = kwargs or {}
        own = _OWN.get(func)
        found = own(*args, **options) if own else None
        return func(*args, **options) if found is None else found


def _repeats(x: Tensor) -> int:
    """How many voxels in a row make one of the view; 1 if the layout or the size forbids it."""
    if x.ndim not in (4, 5) or not 0 < x.shape[1] <= _WIDTH // 4:
        return 1
    layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    if not x.is_contiguous(memory_format=layout) or x.is_contiguous():
        return 1
    voxels, repeats = x[0, 0].numel(), 1
    while voxels % (2 * repeats) == 0 and 2 * repeats * x.shape[1] <= _WIDTH:
        repeats *= 2
    return repeats


def _widened(x: Tensor, repeats: int) -> Tensor:
    """(N, C, *S) channels-last as (N, C repeats, voxels / repeats, 1): the same memory."""
    flat = x.movedim(1, -1).reshape(len(x), -1, 1, x.shape[1] * repeats)
    return flat.permute(0, 3, 1, 2)


def _narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """The way back."""
    flat = wide.permute(0, 2, 3, 1).reshape(len(like), *like.shape[2:], like.shape[1])
    return flat.movedim(-1, 1)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """``torch.nn.functional.batch_norm``, with its signature; None where it is better."""
    k = _repeats(x)
    if k == 1 or weight is None or bias is None or running_mean is None or running_var is None:
        return None
    if not training:
        wide = _widened(x, k)
        return _narrowed(_scaled(wide, weight, bias, running_mean, running_var, eps), x)
    y, mean, variance = _BatchNorm.apply(x, weight, bias, eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(variance * (count / (count - 1)), momentum)
    return y


class _BatchNorm(torch.autograd.Function):
    """Batch norm by the statistics of the batch; also returns these (mean, biased variance)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, channels = _repeats(x), x.shape[1]
        wide, zeros = _widened(x, k), weight.new_zeros(channels * k)
        means, variances = _aten.batch_norm_update_stats(wide, zeros, zeros.clone(), 0.0)
        means, variances = means.view(k, channels), variances.view(k, channels)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance)
        y = torch.empty_like(x)  # no view, so that a ReLU may work in place
        parts = (value.repeat(k) for value in (weight, bias, mean, variance))
        saved = {"save_mean": mean.new_empty(0), "save_invstd": mean.new_empty(0)}
        _aten.native_batch_norm.out(wide, *parts, False, 0.0, eps, out=_widened(y, k), **saved)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """``dx = a (g - mean(g) - z mean(g z))``, z the normalised input and a its scale."""
        x, weight, mean, variance = ctx.saved_tensors
        k, channels, count = _repeats(x), x.shape[1], x.numel() // x.shape[1]
        layout = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        wide, slope = _widened(x, k), _widened(grad.contiguous(memory_format=layout), k)
        parts = (value.repeat(k) for value in (weight, mean, variance))
        dx, dw, db = _aten.native_batch_norm_backward(
            slope, wide, *parts, None, None, False, ctx.eps, [True, True, True]
        )
        dw, db = dw.view(k, channels).sum(0), db.view(k, channels).sum(0)
        scale = -weight * (variance + ctx.eps).rsqrt() / count
        dx += _scaled(wide, scale * dw, scale * db, mean, variance, ctx.eps)
        return _narrowed(dx, x), dw, db, None


def _scaled(
    wide: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> Tensor:
    """``(x - mean) / sqrt(variance + eps) * weight + bias`` of a view."""
    k = wide.shape[1] // len(weight)
    parts = (value.repeat(k) for value in (weight, bias, mean, variance))
    return _aten.native_batch_norm(wide, *parts, False, 0.0, eps)[0]


def _dropout(
    x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor | None:
    """``dropout2d`` and ``dropout3d``: whole channels, with torch's own random numbers."""
    k = _repeats(x)
    if k == 1 or not training or p == 0:
        return None
    kept = x.new_empty(x.shape[0], x.shape[1], *[1] * (x.ndim - 2)).bernoulli_(1 - p).div_(1 - p)
    return _narrowed(_widened(x, k) * kept.flatten(1).repeat(1, k)[:, :, None, None], x)


def _first_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any, **options: Any
) -> Tensor | None:
    """``conv3d`` of 3x3x3 on a single channel, four voxels of the last axis at a time.

    The four are the channels of one convolution of 3x3x6 in steps of four voxels.
    """
    if options or geometry != _PLAIN or tuple(weight.shape[1:]) != (1, 3, 3, 3):
        return None
    if bias is None or x.shape[-1] % _AT_ONCE:
        return None
    shifted = [functional.pad(weight, (i, _AT_ONCE - 1 - i)) for i in range(_AT_ONCE)]
    y = torch.conv3d(
        x, torch.cat(shifted), bias.repeat(_AT_ONCE), stride=(1, 1, _AT_ONCE), padding=1
    )
    full = y.movedim(1, -1).reshape(len(x), *x.shape[2:], len(weight)).movedim(-1, 1)
    return full.contiguous(memory_format=torch.channels_last_3d)


_AT_ONCE = 4
_PLAIN = ((1, 1, 1), (1, 1, 1), (1, 1, 1), 1)  # stride, padding, dilation, groups
_OWN: dict[Callable[..., Any], Callable[..., Tensor | None]] = {
    torch.conv3d: _first_convolution,
    functional.batch_norm: _batch_norm,
    functional.dropout2d: _dropout,
    functional.dropout3d: _dropout,
}
