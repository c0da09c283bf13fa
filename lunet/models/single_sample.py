"""Faster 3x3x3 convolutions of single samples on a CPU, for prediction.

With one thread, PyTorch computes the convolution of a batch of one with its own ``slow_conv3d``
unless the input is large; oneDNN takes a third to a tenth of the time. The results differ only by
rounding. Training uses larger batches and is not affected.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

_LEAST_VOXELS = 512
"""Smaller images gain nothing, because calling oneDNN takes longer than the convolution itself."""


@contextmanager
def fast_single_samples(models: Sequence[nn.Module]) -> Iterator[None]:
    """Use oneDNN for the networks' dense 3x3x3 convolutions of one float32 sample within the block.

    The networks are changed in place until the block ends. Other inputs (several samples, other
    types or devices, with gradients) are computed as before.
    """
    layers = [layer for model in models for layer in _changed(model)]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def fast_copy(model: nn.Module) -> nn.Module:
    """A copy that computes single samples with oneDNN, as in :func:`fast_single_samples`."""
    twin = copy.deepcopy(model)
    _changed(twin)
    return twin


def _changed(model: nn.Module) -> list[nn.Conv3d]:
    found = [layer for layer in model.modules() if isinstance(layer, nn.Conv3d) and _suits(layer)]
    for layer in found:
        layer.forward = partial(_forward, layer)  # type: ignore[method-assign]
    return found


def _suits(layer: nn.Conv3d) -> bool:
    return (
        type(layer) is nn.Conv3d
        and "forward" not in vars(layer)
        and layer.kernel_size == (3, 3, 3)
        and layer.stride == layer.dilation == (1, 1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.padding == (1, 1, 1)
        and torch.backends.mkldnn.is_available()
    )


def _forward(layer: nn.Conv3d, x: Tensor) -> Tensor:
    is_alone = x.dim() == 5 and x.shape[0] == 1 and x[0, 0].numel() >= _LEAST_VOXELS
    is_plain = x.device.type == "cpu" and x.dtype == layer.weight.dtype == torch.float32
    if not (is_alone and is_plain) or torch.is_grad_enabled():
        return nn.Conv3d.forward(layer, x)
    ones = (1, 1, 1)
    return torch.mkldnn_convolution(x, layer.weight, layer.bias, ones, ones, ones, 1)
