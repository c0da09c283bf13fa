"""The base of U-Net and U-Net++: blocks made from a plan, and images of any size."""

from __future__ import annotations

from torch import Tensor, nn

from lunet.models.blocks import NetworkPlan, block, check_dropout, layers_of
from lunet.models.padding import batch_norm_side, check_image, legal_sizes, run_padded


class PlannedNetwork(nn.Module):
    """Base of networks that a plan describes; a subclass adds its blocks and their order.

    Parameters
    ----------
    plan
        Wiring and widths of all blocks.
    out_channels
        Channels of the logits.
    levels
        Number of resolutions, including the full one; each axis of an image is padded to a multiple
        of ``2**(levels - 1)``.
    ndim
        2 or 3 spatial axes.

    Raises
    ------
    ConfigError
        If ``ndim`` is neither 2 nor 3.
    """

    def __init__(self, plan: NetworkPlan, out_channels: int, *, levels: int, ndim: int) -> None:
        super().__init__()
        self.plan, self.levels, self.ndim = plan, levels, ndim
        self.in_channels, self.out_channels = plan.in_channels, out_channels
        self.multiple = (2 ** (levels - 1),) * ndim
        self.pool = layers_of(ndim).max_pool(2)

    def make_block(self, name: str, dropout: float | None) -> nn.Module:
        """The convolutions of a block of the plan, with fresh weights.

        Raises
        ------
        ConfigError
            If ``dropout`` is not a probability below 1.
        """
        if dropout is not None:
            check_dropout(dropout)
        into, out = self.plan.in_width(name), self.plan.widths[name]
        return block(into, out, dropout=dropout, ndim=self.ndim)

    def make_up(self, name: str) -> nn.Module:
        """The up-convolution ``name``, which doubles each axis, with fresh weights."""
        into, out = self.plan.in_width(name), self.plan.out_width(name)
        return layers_of(self.ndim).transposed(into, out, kernel_size=2, stride=2)

    def make_output(self) -> nn.Module:
        """The 1x1 convolution from the head to the logits, with fresh weights."""
        conv = layers_of(self.ndim).conv
        return conv(self.plan.out_width("head"), self.out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, \\*spatial) of an image (batch, in_channels, \\*spatial)."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        side = batch_norm_side(x, training=self.training, multiple=self.multiple)
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple, long_side=side)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor:
        """Logits of an image whose axes are multiples of ``multiple``."""
        raise NotImplementedError
