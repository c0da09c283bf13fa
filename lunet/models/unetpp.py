"""UNet++ and LUNet++: the U-Net whose skips are nested dense blocks (arXiv 1807.10165).

Without deep supervision: only the last node of the full resolution is used. Like UNet and LUNet,
the two differ only in their widths.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lunet.models.blocks import IMAGE, NetworkPlan, check_levels, full_widths, layers_of
from lunet.models.planned import PlannedNetwork, halved
from lunet.models.units import Style


class UNetPlusPlus(PlannedNetwork):
    """Nodes (row, column) with row + column < levels; column 0 is the encoder. Returns logits.

    Node (i, j) with j > 0 gets the outputs of all earlier nodes of its row and, last, of the
    up-convolved node (i + 1, j - 1) (arXiv 1807.10165, equation 1).

    Parameters
    ----------
    in_channels, out_channels
        Channels of the image and of the logits.
    widths
        Channels per row, full resolution first; or a widths description, block name -> output
        channels of each convolution, as in ``UNetPlusPlus.plan.widths``.
    convs_per_block
        Convolutions per node, if ``widths`` are given per row.
    dropout
        Probability of dropping a channel after each unit except the head's.
    ndim
        2 or 3 spatial axes.

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
    ) -> None:
        plan, levels = _plan(in_channels, widths, convs_per_block)
        strides = halved(levels, ndim)
        super().__init__(plan, out_channels, strides=strides, style=Style())

        def make(kind: str, keys: Iterable[str]) -> nn.ModuleDict:
            return nn.ModuleDict({key: self.make_block(f"{kind}.{key}", dropout) for key in keys})

        keys = [f"{row}_{column}" for row, column in nested(levels)]
        self.pool = layers_of(ndim).max_pool(2)
        self.encoder = make("encoder", map(str, range(levels)))
        self.up = nn.ModuleDict({key: self.make_up(f"up.{key}", strides[-1]) for key in keys})
        self.node = make("node", keys)
        self.head = self.make_block("head", None)
        self.project = self.make_output("head")

    def _logits(self, x: Tensor) -> Tensor:
        rows: list[list[Tensor]] = []
        for encode in self.encoder.values():
            x = encode(self.pool(x) if rows else x)
            rows.append([x])
        for row, column in nested(self.levels):
            key = f"{row}_{column}"
            raised = self.up[key](rows[row + 1][column - 1])
            rows[row].append(self.node[key](torch.cat([*rows[row], raised], dim=1)))
        return self.project(self.head(rows[0][-1]))


def nested(levels: int) -> Iterator[tuple[int, int]]:
    """(row, column) of the nested nodes, column by column."""
    return ((row, column) for column in range(1, levels) for row in range(levels - column))


def wiring(levels: int) -> dict[str, tuple[str, ...]]:
    """Blocks of a UNet++ in the order of registration, each with the blocks that feed it."""

    def node(row: int, column: int) -> str:
        return f"node.{row}_{column}" if column else f"encoder.{row}"

    result = {node(i, 0): (node(i - 1, 0) if i else IMAGE,) for i in range(levels)}
    blocks: dict[str, tuple[str, ...]] = dict(result)
    for row, column in nested(levels):
        blocks[f"up.{row}_{column}"] = (node(row + 1, column - 1),)
    for row, column in nested(levels):
        earlier = (node(row, before) for before in range(column))
        blocks[node(row, column)] = (*earlier, f"up.{row}_{column}")
    return blocks | {"head": (node(0, levels - 1),)}


def widths_from_levels(widths: Sequence[int], convs_per_block: int) -> dict[str, tuple[int, ...]]:
    """Widths description of a UNet++ from its channels per row, full resolution first.

    The head counts as one convolution of the last node, which is therefore one shorter.
    """
    levels = len(widths)
    every = {f"encoder.{row}": (widths[row],) * convs_per_block for row in range(levels)}
    every |= {f"up.{row}_{column}": (widths[row],) for row, column in nested(levels)}
    for row, column in nested(levels):
        every[f"node.{row}_{column}"] = (widths[row],) * convs_per_block
    every[f"node.0_{levels - 1}"] = (widths[0],) * max(1, convs_per_block - 1)
    return every | {"head": (widths[0],)}


def _plan(
    in_channels: int, widths: Sequence[int] | Mapping[str, Sequence[int]], convs_per_block: int
) -> tuple[NetworkPlan, int]:
    """The plan and its number of rows."""
    if isinstance(widths, Mapping):
        levels = sum(name.startswith("encoder.") for name in widths)
    else:
        check_levels(widths, convs_per_block=convs_per_block)
        levels = len(widths)
        widths = widths_from_levels(widths, convs_per_block)
    blocks = wiring(levels)
    return NetworkPlan(in_channels, blocks, full_widths(widths, blocks)), levels
