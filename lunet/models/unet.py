"""UNet and LUNet, pocket and nnU-Net-like networks: one network with different arguments.

U-Net: arXiv 1505.04597, in 3D arXiv 1606.06650. LUNet, the U-Net of equal width at all levels:
arXiv 2512.03834. UNet widths are ``f * 2**level``, LUNet widths are ``f`` everywhere. With
``norm_activation``, strided convolutions, instance norm and leaky ReLU it is the network of nnU-Net
(doi 10.1038/s41592-020-01008-z), and with ``residual`` its residual encoder (arXiv 2404.09556).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from lunet.errors import ConfigError, nearest
from lunet.models.blocks import IMAGE, NetworkPlan, check_levels, full_widths, layers_of
from lunet.models.planned import PlannedNetwork, halved
from lunet.models.resizing import resize
from lunet.models.units import Style

_DOWNSAMPLINGS = ("pool", "convolution")
_TOPOLOGIES = ("isotropic", "planned")


class UNet(PlannedNetwork):
    """Encoder, bottleneck and decoder with skips, in 2D or 3D; returns logits.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    widths
        Channels per level, full resolution first and bottleneck last; or a widths description,
        block name -> output channels of each convolution, as in ``UNet.plan.widths`` (this
        rebuilds a pruned network, and replaces ``convs_per_block`` and ``decoder_convs``).
    convs_per_block
        Convolutions per level in encoder and decoder: one number, or one per level of the encoder
        with the bottleneck (``decoder_convs`` is then needed). If ``widths`` are given per level.
    dropout
        Probability of dropping a channel after each unit except the head's.
    ndim
        2 or 3 spatial axes.
    skip_levels
        Levels whose encoder output is passed to the decoder: ``"all"`` or level indices
        (0 = full resolution).
    strides
        Per level, per axis: how much the axis is shortened on the way to this level (1 at full
        resolution); by default each level halves each axis.
    kernels
        Per level, per axis: odd size of the kernels; 3 by default.
    norm, activation, order, conv_bias
        As in :class:`lunet.models.units.Style`. With ``norm_activation`` there is no separate head:
        the last decoder block gives the features of the logits.
    downsampling
        ``pool``: maximum over the stride; ``convolution``: the level's first convolution strides.
    residual
        Whether every two convolutions of an encoder block add their input
        (:class:`lunet.models.units.ResidualBlock`); needs ``norm_activation`` and ``convolution``.
    decoder_convs
        Convolutions per level of the decoder, if not as many as in the encoder.
    deep_supervision
        In training mode return ``[main, 1/2, 1/4, ...]``, the heads of the lower decoder levels
        resized to the input; in evaluation mode only the main logits.
    topology
        ``planned``: a study with a plan fills in ``strides``, ``kernels`` and as many ``widths``;
        without a plan the network is built as the arguments say.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, \\*spatial) of any size, output (batch, out_channels, \\*spatial).
    Inside, each axis is padded to a multiple of the product of its strides.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: Sequence[int] | Mapping[str, Sequence[int]],
        convs_per_block: int | Sequence[int] = 2,
        dropout: float = 0.0,
        ndim: int = 3,
        skip_levels: Sequence[int] | str = "all",
        strides: Sequence[Sequence[int]] | None = None,
        kernels: Sequence[Sequence[int]] | None = None,
        norm: str = "batch",
        activation: str = "relu",
        order: str = "activation_norm",
        conv_bias: bool = True,
        downsampling: str = "pool",
        residual: bool = False,
        decoder_convs: int | None = None,
        deep_supervision: bool = False,
        topology: str = "isotropic",
    ) -> None:
        _check_names(downsampling, topology, residual=residual, order=order)
        has_head = order == "activation_norm"
        plan, levels = _plan(
            in_channels, widths, convs_per_block, decoder_convs, skip_levels, has_head
        )
        steps = _per_level(strides, halved(levels, ndim), "strides")
        sizes = _per_level(kernels, ((3,) * ndim,) * levels, "kernels")
        style = Style(norm, activation, order, conv_bias)
        super().__init__(plan, out_channels, strides=steps, style=style)
        strided, upwards = downsampling == "convolution", range(levels - 2, -1, -1)

        def encoder(name: str, level: int) -> nn.Module:
            stride = steps[level] if strided else None
            return self.make_block(
                name, dropout, kernel=sizes[level], stride=stride, residual=residual
            )

        def decoder(name: str, level: int, dropout: float | None) -> nn.Module:
            return self.make_block(name, dropout, kernel=sizes[level])

        def of_levels(parts: Iterable[tuple[int, nn.Module]]) -> nn.ModuleDict:
            return nn.ModuleDict({f"{level}": part for level, part in parts})

        pool = layers_of(ndim).max_pool
        self.pools = nn.ModuleList(
            nn.Identity() if strided or max(step) == 1 else pool(step) for step in steps[1:]
        )
        self.encoder = of_levels((i, encoder(f"encoder.{i}", i)) for i in range(levels - 1))
        self.up = of_levels((i, self.make_up(f"up.{i}", steps[i + 1])) for i in upwards)
        self.decoder = of_levels((i, decoder(f"decoder.{i}", i, dropout)) for i in upwards)
        self.bottleneck = encoder("bottleneck", levels - 1)
        self.head = decoder("head", 0, None) if has_head else nn.Identity()
        self.project = self.make_output("head" if has_head else "decoder.0")
        lower = range(1, levels - 1) if deep_supervision else ()
        self.side_heads = of_levels((i, self.make_output(f"decoder.{i}")) for i in lower)

    def _logits(self, x: Tensor) -> Tensor | list[Tensor]:
        sizes, skips = x.shape[2:], []
        sides: list[Tensor] = []
        for encode, pool in zip(self.encoder.values(), self.pools, strict=True):
            skips.append(encode(x))
            x = pool(skips[-1])
        x = self.bottleneck(x)
        for level, up in self.up.items():
            x, skip = up(x), skips.pop()
            if len(self.plan.wiring[f"decoder.{level}"]) == 2:
                x = torch.cat([x, skip], dim=1)
            x = self.decoder[level](x)
            if self.training and level in self.side_heads:
                sides.insert(0, resize(self.side_heads[level](x), sizes))
        main = self.project(self.head(x))
        return [main, *sides] if sides else main


def wiring(
    levels: int, skip_levels: Sequence[int], *, has_head: bool = True
) -> dict[str, tuple[str, ...]]:
    """Blocks of a U-Net in the order of registration, each with the blocks that feed it."""
    deepest = levels - 2
    upwards = range(deepest, -1, -1)
    blocks = {f"encoder.{i}": (f"encoder.{i - 1}" if i else IMAGE,) for i in range(levels - 1)}
    for i in upwards:
        blocks[f"up.{i}"] = ("bottleneck" if i == deepest else f"decoder.{i + 1}",)
    result: dict[str, tuple[str, ...]] = dict(blocks)
    for i in upwards:
        result[f"decoder.{i}"] = (f"up.{i}", *((f"encoder.{i}",) if i in skip_levels else ()))
    result["bottleneck"] = (f"encoder.{deepest}",)
    return result | ({"head": ("decoder.0",)} if has_head else {})


def widths_from_levels(
    widths: Sequence[int],
    convs_per_block: int | Sequence[int],
    decoder_convs: int | None = None,
    *,
    has_head: bool = True,
) -> dict[str, tuple[int, ...]]:
    """Widths description of a U-Net from its channels per level, full resolution first.

    The head counts as one convolution of the top decoder block, which is therefore one shorter.
    """
    levels = len(widths)
    encoder = [convs_per_block] * levels if isinstance(convs_per_block, int) else convs_per_block
    decoder = decoder_convs or encoder[0]
    every = {f"encoder.{i}": (widths[i],) * encoder[i] for i in range(levels - 1)}
    every |= {f"up.{i}": (widths[i],) for i in range(levels - 1)}
    every |= {f"decoder.{i}": (widths[i],) * decoder for i in range(levels - 1)}
    every["bottleneck"] = (widths[-1],) * encoder[-1]
    if not has_head:
        return every
    every["decoder.0"] = (widths[0],) * max(1, decoder - 1)
    return every | {"head": (widths[0],)}


def _plan(
    in_channels: int,
    widths: Sequence[int] | Mapping[str, Sequence[int]],
    convs_per_block: int | Sequence[int],
    decoder_convs: int | None,
    skip_levels: Sequence[int] | str,
    has_head: bool,
) -> tuple[NetworkPlan, int]:
    """The plan and its number of levels, including the bottleneck."""
    if isinstance(widths, Mapping):
        levels = 1 + sum(name.startswith("encoder.") for name in widths)
    else:
        levels = len(widths)
        _check_convolutions(widths, convs_per_block, decoder_convs)
        widths = widths_from_levels(widths, convs_per_block, decoder_convs, has_head=has_head)
    blocks = wiring(levels, _skips(skip_levels, levels), has_head=has_head)
    return NetworkPlan(in_channels, blocks, full_widths(widths, blocks)), levels


def _check_convolutions(
    widths: Sequence[int], convs_per_block: int | Sequence[int], decoder_convs: int | None
) -> None:
    every = [convs_per_block] if isinstance(convs_per_block, int) else list(convs_per_block)
    check_levels(widths, convs_per_block=min(every, default=0))
    is_one = isinstance(convs_per_block, int)
    if not is_one and (len(every) != len(widths) or decoder_convs is None):
        raise ConfigError(
            where="convs_per_block",
            found=f"{convs_per_block}, decoder_convs {decoder_convs}",
            expected=f"one number, or {len(widths)} numbers and decoder_convs",
        )
    if decoder_convs is not None and decoder_convs < 1:
        raise ConfigError(
            where="decoder_convs", found=f"{decoder_convs}", expected="at least 1 is needed"
        )


def _check_names(downsampling: str, topology: str, *, residual: bool, order: str) -> None:
    for key, value, known in (
        ("downsampling", downsampling, _DOWNSAMPLINGS),
        ("topology", topology, _TOPOLOGIES),
    ):
        if value not in known:
            raise ConfigError(where=key, found=f"{value!r}", expected=nearest(value, known))
    if residual and (order, downsampling) != ("norm_activation", "convolution"):
        raise ConfigError(
            where="residual",
            found=f"true with order {order} and downsampling {downsampling}",
            expected="residual blocks need norm_activation and convolution",
        )


def _per_level(
    given: Sequence[Sequence[int]] | None, default: tuple[tuple[int, ...], ...], where: str
) -> tuple[tuple[int, ...], ...]:
    """One whole number per level and axis: as given, checked, or the default."""
    if given is None:
        return default
    levels, axes = len(default), len(default[0])
    lists = [list(row) for row in given if isinstance(row, list | tuple)]
    is_table = len(given) == levels == len(lists) and all(len(row) == axes for row in lists)
    numbers = [n for row in lists for n in row]
    is_legal = all(type(n) is int and n >= 1 and (where == "strides" or n % 2) for n in numbers)
    if not is_table or not is_legal or (where == "strides" and max(lists[0]) > 1):
        kind = "whole numbers, 1 at level 0" if where == "strides" else "odd numbers"
        raise ConfigError(
            where=where,
            found=f"{given}",
            expected=f"{levels} levels (as in widths) of {axes} {kind}",
        )
    return tuple(tuple(row) for row in lists)


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
