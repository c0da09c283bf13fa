"""Linear interpolation of batches, also reproducible on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lunet.models.blocks import layers_of


def resize(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Linear interpolation of (batch, channel, \\*spatial) to ``sizes`` voxels, corners aligned.

    If deterministic algorithms are requested on CUDA, it is computed by matrix products, because
    torch's own gradient is summed in varying order there.
    """
    if tuple(x.shape[2:]) == tuple(sizes):
        return x
    if x.device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        return resize_by_products(x, sizes)
    mode = layers_of(x.ndim - 2).interpolation
    return functional.interpolate(x, size=tuple(sizes), mode=mode, align_corners=True)


def resize_by_products(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """:func:`resize` as one matrix product per axis, at least in float32, also under autocast."""
    y = x if x.dtype == torch.float64 else x.float()
    with torch.autocast(x.device.type, enabled=False):
        for axis, size in enumerate(sizes, start=2):
            weights = _weights(y.shape[axis], size, y)
            y = (y.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return y.to(x.dtype)


def _weights(before: int, after: int, like: Tensor) -> Tensor:
    """(after, before): weight of each voxel in each interpolated one, made where ``like`` is."""
    device = like.device  # a copy from the CPU would make it wait for a GPU
    end = before - 1 if after > 1 else 0
    place = torch.linspace(0, end, after, device=device)
    weights = (1 - (place[:, None] - torch.arange(before, device=device)).abs()).clamp_min(0)
    return weights.to(like.dtype)
