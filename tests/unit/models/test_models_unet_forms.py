"""Forms of the U-Net: topology, norms, residual encoder, heads; counts of other packages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from lunet.errors import ConfigError
from lunet.models.build import build_network
from lunet.models.unet import UNet

ANISOTROPIC = {
    "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2], [1, 2, 1]],
    "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3], [3, 3, 3]],
}
NNUNET = {
    "norm": "instance",
    "activation": "leaky_relu",
    "order": "norm_activation",
    "downsampling": "convolution",
}
RESIDUAL = {"residual": True, "convs_per_block": [3, 6, 4, 2], "decoder_convs": 1}
FORMS: dict[str, dict[str, Any]] = {
    "as published": {},
    "anisotropic": ANISOTROPIC,
    "two or three convolutions": {"convs_per_block": 3, "decoder_convs": 2},
    "one convolution": {"convs_per_block": 1, "order": "norm_activation"},
    "instance norm": {"norm": "instance"},
    "group norm": {"norm": "group", "activation": "leaky_relu"},
    "nnunet": NNUNET | ANISOTROPIC,
    "pocket": NNUNET | ANISOTROPIC | {"conv_bias": False},
    "supervised": {"deep_supervision": True},
    "residual": NNUNET | RESIDUAL,
    "all of it": NNUNET | RESIDUAL | ANISOTROPIC | {"deep_supervision": True, "dropout": 0.1},
}
ONE, TWO, SLICE = [1, 1, 1], [2, 2, 2], [1, 2, 2]
MSD = {  # topologies of nnU-Net 2's default plans (nnUNetPlans, 3d_fullres)
    "hippocampus": ([ONE] + [TWO] * 3, [[3, 3, 3]] * 4),
    "brain": ([ONE] + [TWO] * 5, [[3, 3, 3]] * 6),
    "prostate": (
        [ONE, SLICE, SLICE, TWO, TWO, SLICE, SLICE],
        [[1, 3, 3]] * 2 + [[3, 3, 3]] * 5,
    ),
}
BLOCKS = (1, 3, 4, 6, 6, 6, 6)


def make(
    widths: list[int], arguments: dict[str, Any], *, channels: int = 2, outputs: int = 3
) -> nn.Module:
    return build_network(
        "unet", "UNet", in_channels=channels, out_channels=outputs, ndim=3,
        arguments={"widths": widths, **arguments},
    )  # fmt: skip


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def counted(
    widths: list[int], given: dict[str, Any], *, channels: int = 2, outputs: int = 3
) -> int:
    """The number of parameters by arithmetic from the description alone."""
    levels = len(widths)
    bias = given.get("conv_bias", True)
    kernels = [math.prod(k) for k in given.get("kernels", [[3, 3, 3]] * levels)]
    strides = [math.prod(s) for s in given.get("strides", [ONE, *[TWO] * (levels - 1)])]
    convs = given.get("convs_per_block", 2)
    encoder = convs if isinstance(convs, list) else [convs] * levels
    decoder = given.get("decoder_convs") or encoder[0]

    def units(into: int, out: int, number: int, level: int) -> int:
        weights = kernels[level] * (into * out + (number - 1) * out * out)
        return weights + number * out * (2 + bias)

    total, before = 0, channels
    for level, width in enumerate(widths):
        total += units(before, width, encoder[level], level)
        if given.get("residual") and level and before != width:
            total += before * width + 2 * width
        before = width
    for level in range(levels - 1):
        width = widths[level]
        total += strides[level + 1] * widths[level + 1] * width + width
        total += units(2 * width, width, decoder, level)
    if decoder == 1 and given.get("order") != "norm_activation":
        total += units(widths[0], widths[0], 1, 0)  # the head beside the only convolution
    heads = range(levels - 1) if given.get("deep_supervision") else range(1)
    return total + sum((widths[level] + 1) * outputs for level in heads)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("widths", [[4, 8, 16, 16], [4, 4, 4, 4]])
def test_every_form_trains_predicts_and_counts(form: str, widths: list[int]) -> None:
    torch.manual_seed(0)
    network = make(widths, FORMS[form]).train()
    assert parameters(network) == counted(widths, FORMS[form])
    for module in list(network.modules()):
        if hasattr(module, "relu"):
            module.relu = nn.Softplus()  # a ReLU at rest stops gradients by chance
    x = torch.randn(2, 2, 17, 18, 9)
    outputs = network(x)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    assert len(outputs) == (3 if FORMS[form].get("deep_supervision") else 1)
    assert all(y.shape == (2, 3, 17, 18, 9) for y in outputs)
    sum((y * torch.randn(y.shape)).sum() for y in outputs).backward()
    touched = [bool(p.grad is not None and p.grad.abs().sum() > 0) for p in network.parameters()]
    assert all(touched)
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 3, 17, 18, 9)
        assert network(x[:1, :, :1, :1, :1]).shape == (1, 3, 1, 1, 1)


def test_widths_are_the_only_difference_of_lunet_pocket_and_unet_forms() -> None:
    wide, flat = (make(w, NNUNET | ANISOTROPIC) for w in ([4, 8, 16, 32], [4, 4, 4, 4]))
    assert wide.plan.wiring == flat.plan.wiring
    assert (wide.strides, wide.multiple, wide.style) == (flat.strides, flat.multiple, flat.style)
    assert wide.multiple == (4, 8, 2)
    names = [[name for name, _ in network.named_parameters()] for network in (wide, flat)]
    assert names[0] == names[1]


def test_deep_supervision_gives_the_main_output_first() -> None:
    network = make([2, 3, 4, 5], {"deep_supervision": True}).train()
    outputs = network(torch.randn(2, 2, 16, 16, 16))
    outputs[1].sum().backward()
    read = {level for level, head in network.side_heads.items() if head.weight.grad is not None}
    assert read == {"1"}


def test_the_topology_shapes_pools_kernels_and_up_convolutions() -> None:
    network = make([2, 2, 2, 2], ANISOTROPIC)
    assert [tuple(pool.kernel_size) for pool in network.pools] == [(2, 2, 1), (2, 2, 2), (1, 2, 1)]
    assert network.up["2"].weight.shape[2:] == (1, 2, 1)
    assert network.encoder["0"][0].conv.weight.shape[2:] == (3, 3, 1)
    assert network.decoder["0"][0].conv.weight.shape[2:] == (3, 3, 1)
    strided = make([2, 2, 2, 2], NNUNET | ANISOTROPIC)
    assert strided.encoder["1"][0].conv.stride == (2, 2, 1)
    assert strided.encoder["1"][1].conv.stride == (1, 1, 1)


def test_the_pocket_form_has_as_many_parameters_as_that_of_mist() -> None:
    """mist-medical 2.3.0: NNUNet(1, 3, (48, 64, 48), (1, 1, 1), pocket, neither residual nor
    supervised)."""
    given = NNUNET | {"conv_bias": False, "strides": [ONE, TWO, TWO, TWO, [1, 2, 1]]}
    assert parameters(make([32] * 5, given, channels=1)) == 609_475


@pytest.mark.parametrize(
    ("task", "channels", "outputs", "plain", "residual"),
    [
        ("hippocampus", 1, 3, 5_603_177, 25_895_593),
        ("brain", 4, 4, 31_199_796, 102_353_972),
        ("prostate", 2, 3, 44_578_770, 140_403_602),
    ],
)
def test_nnunet_forms_have_as_many_parameters_as_nnunets_own(
    task: str, channels: int, outputs: int, plain: int, residual: int
) -> None:
    """PlainConvUNet and ResidualEncoderUNet of dynamic-network-architectures 0.4.4."""
    strides, kernels = MSD[task]
    widths = [min(32 * 2**level, 320) for level in range(len(strides))]
    given = NNUNET | {"strides": strides, "kernels": kernels, "deep_supervision": True}
    blocks = [2 * number for number in BLOCKS[: len(strides)]]
    encoder = {"residual": True, "convs_per_block": [blocks[0] + 1, *blocks[1:]]}
    with torch.device("meta"):
        sizes = {"channels": channels, "outputs": outputs}
        assert parameters(make(widths, given, **sizes)) == plain
        assert parameters(make(widths, given | encoder | {"decoder_convs": 1}, **sizes)) == residual


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "layer"}, "norm: 'layer'"),
        ({"activation": "gelu"}, "activation: 'gelu'"),
        ({"order": "norm"}, "order: 'norm'"),
        ({"downsampling": "mean"}, "downsampling: 'mean'"),
        ({"topology": "auto"}, "topology: 'auto'"),
        ({"residual": True}, "residual blocks need norm_activation"),
        ({"strides": [[1, 1, 1], [2, 2, 2]]}, r"strides: .*4 levels"),
        ({"strides": [[2, 2, 2]] * 4}, "1 at level 0"),
        ({"strides": [[1, 1]] * 4}, "of 3 whole numbers"),
        ({"kernels": [[3, 3, 2]] * 4}, "odd numbers"),
        ({"kernels": [3, 3, 3, 3]}, "kernels: "),
        ({"convs_per_block": [2, 2]}, "one number, or 4 numbers and decoder_convs"),
        ({"convs_per_block": [2, 2, 2, 0], "decoder_convs": 1}, "at least 1"),
        ({"decoder_convs": 0}, "decoder_convs: 0"),
    ],
)
def test_impossible_arguments_are_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UNet(1, 1, widths=[2, 2, 2, 2], **arguments)
