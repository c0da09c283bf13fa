"""Convolutions with few channels in the channels-last layout on a CPU.

torch's kernels compute a vector register of output channels at once, and a compact network fills
only a quarter of it. ``k`` voxels in a row can be seen as one voxel with ``k`` times the channels
(see :mod:`lunet.training.compute.narrow_layers`), so a 3x3x3 convolution to ``C`` channels equals a
3x3x(k + 2) convolution to ``k C`` channels with a stride of ``k`` voxels along the last axis. Some
of its products are with zeros, but it is faster. The gradient of the input is such a convolution,
too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lunet.training.compute.voxel_views import (
    is_channels_last,
    joined_rows,
    laid_out,
    repeats,
    split_rows,
    voxels,
    widened,
)

_LANES = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8
_MOST = 4  # most voxels that are computed at once
_GEOMETRY = 5  # arguments of an up-convolution after its bias, as torch's layers pass them
_aten = torch.ops.aten


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any, **options: Any
) -> Tensor | None:
    """``torch.conv2d`` and ``conv3d``, with their parameters; None where torch is better.

    Only kernels of 3 along each axis that keep the size are handled.
    """
    axes = x.ndim - 2
    ones = (1,) * axes
    if options or geometry != (ones, ones, ones, 1) or tuple(weight.shape[2:]) != (3,) * axes:
        return None
    if weight.shape[1] == 1:
        return _first_convolution(x, weight, bias)
    forth, back = (_voxels_at_once(channels, x.shape[-1]) for channels in weight.shape[:2])
    if forth == back == 1 or not is_channels_last(x):
        return None
    return _Convolution.apply(*_as_computed(x, weight, bias), forth, back)


def up_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any, **options: Any
) -> Tensor | None:
    """``torch.conv_transpose2d`` and ``conv_transpose3d``; None where torch is better."""
    if options or bias is None or len(geometry) != _GEOMETRY or not is_channels_last(x):
        return None
    return _UpConvolution.apply(*_as_computed(x, weight, bias), *geometry)


def _voxels_at_once(channels: int, width: int) -> int:
    """How many voxels of a row fill a register of output channels."""
    k = _MOST
    while k > 1 and (k * channels > _LANES or width % k):
        k //= 2
    return k


def _as_computed(*tensors: Tensor | None) -> list[Tensor | None]:
    """The tensors in the dtype of autocast, if it is on."""
    if not torch.is_autocast_enabled("cpu"):
        return list(tensors)
    dtype = torch.get_autocast_dtype("cpu")
    return [None if tensor is None else tensor.to(dtype) for tensor in tensors]


class _Convolution(torch.autograd.Function):
    """Computes ``forth`` voxels at once, and ``back`` voxels for the gradient of the input."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, forth: int, back: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.forth, ctx.back = forth, back
        return _several_at_once(x, weight, bias, forth)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, dx, db = laid_out(grad), None, None
        if ctx.needs_input_grad[0]:
            turned = weight.transpose(0, 1).flip(*range(2, weight.ndim))
            dx = _several_at_once(grad, turned, None, ctx.back)
        if ctx.needs_input_grad[2]:
            db = _sum_of_channels(grad)
        return dx, _weight_gradient(x, weight, grad, ctx.forth), db, None, None


def _several_at_once(x: Tensor, weight: Tensor, bias: Tensor | None, k: int) -> Tensor:
    """The convolution, ``k`` voxels of the last axis at once."""
    wide = None if bias is None else bias.repeat(k)
    y = _aten.convolution(x, _shifted(weight, k), wide, *_steps(x, k))
    return _without_base(joined_rows(y, k))


def _weight_gradient(x: Tensor, weight: Tensor, grad: Tensor, k: int) -> Tensor:
    wide, wanted = _shifted(weight, k), [False, True, False]
    dw = _aten.convolution_backward(split_rows(grad, k), x, wide, None, *_steps(x, k), wanted)[1]
    return torch.stack([part.narrow(-1, i, 3) for i, part in enumerate(dw.chunk(k))]).sum(0)


def _sum_of_channels(grad: Tensor) -> Tensor:
    """The gradient of a bias."""
    wide = voxels(widened(grad, repeats(grad)))
    return wide.sum(0).view(-1, grad.shape[1]).sum(0)


def _shifted(weight: Tensor, k: int) -> Tensor:
    """Kernels of width ``k + 2``: the kernels of ``k`` voxels in a row, one after the other."""
    return torch.cat([functional.pad(weight, (i, k - 1 - i)) for i in range(k)])


def _steps(x: Tensor, k: int) -> tuple[Any, ...]:
    """Stride, padding, dilation, transposed, output padding, groups."""
    ones = [1] * (x.ndim - 2)
    return [*ones[1:], k], ones, ones, False, [0] * len(ones), 1


def _first_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """The convolution of a one-channel image, where voxels in a row are also input channels."""
    k = _MOST
    if x.shape[-1] % k or not x.is_contiguous():
        return None
    bands = [functional.pad(weight, (k - 1 + i, 2 * k - 2 - i)) for i in range(k)]
    wide = torch.cat(bands).unflatten(-1, (3, k)).movedim(-1, 2).squeeze(1)
    call = torch.conv2d if x.ndim == 4 else torch.conv3d
    repeated = None if bias is None else bias.repeat(k)
    return _JoinedRows.apply(call(split_rows(x, k), wide, repeated, padding=1), k)


class _JoinedRows(torch.autograd.Function):
    """:func:`joined_rows` that is not a view for autograd, so that a ReLU may work in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        ctx.k = k
        return _without_base(joined_rows(laid_out(x), k))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return split_rows(laid_out(grad), ctx.k), None


def _without_base(view: Tensor) -> Tensor:
    """A tensor with the same memory that is not a view for autograd."""
    like = view.untyped_storage(), view.storage_offset(), view.shape, view.stride()
    return view.new_empty(0).set_(*like)


class _UpConvolution(torch.autograd.Function):
    """torch's own, except the bias's gradient, which takes torch longer than all the others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> Tensor:
        stride, padding, output_padding, groups, dilation = geometry
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, dilation, True, output_padding, groups
        return _aten.convolution(x, weight, bias, *ctx.geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = laid_out(grad)
        wanted = [ctx.needs_input_grad[0], True, False]
        dx, dw, _ = _aten.convolution_backward(grad, x, weight, None, *ctx.geometry, wanted)
        return dx, dw, _sum_of_channels(grad), *[None] * _GEOMETRY
