"""Draw a network from the built model: blocks by level with their widths and their inputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from lunet.models.build import build_for_task
from lunet.reporting.figures.model_graph import Traced, trace
from lunet.reporting.figures.style import BLUE, GREY, TWO_COLUMNS, VERMILLION, Drawing, save, style
from lunet.reporting.numbers import integer
from lunet.task import task_from_dict

_BLOCK = re.compile(r"(?P<kind>encoder|decoder|node)\.(?P<level>\d+)(?:_(?P<column>\d+))?")
_HALF_WIDTH, _HALF_HEIGHT = 0.62, 0.27


@dataclass(frozen=True)
class Block:
    """A block of convolutions: its position in the drawing, its widths, and its inputs.

    ``level`` 0 is full resolution. ``inputs`` pairs the name of a source with the kind of
    connection: ``up`` for an up-convolution, else ``in``.
    """

    name: str
    level: int
    x: float
    widths: tuple[int, ...]
    inputs: tuple[tuple[str, str], ...]


def write_architecture(settings: Mapping[str, Any], base: str | Path) -> list[Path]:
    """Build the network of the sections ``model`` and ``task``, draw it, write all files.

    The U-Net and U-Net++ families are drawn from their plan, with the channels of each
    convolution; any other network is followed through a forward pass, with the channels that each
    block gives.
    """
    section, task = settings["model"], task_from_dict(settings["task"])
    model = build_for_task(section, task)
    plan: Any = getattr(model, "plan", None)
    parameters = integer(sum(parameter.numel() for parameter in model.parameters()))
    if plan is None:
        found = trace(model, channels=len(task.channels), ndim=task.dimensions)
        blocks, what = blocks_of_trace(found), "each block's output"
    else:
        blocks, what = blocks_of(plan.wiring, plan.widths), "each convolution"
    with style():
        title = f"{section['preset']}: {parameters} parameters; channels of {what}"
        return save(architecture(blocks, title), base)


def blocks_of_trace(found: Mapping[str, Traced]) -> list[Block]:
    """Blocks of a traced network, from left to right in the order in which they run."""
    return [
        Block(
            name,
            block.level,
            1.45 * place,
            (block.channels,),
            tuple((source, _traced_way(found[source], block)) for source in block.sources),
        )
        for place, (name, block) in enumerate(found.items())
    ]


def _traced_way(source: Traced, target: Traced) -> str:
    return "up" if target.level < source.level else "in"


def blocks_of(
    wiring: Mapping[str, tuple[str, ...]], widths: Mapping[str, tuple[int, ...]]
) -> list[Block]:
    """Blocks with their positions; an up-convolution becomes an input of the block after it."""
    matches = {name: _BLOCK.fullmatch(name) for name in wiring}
    deepest = max(int(match["level"]) for match in matches.values() if match)
    deepest += "bottleneck" in wiring
    blocks = []
    for name, sources in wiring.items():
        if name.startswith("up."):
            continue
        match = matches[name]
        level = int(match["level"]) if match else deepest if name == "bottleneck" else 0
        column = _column(match, level, deepest) if name != "head" else deepest
        x = level + 2.0 * column + (1.6 if name == "head" else 0)
        ways = tuple(_way(source, wiring) for source in sources if source in wiring)
        blocks.append(Block(name, level, x, tuple(widths[name]), ways))
    return blocks


def _column(match: re.Match[str] | None, level: int, deepest: int) -> int:
    """Column in the triangle of U-Net++; the decoder of a U-Net is its last diagonal."""
    if match is None or match["kind"] == "encoder":
        return 0
    return int(match["column"]) if match["column"] else deepest - level


def _way(source: str, wiring: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    if source.startswith("up."):
        return wiring[source][0], "up"
    return source, "in"


def architecture(blocks: list[Block], title: str) -> Drawing:
    """Draw boxes by level (full resolution at the top), labelled with their channels."""
    levels = 1 + max(block.level for block in blocks)
    figure = Figure(figsize=(TWO_COLUMNS, 0.75 + 0.62 * levels), layout="constrained")
    axes = figure.subplots()
    places = {block.name: block for block in blocks}
    for block in blocks:
        for source, way in block.inputs:
            between = _between(places[source], block, blocks)
            _arrow(axes, places[source], block, way, over=between)
        _box(axes, block)
    for level in range(levels):
        text = "full resolution" if level == 0 else f"1/{2**level}"
        axes.text(-0.95, -level, text, ha="right", va="center", size=6.5, color=GREY)
    axes.set_xlim(-2.4, max(block.x for block in blocks) + 0.9)
    axes.set_ylim(-levels + 0.45, 0.95)
    axes.set_axis_off()
    axes.set_title(title)
    _legend(figure)
    rows = [
        {
            "block": block.name,
            "level": block.level,
            "widths": " ".join(map(str, block.widths)),
            "fed_by": " ".join(source for source, _ in block.inputs),
        }
        for block in blocks
    ]
    return Drawing(figure, pd.DataFrame(rows))


def _box(axes: Axes, block: Block) -> None:
    axes.add_patch(
        FancyBboxPatch(
            (block.x - _HALF_WIDTH, -block.level - _HALF_HEIGHT),
            2 * _HALF_WIDTH,
            2 * _HALF_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="#EAF2F8",
            edgecolor="black",
            linewidth=0.7,
            zorder=3,
        )
    )
    text = ", ".join(map(str, block.widths))
    axes.text(block.x, -block.level, text, ha="center", va="center", size=6, zorder=4)


def _between(source: Block, target: Block, blocks: list[Block]) -> bool:
    """Whether other blocks of the same level block a straight arrow."""
    return any(
        other.level == source.level == target.level and source.x < other.x < target.x
        for other in blocks
    )


def _arrow(axes: Axes, source: Block, target: Block, way: str, *, over: bool) -> None:
    """Draw a connection: down to a lower level, up, or along a level, over the boxes between."""
    down = target.level > source.level
    colour = VERMILLION if way == "up" else GREY if down else BLUE
    along = source.level == target.level
    start: tuple[float, float] = (source.x + (0 if over else _HALF_WIDTH * along), -source.level)
    end: tuple[float, float] = (target.x - (0 if over else _HALF_WIDTH * along), -target.level)
    if over:
        start, end = (start[0], start[1] + _HALF_HEIGHT), (end[0], end[1] + _HALF_HEIGHT)
    elif not along:
        side = -1 if down else 1
        start = (source.x, -source.level + side * _HALF_HEIGHT)
        end = (target.x, -target.level - side * _HALF_HEIGHT)
    bend = -0.12 if over else 0.0
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=6,
            connectionstyle=f"arc3,rad={bend:.4f}",
            color=colour,
            linewidth=0.8,
            shrinkA=0,
            shrinkB=0,
            zorder=2,
        )
    )


def _legend(figure: Figure) -> None:
    words = {"lower resolution": GREY, "higher resolution": VERMILLION, "skip, next block": BLUE}
    handles = [Line2D([], [], color=colour, label=word) for word, colour in words.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
