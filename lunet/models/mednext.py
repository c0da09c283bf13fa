"""MedNeXt (arXiv 2303.09975): a U-Net of inverted-bottleneck blocks with depthwise convolutions.

The default arguments are the ``mednext_small`` of the LUNet study (arXiv 2512.03834), far smaller
than the published MedNeXt-S, whose base width is 32.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from lunet.errors import ConfigError, nearest
from lunet.models.blocks import check_dropout, layers_of
from lunet.models.padding import check_image, legal_sizes, run_padded

_BY_EXPANSION: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True)
class Style:
    """The settings that all blocks share; the fields are arguments of :class:`MedNeXt`."""

    kernel: int
    expansion: int
    dropout: float
    norm: str
    grn: bool
    up_padding: str
    ndim: int

    def __post_init__(self) -> None:
        check_dropout(self.dropout)
        if self.kernel % 2 == 0 or self.kernel < 1:
            raise ConfigError(
                where="kernel", found=f"{self.kernel}", expected="an odd side in voxels is needed"
            )
        if self.expansion < 1:
            raise ConfigError(
                where="expansion", found=f"{self.expansion}", expected="at least 1 is needed"
            )
        _check_choice("norm", self.norm, "instance", "layer")
        _check_choice("up_padding", self.up_padding, "before_norm", "after_compress")


class MedNeXt(nn.Module):
    """Stem, encoder, bottleneck, decoder with added skips, projection; returns logits.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    width
        Channels at full resolution; each level below has twice as many.
    blocks
        Blocks per stage: encoder from the top, bottleneck, decoder from the bottom; an odd number
        of stages.
    kernel
        Side of the depthwise kernels in voxels, odd.
    expansion
        Channels inside a block relative to its input.
    dropout
        Probability of dropping a channel of the expanded features.
    norm
        ``"instance"`` (a group per channel) or ``"layer"`` (one group over all channels).
    grn
        Global response normalisation after the activation (arXiv 2301.00808).
    up_padding
        Where an up block pads the one voxel that its transposed convolution lacks:
        ``"before_norm"`` as in the LUNet study, ``"after_compress"`` as in the MedNeXt release.
        Equal weights give different results.
    expanded
        Block name (``encoder.stage_0.1``, ``encoder.down_0``) -> its expanded channels, if they
        are not ``expansion`` times its input. This rebuilds a pruned network; ``MedNeXt.expanded``
        has the entries of all blocks.
    ndim
        2 or 3 spatial axes.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, \\*spatial) of any size, output (batch, out_channels, \\*spatial).
    Inside, each axis is padded to a multiple of ``2**(len(blocks) // 2)``, and one axis to at least
    twice that, because an instance norm of a single voxel is undefined.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 4,
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 2, 2, 2, 2),
        kernel: int = 3,
        expansion: int = 2,
        dropout: float = 0.0,
        norm: str = "instance",
        grn: bool = False,
        up_padding: str = "before_norm",
        expanded: Mapping[str, int] = _BY_EXPANSION,
        ndim: int = 3,
    ) -> None:
        super().__init__()
        layers = layers_of(ndim)
        style = Style(kernel, expansion, dropout, norm, grn, up_padding, ndim)
        if width < 1:
            raise ConfigError(where="width", found=f"{width}", expected="at least 1 is needed")
        if len(blocks) % 2 == 0 or len(blocks) < 3 or min(blocks) < 1:
            raise ConfigError(
                where="blocks", found=f"{list(blocks)}", expected="an odd number (>= 3) of stages"
            )
        self.in_channels, self.out_channels, self.ndim = in_channels, out_channels, ndim
        self.levels = len(blocks) // 2
        self.multiple = (2**self.levels,) * ndim

        self.expanded: dict[str, int] = {}

        def inner(name: str, level: int) -> int:
            self.expanded[name] = expanded.get(name, expansion * width * 2**level)
            if self.expanded[name] < 1:
                raise ConfigError(
                    where=f"expanded.{name}", found=f"{self.expanded[name]}", expected="at least 1"
                )
            return self.expanded[name]

        def stage(name: str, level: int, count: int) -> nn.Sequential:
            names = (f"{name}.{index}" for index in range(count))
            wide = width * 2**level
            return nn.Sequential(*(ResidualBlock(wide, style, inner(n, level)) for n in names))

        self.stem = layers.conv(in_channels, width, kernel_size=1)
        self.encoder = nn.ModuleDict()
        for level in range(self.levels):
            name, down = f"encoder.stage_{level}", inner(f"encoder.down_{level}", level)
            self.encoder[f"stage_{level}"] = stage(name, level, blocks[level])
            self.encoder[f"down_{level}"] = DownBlock(width * 2**level, style, down)
        self.bottleneck = stage("bottleneck", self.levels, blocks[self.levels])
        self.decoder = nn.ModuleDict()
        for level in reversed(range(self.levels)):
            name, up = f"decoder.stage_{level}", inner(f"decoder.up_{level}", level + 1)
            self.decoder[f"up_{level}"] = UpBlock(width * 2 ** (level + 1), style, up)
            self.decoder[f"stage_{level}"] = stage(name, level, blocks[-1 - level])
        self.project = layers.conv(width, out_channels, kernel_size=1)
        for name in expanded.keys() - self.expanded.keys():
            raise ConfigError(
                where=f"expanded.{name}",
                found="no such block",
                expected=nearest(name, self.expanded),
            )

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, \\*spatial) of an image (batch, in_channels, \\*spatial)."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple, long_side=2)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor:
        x, skips = self.stem(x), []
        for level in range(self.levels):
            skips.append(self.encoder[f"stage_{level}"](x))
            x = self.encoder[f"down_{level}"](skips[-1])
        x = self.bottleneck(x)
        for level in reversed(range(self.levels)):
            x = self.decoder[f"up_{level}"](x) + skips.pop()
            x = self.decoder[f"stage_{level}"](x)
        return self.project(x)


class ResidualBlock(nn.Module):
    """Depthwise convolution, norm, expand, GELU, [GRN], dropout, compress; plus the input."""

    def __init__(self, width: int, style: Style, inner: int) -> None:
        super().__init__()
        self.depthwise = _depthwise(layers_of(style.ndim).conv, width, style, stride=1)
        self.norm = _norm(style.norm, width)
        self.mix = _mix(width, inner, width, style, dropout=style.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> the same shape."""
        return x + self.mix(self.norm(self.depthwise(x)))


class DownBlock(nn.Module):
    """The block with stride 2 and twice the channels; the shortcut is a strided 1x1 convolution."""

    def __init__(self, width: int, style: Style, inner: int) -> None:
        super().__init__()
        conv = layers_of(style.ndim).conv
        self.depthwise = _depthwise(conv, width, style, stride=2)
        self.norm = _norm(style.norm, width)
        self.mix = _mix(width, inner, 2 * width, style, dropout=None)
        self.shortcut = conv(width, 2 * width, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> (batch, 2 width, \\*spatial / 2)."""
        return self.mix(self.norm(self.depthwise(x))) + self.shortcut(x)


class UpBlock(nn.Module):
    """The block with transposed stride 2 and half the channels.

    Its transposed convolutions return 2n - 1 voxels; one zero is padded at the low-index side.
    """

    def __init__(self, width: int, style: Style, inner: int) -> None:
        super().__init__()
        transposed = layers_of(style.ndim).transposed
        self.style = style
        self.depthwise = _depthwise(transposed, width, style, stride=2)
        self.norm = _norm(style.norm, width)
        self.mix = _mix(width, inner, width // 2, style, dropout=None)
        self.shortcut = transposed(width, width // 2, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> (batch, width / 2, 2 \\*spatial)."""
        if self.style.up_padding == "before_norm":
            return self.mix(self.norm(self._pad(self.depthwise(x)))) + self._pad(self.shortcut(x))
        return self._pad(self.mix(self.norm(self.depthwise(x))) + self.shortcut(x))

    def _pad(self, y: Tensor) -> Tensor:
        return functional.pad(y, (1, 0) * self.style.ndim)


class GlobalResponseNorm(nn.Module):
    """Scale channels by their share of the response (arXiv 2301.00808); starts as the identity."""

    def __init__(self, channels: int, *, ndim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, channels, *(1,) * ndim))
        self.beta = nn.Parameter(torch.zeros(1, channels, *(1,) * ndim))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, \\*spatial) -> the same shape."""
        response = torch.linalg.vector_norm(x, dim=tuple(range(2, x.ndim)), keepdim=True)
        share = response / (response.mean(dim=1, keepdim=True) + 1e-6)
        return x + self.gamma * (x * share) + self.beta


def _depthwise(conv: type[nn.Module], width: int, style: Style, *, stride: int) -> nn.Module:
    padding = style.kernel // 2
    return conv(width, width, style.kernel, stride=stride, padding=padding, groups=width)


def _mix(width: int, inner: int, out: int, style: Style, *, dropout: float | None) -> nn.Sequential:
    """Expand, GELU, [GRN], [dropout], compress: all 1x1 convolutions."""
    layers = layers_of(style.ndim)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["expand"] = layers.conv(width, inner, kernel_size=1)
    parts["gelu"] = nn.GELU()
    if style.grn:
        parts["grn"] = GlobalResponseNorm(inner, ndim=style.ndim)
    if dropout is not None:
        parts["dropout"] = layers.dropout(dropout)
    parts["compress"] = layers.conv(inner, out, kernel_size=1)
    return nn.Sequential(parts)


def _norm(kind: str, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels if kind == "instance" else 1, channels)


def _check_choice(key: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise ConfigError(
            where=key,
            found=repr(value),
            expected=f"{' or '.join(map(repr, allowed))}",
        )
