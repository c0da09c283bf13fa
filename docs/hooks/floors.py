"""A drawing of the package's layers ("floors") and the imports between them, read from the code."""

from __future__ import annotations

from html import escape
from pathlib import Path
from statistics import mean

import grimp
import networkx as nx

WIDTH, HEIGHT = 120, 40  # of a box
PASS = 24  # width that is reserved for an arrow that passes a row of boxes
GAP_X, GAP_Y = 20, 52
MARGIN = 16
STYLE = """
  .box { fill: #e0f2f1; stroke: #00796b; stroke-width: 1.5; }
  .arrow { fill: none; stroke: #607d8b; stroke-width: 1.3; }
  .head { fill: #607d8b; }
  text { font: 14px sans-serif; fill: #102a27; text-anchor: middle; dominant-baseline: central; }
"""

Node = str | tuple[str, str, int]
"""A floor, or the place (upper, lower, row) where an arrow passes a row of boxes."""


def drawing(package: Path) -> str:
    """An SVG with a box per floor and an arrow to each floor that it imports from.

    Arrows that follow from others are omitted: if training imports data and data imports the
    ground, no arrow leads from training to the ground.

    Parameters
    ----------
    package
        Folder of the package.
    """
    graph = nx.transitive_reduction(floors(package))
    chains = passages(graph)
    places = positions(rows(chains))
    size_x = max(x + width(node) / 2 for node, (x, _) in places.items()) + MARGIN
    size_y = max(y for _, y in places.values()) + HEIGHT + MARGIN
    arrows = [arrow([places[node] for node in chain]) for chain in chains]
    boxes = [box(node, *place) for node, place in places.items() if isinstance(node, str)]
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker>'
    )
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size_x:g} {size_y:g}" '
        f'width="{size_x:g}" height="{size_y:g}" role="img">'
    )
    title = "<title>Layers of the package and their imports</title>"
    return "\n".join(
        [opening, title, f"<style>{STYLE}</style>", head, *arrows, *boxes, "</svg>", ""]
    )


def floors(package: Path) -> nx.DiGraph:
    """Directed graph with an edge from each floor to the floors that it imports from."""
    names = {path.parent.name for path in package.glob("*/*.py")}
    graph = grimp.build_graph(package.name, cache_dir=None)
    edges = set()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            upper, lower = floor(module, names), floor(imported, names)
            if upper and lower and upper != lower:
                edges.add((upper, lower))
    return nx.DiGraph(sorted(edges))


def floor(module: str, names: set[str]) -> str | None:
    """The floor of a module: its folder, the command line, or the ground; None for the package."""
    parts = module.split(".")
    if len(parts) == 1:
        return None
    if parts[1] in ("__main__", "cli", "api"):
        return "commands"
    return parts[1] if parts[1] in names else "ground"


def passages(graph: nx.DiGraph) -> list[list[Node]]:
    """Each arrow as a chain from its upper floor to its lower one, with a node in every row."""
    height: dict[str, int] = {}
    for name in reversed(list(nx.lexicographical_topological_sort(graph))):
        height[name] = 1 + max((height[lower] for lower in graph[name]), default=-1)
    chains: list[list[Node]] = []
    for upper, lower in sorted(graph.edges):
        between = range(height[upper] - 1, height[lower], -1)
        chains.append([upper, *((upper, lower, row) for row in between), lower])
    return chains


def rows(chains: list[list[Node]]) -> list[list[Node]]:
    """Rows from the top, ordered to reduce crossings (barycentre method, sweeping down and up)."""
    steps = nx.DiGraph()
    for chain in chains:
        nx.add_path(steps, chain)
    level: dict[Node, int] = {}
    for node in reversed(list(nx.lexicographical_topological_sort(steps, key=str))):
        level[node] = 1 + max((level[lower] for lower in steps[node]), default=-1)
    top = max(level.values())
    found = [sorted((n for n in level if level[n] == top - row), key=str) for row in range(top + 1)]
    for sweep in range(8):
        down = sweep % 2 == 0
        for row in found if down else reversed(found):
            centre = {node: x for node, (x, _) in positions(found).items()}
            near = steps.predecessors if down else steps.successors
            means = {node: mean([centre[n] for n in near(node)] or [centre[node]]) for node in row}
            row.sort(key=means.__getitem__)
    return found


def width(node: Node) -> float:
    """Width of a node in its row."""
    return WIDTH if isinstance(node, str) else PASS


def positions(found: list[list[Node]]) -> dict[Node, tuple[float, float]]:
    """Position of the middle of each node's upper edge; rows are centred."""
    lengths = [sum(map(width, row)) + GAP_X * (len(row) - 1) for row in found]
    places = {}
    for number, (row, length) in enumerate(zip(found, lengths, strict=True)):
        left = MARGIN + (max(lengths) - length) / 2
        for node in row:
            places[node] = (left + width(node) / 2, MARGIN + number * (HEIGHT + GAP_Y))
            left += width(node) + GAP_X
    return places


def box(name: str, x: float, y: float) -> str:
    """SVG elements of a floor."""
    return (
        f'<rect class="box" x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" '
        f'rx="6"/><text x="{x:g}" y="{y + HEIGHT / 2:g}">{escape(name)}</text>'
    )


def arrow(places: list[tuple[float, float]]) -> str:
    """An SVG curve from the lower edge of a box, through the rows between, to the next box."""
    x, y = places[0]
    path, y = f"M{x:g} {y + HEIGHT:g}", y + HEIGHT
    for to_x, to_y in places[1:]:
        middle = (y + to_y) / 2
        path += f"C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
        if (to_x, to_y) != places[-1]:
            path += f"V{to_y + HEIGHT:g}"
        x, y = to_x, to_y + HEIGHT
    return f'<path class="arrow" marker-end="url(#head)" d="{path}"/>'
