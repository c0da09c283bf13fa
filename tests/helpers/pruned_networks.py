"""Small networks of every prunable family, with weights and statistics that hide no mistake."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lunet.models.build import build_network
from lunet.pruning.channel_groups import Layer, layers_of_network
from lunet.pruning.surgery import (
    Cut,
    cut_section,
    cut_tensors,
    removal,
    set_dropout,
)

Section = dict[str, Any]


def section(module: str, name: str, **arguments: Any) -> Section:
    """A ``model`` section."""
    return {"preset": "tiny", "module": module, "name": name} | {"arguments": arguments}


NNUNET = {
    "norm": "instance",
    "activation": "leaky_relu",
    "order": "norm_activation",
    "downsampling": "convolution",
}
FAMILIES: dict[str, tuple[Section, int]] = {
    "unet": (section("unet", "UNet", widths=[3, 4, 5], dropout=0.1), 2),
    "unet of 3 convolutions": (section("unet", "UNet", widths=[2, 3, 4], convs_per_block=3), 2),
    "unet of 1 convolution": (section("unet", "UNet", widths=[3, 4], convs_per_block=1), 2),
    "unet without a skip": (section("unet", "UNet", widths=[3, 4, 5], skip_levels=[1]), 2),
    "unet in 3D": (section("unet", "UNet", widths=[3, 4]), 3),
    "lunet": (section("unet", "UNet", widths=[3, 3, 3]), 2),
    "nnunet": (
        section(
            "unet",
            "UNet",
            widths=[3, 4, 5],
            strides=[[1, 1], [2, 1], [2, 2]],
            kernels=[[3, 1], [3, 3], [3, 3]],
            conv_bias=False,
            deep_supervision=True,
            **NNUNET,
        ),
        2,
    ),
    "resenc": (
        section(
            "unet",
            "UNet",
            widths=[3, 4, 4],
            convs_per_block=[3, 4, 2],
            decoder_convs=1,
            residual=True,
            dropout=0.1,
            **NNUNET,
        ),
        2,
    ),
    "unetpp": (section("unetpp", "UNetPlusPlus", widths=[2, 3, 4, 5]), 2),
    "lunetpp": (section("unetpp", "UNetPlusPlus", widths=[3, 3, 3], convs_per_block=1), 2),
    "mednext": (section("mednext", "MedNeXt", width=2, blocks=[1, 2, 1, 1, 1], dropout=0.1), 2),
    "mednext with layer norm": (
        section("mednext", "MedNeXt", width=2, blocks=[1, 1, 1], norm="layer"),
        2,
    ),
}


def network(family: str, *, out_channels: int = 2) -> nn.Module:
    """A network of the family in float64 and evaluation mode, all of its numbers random."""
    description, ndim = FAMILIES[family]
    model = build_network(
        description["module"],
        description["name"],
        in_channels=1,
        out_channels=out_channels,
        ndim=ndim,
        arguments=description["arguments"],
    )
    return randomise(model.double()).eval()


def randomise(model: nn.Module) -> nn.Module:
    """Random values in parameters and statistics, so that a reset or a swap shows."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                is_scale = name.endswith(("running_var", "norm.weight"))
                tensor.copy_(values.abs() + 0.5 if is_scale else values * 0.5)
    return model


def image(family: str) -> Tensor:
    """(1, 1, \\*spatial) float64 noise of an odd size, so that padding takes part."""
    ndim = FAMILIES[family][1]
    generator = torch.Generator().manual_seed(1)
    return torch.randn((1, 1, *(9, 8, 7)[:ndim]), generator=generator, dtype=torch.float64)


def cut_network(model: nn.Module, section: Section, cut: Cut) -> tuple[nn.Module, Section]:
    """A smaller network of the same dtype, device, mode and dropout, and its section."""
    smaller = cut_section(model, section, cut)
    network = build_network(
        smaller["module"],
        smaller["name"],
        in_channels=int(getattr(model, "in_channels", 1)),
        out_channels=int(getattr(model, "out_channels", 1)),
        ndim=int(getattr(model, "ndim", 3)),
        arguments=smaller["arguments"],
    )
    first = next(model.parameters())
    network.to(device=first.device, dtype=first.dtype)
    gone = removal(layers_of_network(model), cut)
    network.load_state_dict(cut_tensors(model.state_dict(), gone))
    set_dropout(network, dropout_of(model))
    return network.train(model.training), smaller


def dropout_of(model: nn.Module) -> dict[str, float]:
    """Module name -> probability, of each dropout layer."""
    kinds = (nn.Dropout, nn.Dropout2d, nn.Dropout3d)
    return {n: float(layer.p) for n, layer in model.named_modules() if isinstance(layer, kinds)}


def silence(model: nn.Module, layer: Layer, channels: tuple[int, ...]) -> None:
    """Make the outgoing weights of some channels zero: nothing reads them any more."""
    state = model.state_dict()
    with torch.no_grad():
        for place in layer.readers:
            index = torch.tensor([place.offset + channel for channel in channels])
            state[place.tensor].index_fill_(place.axis, index, 0.0)
