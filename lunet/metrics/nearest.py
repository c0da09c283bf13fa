"""Exact nearest distances between two sets of grid points, fast where the sets are close.

Two segmentations of one structure mostly agree: for nearly all points of one surface, the nearest
point of the other is a few voxels away. So the neighbours of all points are tested first, in the
order of their distance with one vectorised look-up per neighbour. For the points without a target
among them, a distance transform is used where the grid is small, and else a KD-tree. All ways give
the same number: the length of integer steps times the spacing, summed over the axes in order, as
SciPy's Euclidean distance transform rounds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lunet.metrics.overlap import Mask

Floats = NDArray[np.float64]
Flat = NDArray[np.intp]

_REACH = 6
"""Neighbours are at most this many voxels away on each axis."""
_MOST = 130
"""Most neighbours that are tried (there are 122 within 3 voxels)."""
_CALL, _LOOK, _BUILD, _QUERY = 4e-6, 4e-9, 2e-7, 1e-6
"""Rough seconds of a look-up call, of a look-up, and of a KD-tree per point and per query. Their
order of magnitude is enough: they decide only which method is used, never the value."""
_SMALL = 10_000_000
"""Most additions of a distance transform. It takes up to 6 ms then, a KD-tree two thirds of that,
but the import of SciPy's takes 250 ms, most of the evaluation of a few small images."""


@dataclass(frozen=True)
class Neighbours:
    """Steps to the neighbours of a grid point, nearest first, complete up to the last distance."""

    steps: NDArray[np.intp]
    distances: Floats


@lru_cache(maxsize=64)
def neighbours(spacing: tuple[float, ...]) -> Neighbours:
    """Nearest neighbours (without the point itself) of a grid of this spacing in mm."""
    axis = np.arange(-_REACH, _REACH + 1)
    steps = np.stack(np.meshgrid(*[axis] * len(spacing), indexing="ij"), -1)
    steps = steps.reshape(-1, len(spacing))
    distances = step_lengths(steps, spacing)
    order = np.argsort(distances, kind="stable")[1:]
    complete = np.searchsorted(distances[order], (_REACH + 1) * min(spacing), side="left")
    order = order[: min(int(complete), _MOST)]
    return Neighbours(steps[order], distances[order])


def step_lengths(steps: NDArray[np.intp], spacing: tuple[float, ...]) -> Floats:
    """Length in mm of integer steps ``(n, ndim)``."""
    squares = np.square(steps * np.asarray(spacing))
    total = squares[:, 0]
    for axis in range(1, len(spacing)):
        total = total + squares[:, axis]
    return np.asarray(np.sqrt(total))


@dataclass(frozen=True)
class Grid:
    """A padded array as one flat row, in which a step to any neighbour is one number to add.

    Each axis is padded only at its end: a step over the start of a row lands in the padding of the
    previous row, and a negative index in the padding at the very end.
    """

    shape: tuple[int, ...]
    inner: tuple[int, ...]
    spacing: tuple[float, ...]

    @classmethod
    def around(cls, shape: tuple[int, ...], near: Neighbours, spacing: tuple[float, ...]) -> Grid:
        """Grid for arrays of ``shape``, with room for the corner points and all neighbours."""
        reach = np.abs(near.steps).max(axis=0)
        padded = tuple(int(n + r + 1) for n, r in zip(shape, reach, strict=True))
        return cls(padded, shape, spacing)

    @property
    def strides(self) -> tuple[int, ...]:
        """Flat distance of one step along each axis."""
        sizes = np.cumprod((1, *self.shape[:0:-1]))[::-1]
        return tuple(int(size) for size in sizes)

    def pad(self, mask: Mask) -> Mask:
        """Flat padded copy of a mask of the inner shape."""
        padded = np.zeros(self.shape, dtype=np.bool_)
        padded[tuple(slice(n) for n in self.inner)] = mask
        return padded.reshape(-1)

    def places(self, points: Flat) -> NDArray[np.intp]:
        """Voxel indices ``(n, ndim)`` of flat points."""
        return np.stack(np.unravel_index(points, self.shape), axis=-1)


def directed_distances(
    grid: Grid, points: Flat, target: Mask, targets: Flat, near: Neighbours, *, limit: float
) -> Floats:
    """Distance in mm of each point to the nearest target.

    Parameters
    ----------
    grid
        The padded grid of all points.
    points
        Flat indices of the points.
    target, targets
        The other set twice: as a flat boolean array and as its flat indices, not empty.
    near
        Neighbours of the grid's spacing.
    limit
        Distances above this many mm may be returned as infinity.
    """
    distances = np.where(target[points], 0.0, np.inf)
    left = np.flatnonzero(distances)
    shifts = near.steps @ np.array(grid.strides)
    within = int(np.searchsorted(near.distances, limit, side="right"))
    for place, (shift, length) in enumerate(zip(shifts, near.distances, strict=True)):
        if not left.size or length > limit:
            return distances
        if _tree_pays(left.size, targets.size, within - place):
            break
        found = target[points[left] + shift]
        distances[left[found]] = length
        left = left[~found]
    additions = target.size * sum(grid.shape[:-1]) + left.size * grid.shape[-1]
    if left.size and additions <= _SMALL:
        distances[left] = _transformed_distances(grid, points[left], target)
    elif left.size:
        distances[left] = _tree_distances(grid, points[left], targets, limit)
    return distances


def _tree_pays(points: int, targets: int, waiting: int) -> bool:
    """Whether a KD-tree for the remaining points is cheaper than the remaining look-ups."""
    look_ups = waiting * (_CALL + points * _LOOK)
    return look_ups > targets * _BUILD + points * _QUERY


def _transformed_distances(grid: Grid, points: Flat, target: Mask) -> Floats:
    """Distances by a transform of the whole grid, along one axis after the other.

    The last axis needs only the lines of the points. Rounding is monotonic, so that the least of
    the sums is the least length.
    """
    squares = np.where(target.reshape(grid.shape), 0.0, np.inf)
    for axis, step in enumerate(grid.spacing[:-1]):
        lines = np.ascontiguousarray(np.moveaxis(squares, axis, 0))
        nearest = lines.copy()
        for apart in range(1, len(lines)):
            square = np.square(apart * step)
            np.minimum(nearest[apart:], lines[:-apart] + square, out=nearest[apart:])
            np.minimum(nearest[:-apart], lines[apart:] + square, out=nearest[:-apart])
        squares = np.moveaxis(nearest, 0, axis)
    *firsts, last = np.unravel_index(points, grid.shape)
    steps = last[:, None] - np.arange(grid.shape[-1])
    lengths = squares[tuple(firsts)] + np.square(steps * grid.spacing[-1])
    return np.asarray(np.sqrt(lengths.min(axis=1)))


def _tree_distances(grid: Grid, points: Flat, targets: Flat, limit: float) -> Floats:
    from scipy.spatial import cKDTree  # see _SMALL

    places, others = grid.places(points), grid.places(targets)
    tree = cKDTree(others * np.asarray(grid.spacing), balanced_tree=False, compact_nodes=False)
    bound = limit * (1 + 1e-9)
    lengths, index = tree.query(places * np.asarray(grid.spacing), distance_upper_bound=bound)
    hit = np.isfinite(lengths)
    lengths[hit] = step_lengths(places[hit] - others[index[hit]], grid.spacing)
    return np.asarray(lengths)
