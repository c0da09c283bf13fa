"""Blends overlapping tiles with Gaussian weights; memory is bounded by one row of tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lunet.training.compute.device import send

Floats = NDArray[np.float32]


def tile_starts(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the tiles that cover an axis, evenly spread.

    Parameters
    ----------
    size, patch
        Voxels of the axis and of a tile; a tile longer than the axis is shortened to it.
    overlap
        Smallest share of a tile that its neighbour also covers, 0 to 0.9.
    """
    room = size - patch
    if room <= 0:
        return [0]
    step = max(1, int(patch * (1 - overlap)))
    count = -(-room // step) + 1
    return [round(i * room / (count - 1)) for i in range(count)]


def gaussian(length: int) -> Floats:
    """Weights of a tile along one axis: a Gaussian (sigma an eighth of the tile), peak 1.

    The weight never falls below 0.01, so that the corner of a volume, which only one tile covers,
    is still well conditioned.
    """
    distance = np.arange(length) - (length - 1) / 2
    weights = np.exp(-0.5 * (distance / max(length / 8, 1e-6)) ** 2)
    return np.maximum(weights, 0.01).astype(np.float32)


def blend(
    function: Callable[[Tensor], Tensor],
    image: NDArray[np.floating],
    out: NDArray[np.floating],
    *,
    patch: Sequence[int],
    overlap: float,
    device: torch.device | str = "cpu",
    most_bytes: float = math.inf,
) -> None:
    """Run ``function`` tile by tile and write the weighted mean into ``out``.

    The weights are separable and the tiles form a Cartesian grid, so the sum of all weights at a
    voxel is the product of one sum per axis, and no second volume is needed.

    Parameters
    ----------
    function
        Maps a tile (C, \\*tile) on ``device`` to its probabilities (K, \\*tile), float32.
    image
        (C, \\*spatial), any array that can be sliced, such as a memory map.
    out
        (K, \\*spatial); filled slab by slab along the first spatial axis, so it may be a memory
        map. Besides it only K x patch[0] planes and a tile are in memory.
    patch, overlap
        Tile in voxels per axis, and the share by which tiles overlap.
    device
        Where tiles are computed and blended, so that only finished slabs are copied to the host.
    most_bytes
        Largest size of these planes on the device; larger ones are blended in the host's memory.
    """
    sizes = image.shape[1:]
    tile = [min(p, n) for p, n in zip(patch, sizes, strict=True)]
    starts = [tile_starts(n, p, overlap) for n, p in zip(sizes, tile, strict=True)]
    norms = [_norm(n, p, s) for n, p, s in zip(sizes, tile, starts, strict=True)]
    device, planes = torch.device(device), (out.shape[0], tile[0], *sizes[1:])
    home = device if 4 * math.prod(planes) <= most_bytes else torch.device("cpu")
    weight = send(torch.from_numpy(_outer([gaussian(p) for p in tile])), home)
    buffer = torch.zeros(planes, device=home)
    weighted = torch.empty(len(out), *tile, device=home)
    at_once = len(out) if home.type == "cpu" else 1  # channels, of which other devices make copies
    # each start with the first plane that later tiles still change
    for first, following in zip(starts[0], [*starts[0][1:], sizes[0]], strict=True):
        for rest in product(*starts[1:]):
            window = tuple(slice(s, s + p) for s, p in zip(rest, tile[1:], strict=True))
            cut = np.require(image[:, first : first + tile[0], *window], np.float32, ["C", "W"])
            found = function(send(torch.from_numpy(cut), device))
            # ``buffer[...] +=`` would copy the sums onto themselves as well
            buffer[:, :, *window].add_(torch.mul(found.to(home), weight, out=weighted))
        done = following - first
        norm = send(torch.from_numpy(_outer([norms[0][first:following], *norms[1:]])), home)
        for k in range(0, len(out), at_once):
            sums = buffer[k : k + at_once]
            out[k : k + at_once, first:following] = sums[:, :done].div_(norm).cpu().numpy()
            for plane in range(done, tile[0], done):  # not onto planes still to be read
                kept = sums[:, plane : plane + done]
                sums[:, plane - done : plane - done + kept.shape[1]] = kept
            sums[:, tile[0] - done :] = 0


def _norm(size: int, patch: int, starts: Sequence[int]) -> Floats:
    total = np.zeros(size, np.float32)
    for start in starts:
        total[start : start + patch] += gaussian(patch)
    return total


def _outer(axes: Sequence[Floats]) -> Floats:
    result = axes[0]
    for axis in axes[1:]:
        result = result[..., None] * axis
    return result
