"""Convolution units and the blocks made of them, in the style of LUNet or of nnU-Net."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from lunet.errors import ConfigError, nearest
from lunet.models.blocks import layers_of

_SLOPE = 0.01
_GROUPS = 8
_CHOICES = {
    "norm": ("batch", "instance", "group"),
    "activation": ("relu", "leaky_relu"),
    "order": ("activation_norm", "norm_activation"),
}


@dataclass(frozen=True)
class Style:
    """What surrounds the convolutions of a network.

    Attributes
    ----------
    norm
        ``batch``, ``instance`` or ``group`` (of at most 8 groups with two channels or more each),
        each with scale and shift per channel.
    activation
        ``relu`` or ``leaky_relu`` (slope 0.01).
    order
        ``activation_norm``: as published for the LUNet family (arXiv 2512.03834);
        ``norm_activation``: as in nnU-Net (doi 10.1038/s41592-020-01008-z).
    bias
        Whether the convolutions have a bias.

    Raises
    ------
    ConfigError
        If one of the names is unknown.
    """

    norm: str = "batch"
    activation: str = "relu"
    order: str = "activation_norm"
    bias: bool = True

    def __post_init__(self) -> None:
        for key, known in _CHOICES.items():
            value = getattr(self, key)
            if value not in known:
                raise ConfigError(where=key, found=f"{value!r}", expected=nearest(value, known))

    def make_norm(self, channels: int, ndim: int) -> nn.Module:
        """A norm of that many channels."""
        layers = layers_of(ndim)
        if self.norm == "group":
            even = channels // 2 if channels % 2 == 0 else 1
            return nn.GroupNorm(math.gcd(_GROUPS, even), channels)
        if self.norm == "instance":
            return layers.instance_norm(channels, affine=True)
        return layers.batch_norm(channels)

    def make_activation(self) -> nn.Module:
        """The activation, which works in place."""
        if self.activation == "relu":
            return nn.ReLU(inplace=True)
        return nn.LeakyReLU(_SLOPE, inplace=True)


@dataclass(frozen=True)
class Shape:
    """Kernel and stride of a block's convolutions, per axis; only the first one has a stride."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]


def unit(
    into: int, out: int, *, dropout: float | None, style: Style, shape: Shape, active: bool = True
) -> nn.Sequential:
    """Convolution, activation and norm in the order of ``style``, dropout of whole channels.

    ``dropout`` is the probability, which can be changed later as attribute ``p`` of the layer named
    ``dropout``; None leaves that layer out. ``active=False`` leaves the activation out, which a
    residual block applies to its sum. The layer ``relu`` is the activation, leaky or not.
    """
    ndim = len(shape.kernel)
    layers = layers_of(ndim)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    padding = tuple(size // 2 for size in shape.kernel)
    parts["conv"] = layers.conv(
        into, out, shape.kernel, stride=shape.stride, padding=padding, bias=style.bias
    )
    if active:
        parts["relu"] = style.make_activation()
    parts["norm"] = style.make_norm(out, ndim)
    if dropout is not None:
        parts["dropout"] = layers.dropout(dropout)
    if style.order == "norm_activation":
        parts.move_to_end("norm", last=False)
        parts.move_to_end("conv", last=False)
    return nn.Sequential(parts)


def block(
    into: int, widths: Sequence[int], *, dropout: float | None, style: Style, shape: Shape
) -> nn.Sequential:
    """A chain of :func:`unit`; ``widths`` are the output channels of its convolutions."""
    before, rest = (into, *widths[:-1]), Shape(shape.kernel, (1,) * len(shape.kernel))
    return nn.Sequential(
        *(
            unit(a, b, dropout=dropout, style=style, shape=rest if place else shape)
            for place, (a, b) in enumerate(zip(before, widths, strict=True))
        )
    )


class ResidualBlock(nn.Module):
    """A chain of :func:`unit` in which every two add their input to their output.

    The first of an odd number of units stands alone (the stem of nnU-Net's residual encoder, arXiv
    2404.09556). An input of other channels or size is added after a mean over the stride, a
    convolution 1 without bias, and a norm. Arguments are those of :func:`block`.
    """

    def __init__(
        self,
        into: int,
        widths: Sequence[int],
        *,
        dropout: float | None,
        style: Style,
        shape: Shape,
    ) -> None:
        super().__init__()
        stem, ndim = len(widths) % 2, len(shape.kernel)
        once = Shape(shape.kernel, (1,) * ndim)
        shortcuts = nn.ModuleDict()
        for place, (a, b) in enumerate(zip((into, *widths[:-1]), widths, strict=True)):
            here, starts_pair = once if place else shape, place % 2 == stem
            active = starts_pair or place < stem
            part = unit(a, b, dropout=dropout, style=style, shape=here, active=active)
            self.add_module(f"{place}", part)
            if starts_pair and (a != widths[place + 1] or max(here.stride) > 1):
                shortcuts[f"{place}"] = _shortcut(a, widths[place + 1], here.stride, style)
        self.shortcuts, self.relu = shortcuts, style.make_activation()
        self.stem, self.pairs = stem, len(widths) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(batch, into, \\*spatial) -> (batch, widths[-1], \\*spatial / stride)."""
        if self.stem:
            x = self.get_submodule("0")(x)
        for pair in range(self.pairs):
            first = f"{self.stem + 2 * pair}"
            y = self.get_submodule(f"{self.stem + 2 * pair + 1}")(self.get_submodule(first)(x))
            x = self.relu(y + (self.shortcuts[first](x) if first in self.shortcuts else x))
        return x


def _shortcut(into: int, out: int, stride: tuple[int, ...], style: Style) -> nn.Sequential:
    """The mean over ``stride``, then a convolution 1 with norm if the channels change."""
    ndim = len(stride)
    layers = layers_of(ndim)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if max(stride) > 1:
        parts["pool"] = layers.mean_pool(stride)
    if into != out:
        parts["conv"] = layers.conv(into, out, kernel_size=1, bias=False)
        parts["norm"] = style.make_norm(out, ndim)
    return nn.Sequential(parts)
