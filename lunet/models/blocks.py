"""Parts that several networks share: layers per dimension, widths as data.

A U-shaped network is described by two plain mappings, its *wiring* (which blocks feed a block)
and its *widths* (output channels of every convolution of a block). Both can be stored as JSON, so
that a channel-pruned network is rebuilt from its numbers and needs no code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lunet.errors import ConfigError

IMAGE = "image"
"""Name of the network's input in a wiring."""


@dataclass(frozen=True)
class Layers:
    """The layer classes of 2D or 3D networks."""

    conv: type[nn.Module]
    transposed: type[nn.Module]
    batch_norm: type[nn.Module]
    instance_norm: type[nn.Module]
    dropout: type[nn.Module]
    max_pool: type[nn.Module]
    mean_pool: type[nn.Module]
    interpolation: str


_LAYERS = {
    2: Layers(
        nn.Conv2d,
        nn.ConvTranspose2d,
        nn.BatchNorm2d,
        nn.InstanceNorm2d,
        nn.Dropout2d,
        nn.MaxPool2d,
        nn.AvgPool2d,
        "bilinear",
    ),
    3: Layers(
        nn.Conv3d,
        nn.ConvTranspose3d,
        nn.BatchNorm3d,
        nn.InstanceNorm3d,
        nn.Dropout3d,
        nn.MaxPool3d,
        nn.AvgPool3d,
        "trilinear",
    ),
}


def layers_of(ndim: int) -> Layers:
    """The layer classes for ``ndim`` spatial axes.

    Raises
    ------
    ConfigError
        If ``ndim`` is neither 2 nor 3.
    """
    if ndim not in _LAYERS:
        raise ConfigError(where="ndim", found=repr(ndim), expected="2 or 3 spatial axes")
    return _LAYERS[ndim]


@dataclass(frozen=True)
class NetworkPlan:
    """A network as data.

    Attributes
    ----------
    in_channels
        Channels of the image.
    wiring
        Block name -> names of the blocks (or :data:`IMAGE`) whose outputs are concatenated, in
        this order, to its input. The names are the names of the sub-modules
        (``network.get_submodule(name)``); convolution ``k`` of a block is ``name.k.conv``, an
        up-convolution is ``name`` itself. Blocks are in the order of registration.
    widths
        Block name -> output channels of each of its convolutions.
    """

    in_channels: int
    wiring: Mapping[str, tuple[str, ...]]
    widths: Mapping[str, tuple[int, ...]]

    def out_width(self, name: str) -> int:
        """Output channels of block ``name`` (or channels of the image)."""
        return self.in_channels if name == IMAGE else self.widths[name][-1]

    def in_width(self, name: str) -> int:
        """Input channels of block ``name``."""
        return sum(self.out_width(source) for source in self.wiring[name])

    def consumers(self, source: str) -> list[tuple[str, int]]:
        """Blocks that read ``source``, with the offset of its slice in their input channels."""
        found = []
        for name, sources in self.wiring.items():
            if source in sources:
                before = sources[: sources.index(source)]
                found.append((name, sum(self.out_width(other) for other in before)))
        return found


def check_levels(widths: Sequence[int], *, convs_per_block: int) -> None:
    """Refuse impossible level widths or convolutions per block.

    Raises
    ------
    ConfigError
        If one of them is out of range.
    """
    if len(widths) < 2 or not all(_is_width(width) for width in widths):
        raise ConfigError(
            where="widths",
            found=f"{list(widths)}",
            expected="two or more levels of at least one channel are needed",
        )
    if convs_per_block < 1:
        raise ConfigError(
            where="convs_per_block", found=f"{convs_per_block}", expected="at least 1 is needed"
        )


def check_dropout(dropout: float) -> None:
    """Refuse a dropout probability outside [0, 1).

    Raises
    ------
    ConfigError
        If it is outside.
    """
    if not 0 <= dropout < 1:
        raise ConfigError(
            where="dropout", found=f"{dropout}", expected="a probability, 0 <= p < 1, is needed"
        )


def full_widths(
    given: Mapping[str, Sequence[int]], wiring: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[int, ...]]:
    """Check a widths description against a wiring and return it in the wiring's order.

    Raises
    ------
    ConfigError
        If blocks are missing or unknown, or a width is not a positive whole number.
    """
    differing = sorted(set(given) ^ set(wiring))
    if differing:
        raise ConfigError(
            where="widths",
            found=f"blocks {differing} are missing or unknown",
            expected=f"blocks: {', '.join(wiring)}",
        )
    for name in wiring:
        is_single = name.split(".")[0] in ("up", "head")
        if not given[name] or not all(_is_width(width) for width in given[name]):
            raise ConfigError(
                where=f"widths[{name!r}]",
                found=f"{given[name]}",
                expected="one positive width each",
            )
        if is_single and len(given[name]) != 1:
            raise ConfigError(
                where=f"widths[{name!r}]",
                found=f"{given[name]}",
                expected="a single width is needed",
            )
    return {name: tuple(given[name]) for name in wiring}


def _is_width(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
