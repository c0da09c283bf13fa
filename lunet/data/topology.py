"""Plans a network's topology from spacing and patch: which axes are halved at which level.

The rules are those of nnU-Net (Isensee et al., Nature Methods 18, 203 (2021), and its version 2),
written from their description.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LEAST = 4  # fewest voxels of an axis that is halved
_LEAST_ALONE = 6  # fewest voxels of an axis that is halved alone
_TOO_COARSE = 2.0  # spacing, relative to the finest axis, from which an axis is not halved


@dataclass(frozen=True)
class Topology:
    """Strides and kernels of each level, per axis, full resolution first.

    The stride of a level is how much each axis is shortened on the way to it.
    """

    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def multiple(self) -> tuple[int, ...]:
        """Sizes of images are multiples of this, per axis."""
        return tuple(math.prod(steps) for steps in zip(*self.strides, strict=True))


def plan_topology(spacing: Sequence[float], size: Sequence[int]) -> Topology:
    """The topology for patches of ``size`` voxels of ``spacing`` mm, per axis.

    From level to level each axis is halved whose voxels are less than twice as large as those of
    the finest axis that can still be halved, as long as 4 voxels (or 6, if it is the only axis)
    remain. Kernels are 1 along an axis until its voxels are less than twice as large as the finest,
    then 3; the deepest level has kernels of 3.
    """
    millimetres, voxels = list(spacing), list(size)
    axes = range(len(voxels))
    strides, kernels = [(1,) * len(voxels)], []
    kernel = [1] * len(voxels)
    while halved := _halved(millimetres, voxels):
        finest = min(millimetres)
        kernel = [
            3 if mm / finest < _TOO_COARSE else k for mm, k in zip(millimetres, kernel, strict=True)
        ]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            millimetres[axis] *= 2
            voxels[axis] = math.ceil(voxels[axis] / 2)
    kernels.append((3,) * len(voxels))
    return Topology(tuple(strides), tuple(kernels))


def _halved(millimetres: Sequence[float], voxels: Sequence[int]) -> tuple[int, ...]:
    """The axes that are halved next."""
    long = [axis for axis, n in enumerate(voxels) if n >= 2 * _LEAST]
    finest = min((millimetres[axis] for axis in long), default=0.0)
    found = tuple(axis for axis in long if millimetres[axis] / finest < _TOO_COARSE)
    if len(found) == 1 and voxels[found[0]] < 2 * _LEAST_ALONE:
        return ()
    return found


def explain(topology: Topology, spacing: Sequence[float], size: Sequence[int]) -> str:
    """The reasons for a planned topology in words."""
    finest = min(spacing)
    counts = [sum(step > 1 for step in steps) for steps in zip(*topology.strides, strict=True)]
    deepest = " x ".join(
        f"{math.ceil(n / m)}" for n, m in zip(size, topology.multiple, strict=True)
    )
    words = [
        f"as nnU-Net does: an axis is halved as long as {_LEAST} voxels remain, which gives "
        f"{len(topology.strides)} levels and {deepest} voxels at the deepest"
    ]
    for axis, (mm, count) in enumerate(zip(spacing, counts, strict=True)):
        if mm / finest >= _TOO_COARSE:
            first = next((i for i, step in enumerate(topology.strides) if step[axis] > 1), None)
            until = f"before level {first}" if first else "at any level"
            words.append(
                f"axis {axis} is {mm / finest:.3g} times coarser than the finest, so it is not "
                f"halved {until} ({count} halvings), and its kernel is 1 until the others are as "
                "coarse"
            )
    return "; ".join(words)
