"""Tri-directional Mamba layer: forward, reverse and slice-wise scans of one token sequence.

Mamba: arXiv 2312.00752; the three directions: SegMamba, arXiv 2401.13560. The input and output
projections are shared; each direction has its own convolution, step sizes, decays and D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from lunet.models.selective_scan import selective_scan

DIRECTIONS = ("", "_b", "_s")
"""Suffixes of the parameters of the forward, the reverse and the slice-wise scan."""


class TriMamba(nn.Module):
    """Sum of three gated selective scans of tokens (batch, length, width), without a residual.

    Parameters
    ----------
    width
        Channels of a token.
    states
        States per inner channel.
    kernel
        Length of the causal depthwise convolution.
    expand
        Inner channels relative to ``width``.
    """

    def __init__(self, width: int, *, states: int = 16, kernel: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner = expand * width
        self.states, self.rank = states, math.ceil(width / 16)
        for suffix in DIRECTIONS:
            rows = torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1)
            self.register_parameter(f"A{suffix}_log", nn.Parameter(rows))
            self.register_parameter(f"D{suffix}", nn.Parameter(torch.ones(inner)))
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        for suffix in DIRECTIONS:
            conv = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
            self.add_module(f"conv1d{suffix}", conv)
            projected = self.rank + 2 * states
            self.add_module(f"x_proj{suffix}", nn.Linear(inner, projected, bias=False))
            self.add_module(f"dt_proj{suffix}", nn.Linear(self.rank, inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        _initialise_steps(self.get_submodule("dt_proj"), self.rank)

    def forward(self, tokens: Tensor, *, slices: int) -> Tensor:
        """(batch, length, width) -> the same shape.

        ``slices`` is the number of contiguous chunks for the slice-wise scan, which visits the
        first token of every chunk, then the second ones, and so on. It must divide the length.
        """
        x, z = self.in_proj(tokens).chunk(2, dim=-1)
        ways = torch.stack([x, x.flip(1), _interleave(x, slices)], dim=1)
        y = self._scan(self._convolve(ways))
        back = y[:, 0] + y[:, 1].flip(1) + _interleave(y[:, 2], y.shape[2] // slices)
        return self.out_proj(back.to(z.dtype) * functional.silu(z))

    def _convolve(self, ways: Tensor) -> Tensor:
        """(batch, directions, length, inner): causal depthwise convolution, then SiLU."""
        weight, bias = self._stack("conv1d{}.weight").flatten(0, 1), self._stack("conv1d{}.bias")
        channels = ways.transpose(2, 3).flatten(1, 2)
        causal = functional.pad(channels, (weight.shape[-1] - 1, 0))
        y = functional.conv1d(causal, weight, bias.flatten(), groups=len(weight))
        return functional.silu(y).unflatten(1, (len(DIRECTIONS), -1)).transpose(2, 3)

    def _scan(self, ways: Tensor) -> Tensor:
        """(batch, directions, length, inner): the scans (time-major inside), plus D times x."""
        u = ways.permute(2, 1, 0, 3).contiguous()
        projected = torch.einsum("lkbi,kri->lkbr", u, self._stack("x_proj{}.weight"))
        raw, b, c = projected.split([self.rank, self.states, self.states], dim=-1)
        steps = torch.einsum("lkbr,kir->lkbi", raw, self._stack("dt_proj{}.weight"))
        bias = self._stack("dt_proj{}.bias")
        # the sum with a float32 bias is float32 even if autocast made the steps half precision
        dt = functional.softplus(steps + bias.unsqueeze(1))
        y = selective_scan(u, dt, -torch.exp(self._stack("A{}_log")), b, c)
        y = y + self._stack("D{}").unsqueeze(1) * u
        return y.permute(2, 1, 0, 3)

    def _stack(self, name: str) -> Tensor:
        """One parameter of the three directions, stacked along a new first axis."""
        return torch.stack([self.get_parameter(name.format(suffix)) for suffix in DIRECTIONS])


def _interleave(x: Tensor, chunks: int) -> Tensor:
    """Position i * chunks + j of the result holds index j * (length / chunks) + i of axis 1."""
    return x.unflatten(1, (chunks, -1)).transpose(1, 2).flatten(1, 2)


def _initialise_steps(projection: nn.Module, rank: int) -> None:
    """Published initialisation of the forward direction: steps log-uniform from 1e-3 to 0.1.

    The other two directions keep the layer's default, as published.
    """
    weight, bias = projection.get_parameter("weight"), projection.get_parameter("bias")
    nn.init.uniform_(weight, -(rank**-0.5), rank**-0.5)
    low, high = math.log(1e-3), math.log(1e-1)
    with torch.no_grad():
        steps = torch.exp(torch.rand_like(bias) * (high - low) + low).clamp(min=1e-4)
        bias.copy_(steps + torch.log(-torch.expm1(-steps)))
