"""MedNeXt (arXiv 2303.09975): a U-Net of inverted-bottleneck blocks with depthwise convolutions.

The default arguments are the ``mednext_small`` of the LUNet study (arXiv 2512.03834), far smaller
than the published MedNeXt-S, whose base width is 32.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from lunet.errors import ConfigError
from lunet.models.blocks import check_dropout, layers_of
from lunet.models.padding import check_image, legal_sizes, run_padded


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
    ndim
        2 or 3 spatial axes.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, \\*spatial) of any size, output (batch, out_channels, \\*spatial).
    Inside, each axis is padded to a multiple of ``2**(len(blocks) // 2)`` and one axis to twice
    that, for an instance norm of a single voxel is undefined.
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
        ndim: int = 3,
    ) -> None:
        super().__init__()
        layers = layers_of(ndim)
        check_dropout(dropout)
        _check(blocks, kernel, norm, up_padding, sizes={"width": width, "expansion": expansion})
        self.in_channels, self.ndim = in_channels, ndim
        levels = len(blocks) // 2
        self.multiple = (2**levels,) * ndim
        common = {"kernel": kernel, "expansion": expansion, "norm": norm, "grn": grn, "ndim": ndim}
        same = partial(ResidualBlock, dropout=dropout, **common)
        widths = [width * 2**level for level in range(levels + 1)]

        def stage(level: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(same(widths[level]) for _ in range(count)))

        self.stem = layers.conv(in_channels, width, kernel_size=1)
        self.encoder = nn.ModuleDict()
        for level in range(levels):
            down = DownBlock(widths[level], **common)
            self.encoder[f"{level}"] = _pair(stage(level, blocks[level]), down, "stage", "down")
        self.bottleneck = stage(levels, blocks[levels])
        self.decoder = nn.ModuleDict()
        for level in reversed(range(levels)):
            up = UpBlock(widths[level + 1], padding=up_padding, **common)
            self.decoder[f"{level}"] = _pair(up, stage(level, blocks[-1 - level]), "up", "stage")
        self.project = layers.conv(width, out_channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, \\*spatial) of an image (batch, in_channels, \\*spatial)."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        long_side = 2 * self.multiple[0]
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple, long_side=long_side)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor:
        x, skips = self.stem(x), []
        for level in self.encoder.values():
            skips.append(level["stage"](x))
            x = level["down"](skips[-1])
        x = self.bottleneck(x)
        for level in self.decoder.values():
            x = level["stage"](level["up"](x) + skips.pop())
        return self.project(x)


class ResidualBlock(nn.Module):
    """Depthwise convolution, norm, expand, GELU, [GRN], dropout, compress; plus the input."""

    def __init__(
        self,
        width: int,
        *,
        kernel: int,
        expansion: int,
        norm: str,
        grn: bool,
        ndim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers = layers_of(ndim)
        self.depthwise = layers.conv(
            width, width, kernel_size=kernel, padding=kernel // 2, groups=width
        )
        self.norm = _norm(norm, width)
        self.mix = _mix(width, expansion, width, grn=grn, dropout=dropout, ndim=ndim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> the same shape."""
        return x + self.mix(self.norm(self.depthwise(x)))


class DownBlock(nn.Module):
    """The block with stride 2 and twice the channels; the shortcut is a strided 1x1 convolution."""

    def __init__(
        self, width: int, *, kernel: int, expansion: int, norm: str, grn: bool, ndim: int
    ) -> None:
        super().__init__()
        layers = layers_of(ndim)
        self.depthwise = layers.conv(
            width, width, kernel_size=kernel, stride=2, padding=kernel // 2, groups=width
        )
        self.norm = _norm(norm, width)
        self.mix = _mix(width, expansion, 2 * width, grn=grn, dropout=None, ndim=ndim)
        self.shortcut = layers.conv(width, 2 * width, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> (batch, 2 width, \\*spatial / 2)."""
        return self.mix(self.norm(self.depthwise(x))) + self.shortcut(x)


class UpBlock(nn.Module):
    """The block with transposed stride 2 and half the channels.

    Its transposed convolutions give 2n - 1 voxels; one zero is padded at the low-index side.
    """

    def __init__(
        self,
        width: int,
        *,
        kernel: int,
        expansion: int,
        norm: str,
        grn: bool,
        ndim: int,
        padding: str,
    ) -> None:
        super().__init__()
        layers = layers_of(ndim)
        self.pads_first = padding == "before_norm"
        self.ndim = ndim
        self.depthwise = layers.transposed(
            width, width, kernel_size=kernel, stride=2, padding=kernel // 2, groups=width
        )
        self.norm = _norm(norm, width)
        self.mix = _mix(width, expansion, width // 2, grn=grn, dropout=None, ndim=ndim)
        self.shortcut = layers.transposed(width, width // 2, kernel_size=1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, \\*spatial) -> (batch, width / 2, 2 \\*spatial)."""
        y = self.depthwise(x)
        if self.pads_first:
            return self.mix(self.norm(self._pad(y))) + self._pad(self.shortcut(x))
        return self._pad(self.mix(self.norm(y)) + self.shortcut(x))

    def _pad(self, y: Tensor) -> Tensor:
        return functional.pad(y, (1, 0) * self.ndim)


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


def _mix(
    width: int, expansion: int, out: int, *, grn: bool, dropout: float | None, ndim: int
) -> nn.Sequential:
    """Expand, GELU, [GRN], [dropout], compress: all 1x1 convolutions."""
    layers = layers_of(ndim)
    inner = width * expansion
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["expand"] = layers.conv(width, inner, kernel_size=1)
    parts["gelu"] = nn.GELU()
    if grn:
        parts["grn"] = GlobalResponseNorm(inner, ndim=ndim)
    if dropout is not None:
        parts["dropout"] = layers.dropout(dropout)
    parts["compress"] = layers.conv(inner, out, kernel_size=1)
    return nn.Sequential(parts)


def _norm(kind: str, channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels if kind == "instance" else 1, channels)


def _pair(first: nn.Module, second: nn.Module, *names: str) -> nn.ModuleDict:
    return nn.ModuleDict(dict(zip(names, (first, second), strict=True)))


def _check(
    blocks: Sequence[int], kernel: int, norm: str, up_padding: str, *, sizes: dict[str, int]
) -> None:
    if len(blocks) % 2 == 0 or len(blocks) < 3 or min(blocks) < 1:
        raise ConfigError("blocks", f"{list(blocks)}", "an odd number (>= 3) of stages is needed")
    if kernel % 2 == 0 or kernel < 1:
        raise ConfigError("kernel", f"{kernel}", "an odd side in voxels is needed")
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(name, f"{size}", "at least 1 is needed")
    if norm not in ("instance", "layer"):
        raise ConfigError("norm", repr(norm), "'instance' or 'layer' are possible")
    if up_padding not in ("before_norm", "after_compress"):
        raise ConfigError(
            "up_padding", repr(up_padding), "'before_norm' or 'after_compress' are possible"
        )
