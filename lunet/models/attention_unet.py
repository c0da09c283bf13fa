"""U-Net with additive attention gates, linear or transposed up-sampling, deep supervision.

Attention U-Net: arXiv 1804.03999; deep supervision as in arXiv 1810.07842; U-Net: arXiv
1505.04597. Without gates it is the plain U-Net with batch norm. Made for 2D slices; works in 3D.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lunet.errors import ConfigError
from lunet.models.blocks import check_levels, layers_of
from lunet.models.padding import batch_norm_side, check_image, legal_sizes, run_padded
from lunet.models.resizing import resize


class AttentionUNet(nn.Module):
    """Double convolutions, gated skips, 1x1 head; returns logits.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    widths
        A base width ``f`` for the published plan (f, 2f, 4f, 8f and 8f with linear or 16f with
        transposed up-sampling), or the encoder's channels per level, full resolution first; then
        the decoder has ``widths[level]`` channels (all equal: a lean variant like LUNet).
    upsampling
        ``"linear"`` (bilinear, trilinear; align_corners) or ``"transposed"`` convolution.
    attention
        Gate the skips; False is the plain U-Net.
    deep_supervision
        In training mode return ``[main, 1/2, 1/4, ...]``, the heads of the lower decoder levels
        resized to the input; in evaluation mode only the main logits.
    ndim
        2 or 3 spatial axes.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, \\*spatial) of any size: each decoder step adapts to odd sizes, and
    only sides too short for the poolings are padded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        widths: int | Sequence[int] = 64,
        upsampling: str = "linear",
        attention: bool = True,
        deep_supervision: bool = False,
        ndim: int = 2,
    ) -> None:
        super().__init__()
        if upsampling not in ("linear", "transposed"):
            raise ConfigError(
                where="upsampling",
                found=repr(upsampling),
                expected="'linear' or 'transposed'",
            )
        conv = layers_of(ndim).conv
        down, up = _level_widths(widths, upsampling)
        self.in_channels, self.out_channels, self.ndim = in_channels, out_channels, ndim
        self.shortest = 2 ** (len(down) - 1)
        self.pool = layers_of(ndim).max_pool(2)
        pairs = zip((in_channels, *down), down, strict=False)
        self.encoder = nn.ModuleList(double_conv(a, b, b, ndim=ndim) for a, b in pairs)
        self.decoder = nn.ModuleList(
            DecoderStep(
                (*up, down[-1])[level + 1],
                down[level],
                up[level],
                upsampling=upsampling,
                attention=attention,
                ndim=ndim,
            )
            for level in reversed(range(len(up)))
        )
        self.project = conv(up[0], out_channels, kernel_size=1)
        # deepest first, full resolution left out
        lower = reversed(up[1:]) if deep_supervision else ()
        self.side_heads = nn.ModuleList(conv(width, out_channels, 1) for width in lower)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, \\*spatial); in training with deep supervision a list."""
        check_image(x, channels=self.in_channels, ndim=self.ndim)
        ones = (1,) * self.ndim
        side = self.shortest * batch_norm_side(x, training=self.training)
        sizes = legal_sizes(x.shape[2:], multiple=ones, minimum=self.shortest, long_side=side)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor | list[Tensor]:
        sizes = x.shape[2:]
        skips: list[Tensor] = []
        steps: list[Tensor] = []
        for encode in self.encoder:
            x = encode(self.pool(x) if skips else x)
            skips.append(x)
        skips.pop()
        for decode in self.decoder:
            x = decode(x, skips.pop())
            steps.append(x)
        main = self.project(x)
        if not (self.training and self.side_heads):
            return main
        sides = [head(y) for head, y in zip(self.side_heads, steps, strict=False)]
        return [main, *(resize(y, sizes) for y in reversed(sides))]


class DecoderStep(nn.Module):
    """Gate the skip with the feature from below, up-sample that feature, join, double convolution.

    ``below``, ``skip``, ``out``: channels of the feature from below, of the skip, of the result.
    """

    def __init__(
        self, below: int, skip: int, out: int, *, upsampling: str, attention: bool, ndim: int
    ) -> None:
        super().__init__()
        is_linear = upsampling == "linear"
        raised = below if is_linear else skip
        middle = (skip + raised) // 2 if is_linear else out
        transposed = layers_of(ndim).transposed
        self.up = None if is_linear else transposed(below, raised, kernel_size=2, stride=2)
        self.conv = double_conv(skip + raised, middle, out, ndim=ndim)
        self.gate = AttentionGate(below, skip, ndim=ndim) if attention else None

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(batch, below, \\*coarse), (batch, skip, \\*fine) -> (batch, out, \\*fine)."""
        gated = skip if self.gate is None else self.gate(x, skip)
        doubled = [2 * n for n in x.shape[2:]]
        raised = resize(x, doubled) if self.up is None else self.up(x)
        return self.conv(torch.cat([gated, pad_to(raised, skip.shape[2:])], dim=1))


class AttentionGate(nn.Module):
    """Additive gate: the skip times sigmoid(psi(ReLU(W_g g + W_x x))), one map per image."""

    def __init__(self, gate: int, skip: int, *, ndim: int) -> None:
        super().__init__()
        inner = max(1, skip // 2)
        self.from_gate = pointwise_norm(gate, inner, ndim=ndim)
        self.from_skip = pointwise_norm(skip, inner, ndim=ndim)
        self.psi = pointwise_norm(inner, 1, ndim=ndim)

    def forward(self, gate: Tensor, skip: Tensor) -> Tensor:
        """(batch, gate, \\*coarse), (batch, skip, \\*fine) -> (batch, skip, \\*fine)."""
        conv, norm = self.from_gate
        # a 1x1 convolution commutes with a linear resize and is cheaper before it
        coarse = norm(resize(conv(gate), skip.shape[2:]))
        joined = torch.relu(coarse + self.from_skip(skip))
        return skip * torch.sigmoid(self.psi(joined))


def double_conv(into: int, middle: int, out: int, *, ndim: int) -> nn.Sequential:
    """Twice: convolution 3 without bias -> batch norm -> ReLU."""
    layers = layers_of(ndim)
    parts: list[nn.Module] = []
    for a, b in ((into, middle), (middle, out)):
        parts += [layers.conv(a, b, 3, padding=1, bias=False), layers.batch_norm(b)]
        parts += [nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


def pointwise_norm(into: int, out: int, *, ndim: int) -> nn.Sequential:
    """Convolution 1 without bias -> batch norm."""
    layers = layers_of(ndim)
    return nn.Sequential(layers.conv(into, out, 1, bias=False), layers.batch_norm(out))


def pad_to(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Pad (batch, channel, \\*spatial) with zeros to ``sizes``, the smaller half in front."""
    missing = [want - have for want, have in zip(sizes, x.shape[2:], strict=True)]
    amounts = [n for lack in reversed(missing) for n in (lack // 2, lack - lack // 2)]
    return functional.pad(x, amounts)


def _level_widths(widths: int | Sequence[int], upsampling: str) -> tuple[list[int], list[int]]:
    """Channels per level of the encoder, and of the decoder (one level fewer)."""
    if not isinstance(widths, int):
        check_levels(widths, convs_per_block=2)
        return list(widths), list(widths[:-1])
    doubling = [widths * 2**level for level in range(5)]
    check_levels(doubling, convs_per_block=2)
    if upsampling == "transposed":
        return doubling, doubling[:-1]
    return [*doubling[:4], doubling[3]], [widths, *doubling[:3]]
