"""Slim UNETRV2: a 3D encoder of local blocks whose skips pass through Mamba and attention.

Written from its description in pure PyTorch (system: github.com/deepang-ai/Slim-UNETRV2). The
two published settings differ in ``strides`` and ``slices``:

* for 128^3 patches: strides (4, 2, 2, 2), slices (64, 32, 16, 8);
* for 96^3 patches: strides (2, 2, 2, 2), slices (16, 8, 4, 2).

With ``slices="planes"``, each chunk of the slice-wise scan is one plane of the token grid, for any
size of the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import accumulate, product
from operator import mul

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from lunet.errors import ConfigError
from lunet.models.mamba import TriMamba
from lunet.models.padding import check_image, legal_sizes, run_padded

TOKEN_STRIDES = (4, 4, 2, 1)
"""Grid positions per token along an axis, per stage."""


class SlimUNETRV2(nn.Module):
    """Four stages down, a hidden convolution, four linear stages up; returns logits.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    strides
        Kernel and stride of the four down-sampling convolutions.
    slices
        Chunks of the slice-wise scan per stage, or ``"planes"``.
    widths, heads
        Channels and attention heads per stage.
    hidden
        Channels of the bottleneck.
    initialisation
        ``default``: PyTorch's, and Mamba's for the scans, as published; ``he``: the convolutions on
        the grid get Kaiming's normal distribution for a slope of 0.01 and biases of 0, as in
        nnU-Net's own networks.
    ndim
        3; the network has no 2D version.

    Raises
    ------
    ConfigError
        If an argument is out of range.

    Input (batch, in_channels, X, Y, Z) of any size, output (batch, out_channels, X, Y, Z). Inside,
    the image is padded to the smallest size whose token grids are whole and whose token counts
    are divisible by ``slices``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        strides: Sequence[int] = (2, 2, 2, 2),
        slices: Sequence[int] | str = (16, 8, 4, 2),
        widths: Sequence[int] = (48, 96, 192, 384),
        heads: Sequence[int] = (1, 2, 4, 4),
        hidden: int = 768,
        initialisation: str = "default",
        ndim: int = 3,
    ) -> None:
        super().__init__()
        _check(strides, slices, widths, heads, ndim)
        if initialisation not in ("default", "he"):
            raise ConfigError(
                where="initialisation", found=repr(initialisation), expected="'default' or 'he'"
            )
        self.in_channels, self.out_channels, self.ndim = in_channels, out_channels, ndim
        self.slices = None if isinstance(slices, str) else tuple(slices)
        self.scales = tuple(accumulate(strides, mul))
        grids = [a * b for a, b in zip(self.scales, TOKEN_STRIDES, strict=True)]
        self.multiple = (math.lcm(*grids, 2 * self.scales[-1]),) * 3
        down = zip((in_channels, *widths), widths, strides, strict=False)
        self.down = nn.ModuleList(_down(i, *layer) for i, layer in enumerate(down))
        sparse = zip(widths, TOKEN_STRIDES, heads, strict=True)
        self.sparse = nn.ModuleList(SparseBlock(w, stride=s, heads=h) for w, s, h in sparse)
        self.local = nn.ModuleList(LocalBlock(w, _activation(i)) for i, w in enumerate(widths))
        self.mlp = nn.ModuleList(_mlp(w, _activation(i)) for i, w in enumerate(widths))
        self.hidden = nn.Conv3d(widths[-1], hidden, kernel_size=2, stride=2)
        up = zip((hidden, *widths[:0:-1]), widths[::-1], (2, *strides[:0:-1]), strict=True)
        self.up = nn.ModuleList(UpLayer(*layer) for layer in up)
        self.project = nn.ConvTranspose3d(widths[0], out_channels, strides[0], strides[0])
        if initialisation == "he":
            self.apply(_he)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits (batch, out_channels, X, Y, Z) of an image (batch, in_channels, X, Y, Z)."""
        check_image(x, channels=self.in_channels, ndim=3)
        sizes = legal_sizes(x.shape[2:], multiple=self.multiple)
        if self.slices is not None:
            sizes = divisible_sizes(sizes, self.multiple[0], self.scales, self.slices)
        return run_padded(self._logits, x, sizes)

    def _logits(self, x: Tensor) -> Tensor:
        skips = []
        for stage, (down, local) in enumerate(zip(self.down, self.local, strict=True)):
            x = local(down(x))
            chunks = x.shape[2] // TOKEN_STRIDES[stage]
            chunks = chunks if self.slices is None else self.slices[stage]
            skips.append(self.sparse[stage](x, slices=chunks))
            x = self.mlp[stage](x)
        x = self.hidden(x)
        for up in self.up:
            x = up(x, skips.pop())
        return self.project(x)


class LocalBlock(nn.Module):
    """Two 3x3x3 convolutions in parallel with a 1x1x1; a 1x1x1 of their sum; plus the input."""

    def __init__(self, width: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.first = _conv_norm(width, 3, activation)
        self.second = _conv_norm(width, 3, activation)
        self.side = _conv_norm(width, 1, activation)
        self.last = _conv_norm(width, 1, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, X, Y, Z) -> the same shape."""
        return x + self.last(self.second(self.first(x)) + self.side(x))


class SparseBlock(nn.Module):
    """Compress the grid to tokens, Mamba, attention, expand; plus the input."""

    def __init__(self, width: int, *, stride: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.compress, self.expand = _compression(width, stride)
        self.mamba = TriMamba(width)
        self.qkv = nn.Conv3d(width, 3 * width, kernel_size=1, bias=False)

    def forward(self, x: Tensor, *, slices: int) -> Tensor:
        """(batch, width, X, Y, Z) -> the same shape; ``slices`` as in :class:`TriMamba`."""
        grid = self.compress(x)
        tokens = self.norm(grid.flatten(2).transpose(1, 2))
        mixed = self.mamba(tokens, slices=slices).transpose(1, 2).reshape(grid.shape)
        return x + self.expand(self._attend(mixed))

    def _attend(self, grid: Tensor) -> Tensor:
        """Attention of all tokens, with the heads outermost, without scale or positions."""
        qkv = self.qkv(grid).flatten(2).unflatten(1, (self.heads, 3, -1)).transpose(3, 4)
        # unscaled products leave the range of float16
        q, k, v = (part if part.dtype == torch.float64 else part.float() for part in qkv.unbind(2))
        device = "cpu" if grid.is_meta else grid.device.type
        with torch.autocast(device, enabled=False), _reproducible_attention():
            out = functional.scaled_dot_product_attention(q, k, v, scale=1.0)
        return out.transpose(2, 3).reshape(grid.shape).to(grid.dtype)


def _reproducible_attention() -> AbstractContextManager[None]:
    """In deterministic mode plain products: the fused kernels of CUDA add in varying order."""
    if torch.are_deterministic_algorithms_enabled():
        return sdpa_kernel(SDPBackend.MATH)
    return nullcontext()


class UpLayer(nn.Module):
    """Transposed convolution, join [up-sampled, skip], 1x1x1 to half, norm over all channels."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(into, out, stride, stride)
        self.norm = nn.GroupNorm(1, out)
        self.join = nn.ConvTranspose3d(2 * out, out, kernel_size=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(batch, into, \\*coarse), (batch, out, \\*fine) -> (batch, out, \\*fine)."""
        return self.norm(self.join(torch.cat([self.up(x), skip], dim=1)))


def _he(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, a=0.01)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _activation(stage: int) -> type[nn.Module]:
    return nn.GELU if stage < 2 else nn.SiLU


def _down(stage: int, into: int, out: int, stride: int) -> nn.Sequential:
    conv = nn.Conv3d(into, out, stride, stride)
    return nn.Sequential(nn.InstanceNorm3d(into), conv) if stage else nn.Sequential(conv)


def _conv_norm(width: int, kernel: int, activation: type[nn.Module]) -> nn.Sequential:
    conv = nn.Conv3d(width, width, kernel, padding=kernel // 2)
    return nn.Sequential(conv, nn.InstanceNorm3d(width), activation())


def _mlp(width: int, activation: type[nn.Module]) -> nn.Sequential:
    """Instance norm, then 1x1x1 to twice the channels and back; no residual."""
    wide, back = nn.Conv3d(width, 2 * width, 1), nn.Conv3d(2 * width, width, 1)
    return nn.Sequential(nn.InstanceNorm3d(width), wide, activation(), back)


def _compression(width: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Grid -> tokens and back, for a token stride of 4, 2 or 1."""
    if stride == 4:
        expand = nn.ConvTranspose3d(width, width, 3, 4, output_padding=1)
        return nn.Conv3d(width, width, 3, 4), expand
    if stride == 2:
        return nn.Conv3d(width, width, 1, 2), nn.ConvTranspose3d(width, width, 4, 2, padding=1)
    return nn.Identity(), nn.Identity()


@lru_cache(maxsize=256)
def divisible_sizes(
    sizes: tuple[int, ...], multiple: int, scales: tuple[int, ...], slices: tuple[int, ...]
) -> tuple[int, ...]:
    """Smallest size at or above ``sizes`` whose tokens at each stage are divisible by ``slices``.

    ``sizes`` are already legal multiples; ``scales`` are voxels per grid position at each stage.
    """

    def is_legal(candidate: tuple[int, ...]) -> bool:
        tokens = zip(scales, TOKEN_STRIDES, slices, strict=True)
        return all(math.prod(n // (a * b) for n in candidate) % c == 0 for a, b, c in tokens)

    reach = 1
    while not (legal := list(filter(is_legal, _larger(sizes, multiple, reach)))):
        reach *= 2
    return min(legal, key=math.prod)


def _larger(sizes: tuple[int, ...], multiple: int, reach: int) -> Iterator[tuple[int, ...]]:
    for extra in product(range(reach), repeat=3):
        yield tuple(n + multiple * more for n, more in zip(sizes, extra, strict=True))


def _check(
    strides: Sequence[int],
    slices: Sequence[int] | str,
    widths: Sequence[int],
    heads: Sequence[int],
    ndim: int,
) -> None:
    if ndim != 3:
        raise ConfigError(where="ndim", found=f"{ndim}", expected="Slim UNETRV2 has 3 spatial axes")
    if isinstance(slices, str) and slices != "planes":
        raise ConfigError(
            where="slices",
            found=repr(slices),
            expected="'planes' or four whole numbers",
        )
    lists = {"strides": strides, "widths": widths, "heads": heads}
    lists |= {} if isinstance(slices, str) else {"slices": slices}
    for name, values in lists.items():
        if len(values) != 4 or min(values) < 1:
            raise ConfigError(
                where=name,
                found=f"{list(values)}",
                expected="four positive whole numbers, one per stage",
            )
    if any(width % head for width, head in zip(widths, heads, strict=True)):
        raise ConfigError(
            where="heads",
            found=f"{list(heads)}",
            expected=f"each must divide its width {list(widths)}",
        )
