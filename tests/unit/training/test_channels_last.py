"""Layers of narrow channels-last tensors against torch's own, in float64 where it matters."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import TINY, job, prepare, results
from torch import Tensor, nn
from torch.nn import functional

from lunet.models.unet import UNet
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.narrow_layers import NarrowLayers
from lunet.training.compute.voxel_views import laid_out, repeats
from lunet.training.recipe import Engine
from lunet.training.run import run_training

SHAPES = [(3, 4, 8, 8, 6), (2, 12, 4, 4, 4), (4, 1, 16, 8), (2, 5, 6, 10, 4), (2, 4, 3, 5, 7)]


def norm(x: Tensor, g: Tensor, layer: nn.Module) -> list[Tensor]:
    """Output, gradients and running statistics."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(g)
    found = [y, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]
    return [t.detach().double() for t in found if t is not None]


def batch_norm(channels: int, ndim: int) -> nn.Module:
    torch.manual_seed(1)
    layer = (nn.BatchNorm2d if ndim == 4 else nn.BatchNorm3d)(channels)
    nn.init.uniform_(layer.weight, -1, 2)
    nn.init.uniform_(layer.bias)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_gradients(shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    x, g = (laid_out(torch.randn(shape) * 3 + 5) for _ in range(2))
    expected = norm(
        x.double(), g.double(), batch_norm(shape[1], len(shape)).double().train(training)
    )
    with NarrowLayers():
        found = norm(x, g, batch_norm(shape[1], len(shape)).train(training))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_instance_norm_and_its_gradients(shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    x, g = (laid_out(torch.randn(shape) * 3 + 5) for _ in range(2))
    layer = (nn.InstanceNorm2d if len(shape) == 4 else nn.InstanceNorm3d)(shape[1], affine=True)
    nn.init.uniform_(layer.weight, -1, 2)
    nn.init.uniform_(layer.bias)
    layer.train(training)
    expected = norm(x.double(), g.double(), copy.deepcopy(layer).double())
    with NarrowLayers():
        found = norm(x, g, layer)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("layer", "known"),
    [(nn.InstanceNorm3d(4, affine=True), True)]
    + [
        (nn.InstanceNorm3d(4), False),
        (nn.InstanceNorm3d(4, affine=True, track_running_stats=True), False),
    ],
)
def test_instance_norm_is_computed_here_if_it_has_weights_alone(
    layer: nn.Module, known: bool
) -> None:
    x = laid_out(torch.randn(2, 4, 8, 8, 8)).requires_grad_()
    with NarrowLayers():
        y = layer(x)
    assert (type(y.grad_fn).__name__ == "_NormBackward") is known


def test_batch_norm_of_half_precision_keeps_statistics_in_float32() -> None:
    torch.manual_seed(0)
    x = laid_out((torch.randn(2, 4, 16, 16, 16) + 3).bfloat16())
    layer = batch_norm(4, 5)
    with NarrowLayers():
        y = layer(x)
    assert y.dtype == torch.bfloat16
    exact = x.double().mean((0, 2, 3, 4))
    torch.testing.assert_close(layer.running_mean.double(), 0.1 * exact, rtol=1e-5, atol=0)


def test_large_batches_are_more_accurate_than_torchs_kernel() -> None:
    torch.manual_seed(0)
    x = laid_out(torch.randn(8, 4, 32, 32, 32).relu())
    exact = functional.batch_norm(x.double().contiguous(), None, None, training=True)
    plain = functional.batch_norm(x, None, None, training=True)
    with NarrowLayers():
        own = nn.BatchNorm3d(4)(x)
    assert (own - exact).abs().max() < 1e-4
    assert (own - exact).abs().max() <= (plain - exact).abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_is_torchs_bit_for_bit(shape: tuple[int, ...]) -> None:
    layer = (nn.Dropout2d if len(shape) == 4 else nn.Dropout3d)(0.4)
    outcomes = []
    for context in (torch.no_grad(), NarrowLayers()):
        torch.manual_seed(3)
        x = laid_out(torch.randn(shape)).requires_grad_()
        with torch.enable_grad(), context, torch.enable_grad():
            y = layer(x)
        y.sum().backward()
        outcomes.append((y.detach(), x.grad))
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(1, 3, 3),
        nn.Conv3d(1, 3, 3, padding=1, stride=2),
        nn.Conv3d(1, 3, 1),
        nn.Conv3d(1, 3, 3, padding=1, dilation=2),
        nn.Conv3d(1, 3, 3, padding="same"),
        nn.Conv3d(4, 4, 3, padding=1, groups=2),
        nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1)),
        nn.Conv3d(12, 12, 3, padding=1),
        nn.ConvTranspose3d(4, 4, 2, stride=2, bias=False),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(layer: Any) -> None:
    torch.manual_seed(0)
    x = laid_out(torch.randn(2, layer.in_channels, 8, 8, 8))
    with NarrowLayers():
        own = layer(x)
    assert torch.equal(own, layer(x))


def test_a_network_learns_the_same_in_both_layouts() -> None:
    torch.manual_seed(0)
    image, target = torch.randn(2, 1, 16, 16, 16), torch.randn(2, 3, 16, 16, 16)
    gradients = []
    for layout in ("contiguous", "channels_last"):
        arithmetic = Arithmetic("cpu", "fp32", layout, compile=False, threads=1, deterministic=True)
        torch.manual_seed(1)
        model = arithmetic.place(UNet(1, 3, widths=[4, 4, 4], dropout=0.2)).train()
        functional.mse_loss(arithmetic.forward(model, image), target).backward()
        gradients.append([p.grad for p in model.parameters()] + list(model.buffers()))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_training_in_this_layout_goes_on_bit_for_bit(tmp_path: Path) -> None:
    data = prepare(tmp_path / "d")
    engine = Engine("cpu", "bf16", "channels_last", "off", threads=1)
    undisturbed = replace(TINY, epochs=4, engine=engine, keep_state=True)
    run_training(job(data, tmp_path / "whole", undisturbed))
    for epochs in (2, 4):
        run_training(job(data, tmp_path / "parts", replace(undisturbed, epochs=epochs)))
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


def test_layout_of_the_result_stays() -> None:
    x = laid_out(torch.randn(2, 4, 8, 8, 8))
    with NarrowLayers():
        for layer in (nn.BatchNorm3d(4), nn.Dropout3d(0.5)):
            y = layer(x)
            assert y.is_contiguous(memory_format=torch.channels_last_3d)


def test_other_layouts_and_wide_layers_are_left_alone() -> None:
    assert repeats(torch.randn(2, 4, 8, 8, 8)) == 1
    assert repeats(laid_out(torch.randn(2, 128, 8, 8, 8))) == 1
    assert repeats(laid_out(torch.randn(2, 4, 3, 5, 7))) == 1
    assert repeats(laid_out(torch.randn(2, 4, 8, 8, 8))) == 64


def test_a_supervised_network_with_instance_norm_trains_as_in_the_usual_layout(
    tmp_path: Path,
) -> None:
    data = prepare(tmp_path / "data", shapes=((8, 8, 8),) * 5)
    form = {"norm": "instance", "activation": "leaky_relu", "order": "norm_activation"}
    arguments = {"widths": [4, 4, 4], "deep_supervision": True, **form}
    model = {"preset": "tiny", "module": "unet", "name": "UNet", "arguments": arguments}
    recipe = replace(TINY, epochs=2, batch_size=1, deep_supervision="halving")
    losses = []
    for layout in ("contiguous", "channels_last"):
        engine = replace(TINY.engine, memory_format=layout)
        place = tmp_path / layout
        run_training(job(data, place, recipe=replace(recipe, engine=engine), model=model))
        lines = (place / "out" / "history.csv").read_text().splitlines()
        column = lines[0].split(",").index("train_loss")
        losses.append([float(line.split(",")[column]) for line in lines[1:]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_relu_may_work_in_place_on_a_narrow_batch_norm() -> None:
    """As in the 2D networks: a view of a function of our own must not be changed in place."""
    image = torch.randn(2, 4, 16, 16).to(memory_format=torch.channels_last)
    found = []
    for inplace in (True, False):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=inplace), nn.Conv2d(4, 1, 1))
        with NarrowLayers():
            layers(image).square().mean().backward()
        found.append([parameter.grad for parameter in layers.parameters()])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))
