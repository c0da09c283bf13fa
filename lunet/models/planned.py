"""The base of U-Net and U-Net++: blocks made from a plan, and images of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from lunet.models.blocks import NetworkPlan, check_dropout, layers_of
from lunet.models.padding import batch_norm_side, check_image, legal_sizes, run_padded
from lunet.models.units import ResidualBlock, Shape, Style, block


class PlannedNetwork(nn.Module):
    """Base of networks that a plan describes; a subclass adds its blocks and their order.

    Parameters
    ----------
    plan
        Wiring and widths of all blocks.
    out_channels
        Channels of the logits.
    strides
        For each resolution, full resolution first, how much each axis is shortened on the way to
        it; each axis of an image is padded to a multiple of their product.
    style
        Norm, activation and order of the convolution units.

    Raises
    ------
    ConfigError
        If there are neither 2 nor 3 axes.
    """

    def __init__(
        self,
        plan: NetworkPlan,
        out_channels: int,
        *,
        strides: Sequence[tuple[int, ...]],
        style: Style,
    ) -> None:
        super().__init__()
        self.plan, self.levels, self.ndim = plan, len(strides), len(strides[0])
        self.in_channels, self.out_channels = plan.in_channels, out_channels
        self.strides, self.style = tuple(strides), style
        self.multiple = tuple(math.prod(steps) for steps in zip(*strides, strict=True))

    def make_block(
        self,
        name: str,
        dropout: float | None,
        *,
        kernel: tuple[int, ...] | None = None,
        stride: tuple[int, ...] | None = None,
        residual: bool = False,
    ) -> nn.Module:
        """The convolutions of a block of the plan, with fresh weights.

        Parameters
        ----------
        name
            The block.
        dropout
            Probability of dropping a channel; None for a block without dropout layers.
        kernel
            Of all its convolutions; 3 along each axis by default.
        stride
            Of its first convolution; 1 by default.
        residual
            Whether every two convolutions add their input to their output.

        Raises
        ------
        ConfigError
            If ``dropout`` is not a probability below 1.
        """
        if dropout is not None:
            check_dropout(dropout)
        into, out = self.plan.in_width(name), self.plan.widths[name]
        shape = Shape(kernel or (3,) * self.ndim, stride or (1,) * self.ndim)
        make = ResidualBlock if residual else block
        return make(into, out, dropout=dropout, style=self.style, shape=shape)

    def make_up(self, name: str, stride: tuple[int, ...]) -> nn.Module:
        """The up-convolution ``name``, which lengthens the axes by ``stride``, fresh weights."""
        into, out = self.plan.in_width(name), self.plan.out_width(name)
        return layers_of(self.ndim).transposed(into, out, kernel_size=stride, stride=stride)

    def make_output(self, source: str) -> nn.Module:
        """The 1x1 convolution from block ``source`` to logits, with fresh weights."""
        conv = layers_of(self.ndim).conv
        return conv(self.plan.out_width(source), self.out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, \\*spatial) of an image (batch, in_channels, \\*spatial)."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        # norms without running statistics need two voxels in prediction, too
        side = batch_norm_side(x, training=self.training) if self.style.norm == "batch" else 2
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple, long_side=side)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits of an image whose axes are multiples of ``multiple``."""
        raise NotImplementedError


def halved(levels: int, ndim: int) -> tuple[tuple[int, ...], ...]:
    """Strides of a network whose every level halves every axis of the one before it."""
    layers_of(ndim)  # refuses other numbers of axes
    return ((1,) * ndim, *[(2,) * ndim] * (levels - 1))
