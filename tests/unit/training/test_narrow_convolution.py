"""Convolutions of few channels, and their gradients, against torch's own in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.narrow_layers import NarrowLayers
from lunet.training.compute.voxel_views import is_channels_last, laid_out, split_rows

widths = st.integers(1, 9)
OWN = ("_ConvolutionBackward", "_JoinedRowsBackward", "_UpConvolutionBackward")
layers = st.sampled_from(["convolution", "convolution without bias", "up-convolution"])


def found(layer: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output and all gradients."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    y.backward(grad)
    gradients = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [y.detach(), *(g for g in gradients if g is not None)]


def make(kind: str, ndim: int, into: int, out: int) -> nn.Module:
    if kind in ("convolution", "convolution without bias"):
        biased = kind == "convolution"
        return (nn.Conv2d if ndim == 2 else nn.Conv3d)(into, out, 3, padding=1, bias=biased)
    return (nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d)(into, out, 2, stride=2)


@given(layers, widths, widths, st.lists(st.integers(1, 9), min_size=2, max_size=3), st.booleans())
def test_convolutions_are_torchs(
    kind: str, into: int, out: int, size: list[int], tidy: bool
) -> None:
    torch.manual_seed(0)
    layer = make(kind, len(size), into, out)
    exact = copy.deepcopy(layer).double()
    x = laid_out(torch.randn(2, into, *size))
    grad = torch.randn(layer(x).shape)
    grad = laid_out(grad) if tidy else grad.contiguous()
    expected = found(exact, x.double(), grad.double())
    with NarrowLayers():
        mine = found(layer, x, grad)
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("into", [1, 4])
@pytest.mark.parametrize("ndim", [2, 3])
def test_they_are_known_and_keep_the_layout(into: int, ndim: int) -> None:
    """The comparison above would hold as well for layers that are left to torch."""
    x = laid_out(torch.randn(2, into, *[8] * ndim))
    for kind in ("convolution", "up-convolution")[:into]:
        layer = make(kind, ndim, into, 4)
        with NarrowLayers():
            y = layer(x)
        assert is_channels_last(y), kind
        assert type(y.grad_fn).__name__ in OWN, kind


def test_a_relu_may_work_in_place_on_them() -> None:
    for into in (1, 4):
        x = laid_out(torch.randn(2, into, 8, 8, 8))
        gradients = []
        for inplace in (False, True):
            torch.manual_seed(0)
            layer = nn.Sequential(nn.Conv3d(into, 4, 3, padding=1), nn.ReLU(inplace=inplace))
            with NarrowLayers():
                layer(x).square().sum().backward()
            gradients.append([parameter.grad for parameter in layer.parameters()])
        assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["convolution", "up-convolution"])
def test_autocast_holds_for_them_too(kind: str) -> None:
    torch.manual_seed(0)
    layer, x = make(kind, 3, 4, 4), laid_out(torch.randn(2, 4, 8, 8, 8))
    arithmetic = Arithmetic("cpu", "bf16", "channels_last", False, 1, True)
    y = arithmetic.forward(layer, x)
    y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16
    assert {p.grad.dtype for p in layer.parameters() if p.grad is not None} == {torch.float32}
    torch.testing.assert_close(y.float(), layer(x), rtol=0.03, atol=0.03)


@pytest.mark.parametrize("channels", [(4, 4), (4, 8, 12), (3, 4), (2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_concatenation_is_torchs_bit_for_bit(channels: tuple[int, ...], dtype: Any) -> None:
    torch.manual_seed(0)
    parts = [laid_out(torch.randn(2, c, 4, 6, 8).to(dtype)) for c in channels]
    outcomes = []
    for own in (False, True):
        leaves = [part.clone().requires_grad_() for part in parts]
        with NarrowLayers() if own else torch.enable_grad():
            y = torch.cat(leaves, dim=1)
        outcomes.append((y.detach(), torch.autograd.grad(y, leaves, y.detach().sin())))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert is_channels_last(outcomes[1][0])
    for mine, theirs in zip(outcomes[1][1], outcomes[0][1], strict=True):
        assert torch.equal(mine, theirs)
        assert mine.is_contiguous(memory_format=torch.channels_last_3d)


def test_voxels_in_a_row_become_channels() -> None:
    x = laid_out(torch.arange(2 * 3 * 4 * 8.0).reshape(2, 3, 4, 8))
    wide = split_rows(x, 4)
    assert wide.shape == (2, 12, 4, 2)
    assert wide.data_ptr() == x.data_ptr()
    for voxel in range(4):
        assert torch.equal(wide[:, 3 * voxel : 3 * voxel + 3], x[..., voxel::4])
