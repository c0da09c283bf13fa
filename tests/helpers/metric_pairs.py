"""Pairs of small masks for the tests of the surface metrics."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SPACINGS = (1.0, 0.5, 0.3, 0.7421875, 1.7, 3.0, 5.0)
KINDS = ("ball", "shell", "spur", "voxel", "slab at the border", "noise", "full")


@dataclass(frozen=True)
class Pair:
    """Two masks of one shape, neither of them empty, and their voxel size in mm."""

    reference: Mask
    prediction: Mask
    spacing: tuple[float, ...]


@st.composite
def pairs(draw: st.DrawFn, dimensions: tuple[int, ...] = (2, 3)) -> Pair:
    """Two shapes of random kinds in one small array of random anisotropy."""
    ndim = draw(st.sampled_from(dimensions))
    sides = st.integers(3, 14 if ndim == 3 else 24)
    shape = tuple(draw(st.tuples(*[sides] * ndim)))
    spacing = tuple(draw(st.tuples(*[st.sampled_from(SPACINGS)] * ndim)))
    seeds = st.integers(0, 2**32 - 1)
    masks = [
        shape_of(draw(st.sampled_from(KINDS)), shape, np.random.default_rng(draw(seeds)))
        for _ in range(2)
    ]
    if draw(st.booleans()):
        masks[1] = edited(masks[0], np.random.default_rng(draw(seeds)))
    return Pair(masks[0], masks[1], spacing)


def edited(mask: Mask, rng: np.random.Generator) -> Mask:
    """The same mask, moved a little and with a few voxels changed, as a prediction would be."""
    moved = np.roll(mask, rng.integers(-1, 2, mask.ndim), axis=range(mask.ndim))
    changed = moved ^ (rng.random(mask.shape) < rng.choice([0.0, 0.01, 0.1]))
    return changed if changed.any() else mask


def shape_of(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Mask:
    """A mask of a kind; at least one voxel is set."""
    centre = np.array([rng.integers(n) for n in shape])
    steps = np.stack(np.indices(shape), axis=-1) - centre
    radius = np.linalg.norm(steps, axis=-1)
    size = rng.uniform(0.5, max(shape) / 2)
    mask = radius <= size
    if kind == "shell":
        mask &= radius >= size - 1.5
    elif kind == "spur":
        mask |= (np.delete(steps, rng.integers(len(shape)), axis=-1) == 0).all(axis=-1)
    elif kind == "voxel":
        mask = radius == 0
    elif kind == "slab at the border":
        mask = np.indices(shape)[rng.integers(len(shape))] <= rng.integers(2)
    elif kind == "noise":
        mask = rng.random(shape) < rng.uniform(0.05, 0.95)
    elif kind == "full":
        mask = np.ones(shape, dtype=bool)
    mask[tuple(centre)] = True
    return mask


def border_points(mask: Mask, spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Border voxels in mm by the definition, voxel by voxel."""
    padded = np.pad(mask, 1)
    found = []
    for voxel in np.argwhere(mask):
        around = itertools.product(range(mask.ndim), (-1, 1))
        steps = [np.eye(mask.ndim, dtype=int)[axis] * side for axis, side in around]
        if not all(padded[tuple(voxel + 1 + step)] for step in steps):
            found.append(voxel * np.array(spacing))
    return np.array(found)
