"""Resampling of volumes on a CPU, several times as fast as ``torch.nn.functional.grid_sample``.

Each sample is copied into a volume with a border. All eight neighbours of a position are then in
memory at its index plus a constant, and no position needs a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import torch
from torch import Tensor

_AT_ONCE = 2**17  # positions; all that is computed from them should fit into the processor's cache


def look_up(images: Tensor, labels: Tensor, table: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sample images (linear) and labels (nearest) at the voxels ``table @ rows``.

    Parameters
    ----------
    images, labels
        (N, C, X, Y, Z) float32 and (N, X, Y, Z). Outside, they are the channel's minimum and 0.
    table, rows
        (N, 3, X * Y, terms) and (N, terms, Z) float32. Position 1 is the first voxel's centre,
        and 0 that of the border before it.
    """
    moved, mapped = images.new_empty(images.shape), labels.new_empty(labels.shape)
    every = list(zip(images, labels, table, rows, moved, mapped, strict=True))
    _on_all_threads(lambda i: _fill(*every[i]), len(every))
    return moved, mapped


def _on_all_threads(call: Callable[[int], None], count: int) -> None:
    """Make ``count`` calls, each of which computes on a single thread.

    The operations of a call are too short to be shared: threads would mostly wait for each other.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for i in range(count):
            call(i)
        return
    workers = min(threads, count)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(call, range(count)))
    finally:
        torch.set_num_threads(threads)  # threads to come would otherwise compute alone as well


def _fill(
    image: Tensor, label: Tensor, table: Tensor, rows: Tensor, moved: Tensor, mapped: Tensor
) -> None:
    """Write one resampled sample into ``moved`` and ``mapped``."""
    size = image.shape[1:]
    # one voxel below, two above: all neighbours of positions up to s + 1 are in the volume
    low = image.amin(dim=(1, 2, 3), keepdim=True)
    padded = low.repeat(1, *[s + 3 for s in size])
    classes = label.new_zeros(padded.shape[1:])
    x, y, z = (slice(1, s + 1) for s in size)
    padded[:, x, y, z], classes[x, y, z] = image, label
    step = max(1, _AT_ONCE // size[2])
    for first in range(0, table.shape[1], step):
        part = slice(first, first + step)
        places = (table[:, part] @ rows).flatten(1)
        for place, s in zip(places, size, strict=True):
            place.clamp_(0, s + 1)
        found = classes.flatten().index_select(0, _index(places.round(), classes.shape))
        mapped.flatten(0, 1)[part] = found.view(-1, size[2])
        index = _index(places, classes.shape)
        shares = places.frac_().unbind()
        for values, out in zip(padded.flatten(1), moved.flatten(1, 2), strict=True):
            out[part] = _linear(values, index, shares, classes.shape).view(-1, size[2])


def _index(places: Tensor, size: Sequence[int]) -> Tensor:
    """Indices (n,) int32 of voxels in a flat volume; ``places`` (3, n) are cut to whole numbers."""
    x, y, z = places.int()
    return x.mul_(size[1] * size[2]).add_(y, alpha=size[2]).add_(z)


def _linear(values: Tensor, index: Tensor, shares: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Trilinear interpolation in a flat volume, between the voxels ``index`` and their neighbours.

    ``shares`` (n,) are the weights of the upper neighbours along each axis.
    """
    strides = (size[1] * size[2], size[2], 1)
    corners = [
        values[sum(step for step, up in zip(strides, corner, strict=True) if up) :]
        for corner in product((False, True), repeat=3)
    ]
    found = [corner.index_select(0, index) for corner in corners]
    for share in reversed(shares):
        found = [a.lerp_(b, share) for a, b in zip(found[::2], found[1::2], strict=True)]
    return found[0]
