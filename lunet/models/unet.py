"""UNet and LUNet: the same network with different widths.

U-Net: arXiv 1505.04597, in 3D arXiv 1606.06650. LUNet, the U-Net of equal width at all levels:
arXiv 2512.03834. UNet widths are ``f * 2**level``, LUNet widths are ``f`` everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lunet.errors import ConfigError
from lunet.models.blocks import IMAGE, NetworkPlan, check_levels, full_widths
from lunet.models.planned import PlannedNetwork


class UNet(PlannedNetwork):
    """Encoder, bottleneck and decoder with skips, in 2D or 3D; returns logits.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    widths
        Channels per level, full resolution first and bottleneck last; or a widths description,
        block name -> output channels of each convolution, as in ``UNet.plan.widths`` (this
        rebuilds a pruned network).
    convs_per_block
        Convolutions per level in encoder and decoder, if ``widths`` are given per level.
    dropout
        Probability of dropping a channel after each unit except the head's.
    ndim
        2 or 3 spatial axes.
    skip_levels
        Levels whose encoder output is passed to the decoder: ``"all"`` or level indices
        (0 = full resolution).

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, \\*spatial) of any size, output (batch, out_channels, \\*spatial).
    Inside, each axis is padded to a multiple of ``2**(levels - 1)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] | Mapping[str, Sequence[int]],
        convs_per_block: int = 2,
        dropout: float = 0.0,
        ndim: int = 3,
        skip_levels: Sequence[int] | str = "all",
    ) -> None:
        plan, levels = _plan(in_channels, widths, convs_per_block, skip_levels)
        super().__init__(plan, out_channels, levels=levels, ndim=ndim)

        def make(way: str, levels: Iterable[int]) -> nn.ModuleDict:
            return nn.ModuleDict({f"{i}": self.make_block(f"{way}.{i}", dropout) for i in levels})

        upwards = range(levels - 2, -1, -1)
        self.encoder = make("encoder", range(levels - 1))
        self.up = nn.ModuleDict({f"{i}": self.make_up(f"up.{i}") for i in upwards})
        self.decoder = make("decoder", upwards)
        self.bottleneck = self.make_block("bottleneck", dropout)
        self.head = self.make_block("head", None)
        self.project = self.make_output()

    def _logits(self, x: Tensor) -> Tensor:
        skips = []
        for encode in self.encoder.values():
            skips.append(encode(x))
            x = self.pool(skips[-1])
        x = self.bottleneck(x)
        for level, up in self.up.items():
            x, skip = up(x), skips.pop()
            if len(self.plan.wiring[f"decoder.{level}"]) == 2:
                x = torch.cat([x, skip], dim=1)
            x = self.decoder[level](x)
        return self.project(self.head(x))


def wiring(levels: int, skip_levels: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Blocks of a U-Net in the order of registration, each with the blocks that feed it."""
    deepest = levels - 2
    upwards = range(deepest, -1, -1)
    blocks = {f"encoder.{i}": (f"encoder.{i - 1}" if i else IMAGE,) for i in range(levels - 1)}
    for i in upwards:
        blocks[f"up.{i}"] = ("bottleneck" if i == deepest else f"decoder.{i + 1}",)
    result: dict[str, tuple[str, ...]] = dict(blocks)
    for i in upwards:
        result[f"decoder.{i}"] = (f"up.{i}", *((f"encoder.{i}",) if i in skip_levels else ()))
    return result | {"bottleneck": (f"encoder.{deepest}",), "head": ("decoder.0",)}


def widths_from_levels(widths: Sequence[int], convs_per_block: int) -> dict[str, tuple[int, ...]]:
    """Widths description of a U-Net from its channels per level, full resolution first.

    The head counts as one convolution of the top decoder block, which is therefore one shorter.
    """
    levels = len(widths)
    every = {f"encoder.{i}": (widths[i],) * convs_per_block for i in range(levels - 1)}
    every |= {f"up.{i}": (widths[i],) for i in range(levels - 1)}
    every |= {f"decoder.{i}": (widths[i],) * convs_per_block for i in range(1, levels - 1)}
    every["decoder.0"] = (widths[0],) * max(1, convs_per_block - 1)
    every["bottleneck"] = (widths[-1],) * convs_per_block
    return every | {"head": (widths[0],)}


def _plan(
    in_channels: int,
    widths: Sequence[int] | Mapping[str, Sequence[int]],
    convs_per_block: int,
    skip_levels: Sequence[int] | str,
) -> tuple[NetworkPlan, int]:
    """The plan and its number of levels, including the bottleneck."""
    if isinstance(widths, Mapping):
        levels = 1 + sum(name.startswith("encoder.") for name in widths)
    else:
        check_levels(widths, convs_per_block=convs_per_block)
        levels = len(widths)
        widths = widths_from_levels(widths, convs_per_block)
    blocks = wiring(levels, _skips(skip_levels, levels))
    return NetworkPlan(in_channels, blocks, full_widths(widths, blocks)), levels


def _skips(skip_levels: Sequence[int] | str, levels: int) -> Sequence[int]:
    possible = range(levels - 1)
    if skip_levels == "all":
        return possible
    if isinstance(skip_levels, str) or not set(skip_levels) <= set(possible):
        raise ConfigError(
            where="skip_levels",
            found=f"{skip_levels!r}",
            expected=f"'all' or levels from 0 to {levels - 2}",
        )
    return skip_levels
