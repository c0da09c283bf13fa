"""Counts the memory of a network's training step, for `lunet plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lunet.data.plan import NetworkCost
from lunet.models.live_memory import meta_copy, peak_bytes
from lunet.training.compute.device import choose_device
from lunet.training.memory import available_memory

# weights, their gradients, two moments of Adam
_STATES = 4
_BYTES = 4


def network_cost(model: nn.Module, *, channels: int, ndim: int) -> NetworkCost:
    """Live bytes per voxel of one training step, from two sizes on meta tensors.

    Scratch memory inside kernels is not counted, so a budget should leave room for it.
    """
    multiple = tuple(getattr(model, "multiple", (1,) * ndim))
    unit = max(16, *multiple)
    sizes = [(2, channels, *(unit * factor,) * ndim) for factor in (1, 2)]
    peaks = [peak_bytes(meta_copy(model).train(), size, _step) for size in sizes]
    voxels = [torch.Size(size).numel() // channels for size in sizes]
    slope = (peaks[1] - peaks[0]) / (voxels[1] - voxels[0])
    weights = sum(parameter.numel() for parameter in model.parameters())
    return NetworkCost(slope, float(_STATES * _BYTES * weights), multiple)


def costliest(costs: Sequence[NetworkCost]) -> NetworkCost:
    """A cost that suffices for each network: one patch and batch for all keep a comparison fair."""
    axes = zip(*(cost.multiple for cost in costs), strict=True)
    return NetworkCost(
        max(cost.bytes_per_voxel for cost in costs),
        max(cost.fixed_bytes for cost in costs),
        tuple(math.lcm(*sizes) for sizes in axes),
    )


def _step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward pass, as in a training."""
    outputs = model(x)
    for output in outputs if isinstance(outputs, list | tuple) else [outputs]:
        output.float().sum().backward(retain_graph=True)


def usable_memory(gib: float | None) -> float:
    """Bytes that a training may use: ``gib``, else 80 % of the free memory of the device."""
    if gib is not None:
        return gib * 2**30
    return 0.8 * available_memory(choose_device())
