"""Areas of the sub-voxel surface: one number per 2 x 2 (x 2) pattern of inside and outside.

The surface of a mask runs between voxel centres: each cell whose corners are 4 pixel (8 voxel)
centres holds a piece of it, found by marching squares (cubes) at the half level. The piece, a
"surfel", depends only on the cell's corner code, so a table of 16 (256) lengths (areas) for a given
spacing turns a volume of codes into a surface measure (Nikolov et al., arXiv:1809.04430).

The table is built here from two rules, and a test compares it with the table of the
``surface-distance`` package for every code:

* on a cell face with two diagonal inside corners, the kind of corner (inside or outside) that is
  rarer in the cell is treated as disconnected;
* a polygon that is not flat is cut into the triangles of largest total area at unit spacing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, ...]
Triangle = tuple[int, int, int]
Floats = NDArray[np.float64]


def corner_bits(ndim: int) -> tuple[Point, ...]:
    """Corners of a cell in the order of the code's bits: the last axis changes fastest.

    Bit 0 is the corner with the largest index on every axis, because a code at position ``p``
    combines the voxels ``p`` and ``p - 1`` of each axis.
    """
    return tuple(itertools.product((1.0, 0.0), repeat=ndim))


@lru_cache(maxsize=64)
def surfel_measures(spacing: tuple[float, ...]) -> Floats:
    """Surfel measure of every corner code.

    Parameters
    ----------
    spacing
        Voxel size in mm, two or three numbers in the order of the array axes.

    Returns
    -------
    float64 array of 16 contour lengths in mm (2D) or 256 areas in mm^2 (3D), read-only, indexed
    by the code of :func:`lunet.metrics.surface.corner_codes`.
    """
    table = _lengths(spacing) if len(spacing) == 2 else _areas(spacing)
    table.setflags(write=False)
    return table


def _lengths(spacing: Sequence[float]) -> Floats:
    table = np.zeros(16)
    corners = corner_bits(2)
    for code in range(16):
        inside = frozenset(corner for bit, corner in enumerate(corners) if code >> bit & 1)
        segments = _face_segments(_cycle(corners), inside, minority=True)
        ends = np.array(segments).reshape(-1, 2, 2)
        table[code] = np.linalg.norm((ends[:, 0] - ends[:, 1]) * spacing, axis=1).sum()
    return table


def _areas(spacing: Sequence[float]) -> Floats:
    x, y, z = spacing
    codes, normals = _normals()
    areas = np.linalg.norm(normals * (y * z, x * z, x * y), axis=1)
    table: Floats = np.bincount(codes, weights=areas, minlength=256).astype(np.float64)
    return table


@lru_cache(maxsize=1)
def _normals() -> tuple[NDArray[np.intp], Floats]:
    """Code and normal (length = area at unit spacing) of every triangle of the 256 cells."""
    codes: list[int] = []
    normals: list[Floats] = []
    for code in range(1, 255):
        for polygon in _polygons(code):
            triangles = _largest_triangulation(np.array(polygon))
            codes += [code] * len(triangles)
            normals.append(triangles)
    return np.array(codes, dtype=np.intp), np.concatenate(normals)


def _polygons(code: int) -> list[list[Point]]:
    """Closed polygons that separate inside from outside corners in one 2 x 2 x 2 cell."""
    corners = corner_bits(3)
    inside = frozenset(corner for bit, corner in enumerate(corners) if code >> bit & 1)
    links: dict[Point, list[Point]] = {}
    for axis, side in itertools.product(range(3), (0.0, 1.0)):
        face = _cycle([corner for corner in corners if corner[axis] == side], axis)
        for one, other in _face_segments(face, inside, minority=len(inside) <= 4):
            links.setdefault(one, []).append(other)
            links.setdefault(other, []).append(one)
    return _walk(links)


def _cycle(corners: Sequence[Point], axis: int | None = None) -> list[Point]:
    """The four corners of a face in the order around it."""
    free = [a for a in range(len(corners[0])) if a != axis]
    order = ((0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0))
    by_place = {tuple(corner[a] for a in free): corner for corner in corners}
    return [by_place[place] for place in order]


def _face_segments(
    face: Sequence[Point], inside: frozenset[Point], *, minority: bool
) -> list[tuple[Point, Point]]:
    """Lines that separate inside from outside on one face, between midpoints of its edges.

    If two diagonal corners are inside, the lines cut off the kind of corner that is rarer in the
    cell: the inside corners if ``minority``, else the outside corners.
    """
    midpoint = [
        tuple((a + b) / 2 for a, b in zip(face[k], face[(k + 1) % 4], strict=True))
        for k in range(4)
    ]
    crossed = [k for k in range(4) if (face[k] in inside) != (face[(k + 1) % 4] in inside)]
    if len(crossed) < 4:
        return [(midpoint[crossed[0]], midpoint[crossed[1]])] if crossed else []
    first = 0 if (face[0] in inside) == minority else 1
    return [
        (midpoint[first - 1], midpoint[first]),
        (midpoint[first + 1], midpoint[(first + 2) % 4]),
    ]


def _walk(links: dict[Point, list[Point]]) -> list[list[Point]]:
    """Follow the segments of all faces into closed polygons."""
    polygons = []
    left = set(links)
    while left:
        polygon = [min(left)]
        left.discard(polygon[0])
        while following := [point for point in links[polygon[-1]] if point in left]:
            polygon.append(following[0])
            left.discard(following[0])
        polygons.append(polygon)
    return polygons


def _largest_triangulation(polygon: Floats) -> Floats:
    """Normals of the triangles that cover the polygon with the largest total area."""
    best, best_area = np.zeros((0, 3)), -1.0
    for triangles in _triangulations(0, len(polygon) - 1):
        a, b, c = (polygon[list(corner)] for corner in zip(*triangles, strict=True))
        normals = np.cross(b - a, c - a) / 2
        area = float(np.linalg.norm(normals, axis=1).sum())
        if area > best_area + 1e-9:
            best, best_area = normals, area
    return best


@lru_cache(maxsize=64)
def _triangulations(first: int, last: int) -> tuple[tuple[Triangle, ...], ...]:
    """All ways to cut the polygon of the points ``first..last`` into triangles."""
    if last - first < 2:
        return ((),)
    return tuple(
        (*before, *after, (first, tip, last))
        for tip in range(first + 1, last)
        for before in _triangulations(first, tip)
        for after in _triangulations(tip, last)
    )
