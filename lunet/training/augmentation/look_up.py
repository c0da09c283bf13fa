"""Resampling of volumes on a CPU, several times as fast as ``torch.nn.functional.grid_sample``.

Each sample is copied into a volume with a border. All eight neighbours of a position are then in
memory at its index plus a constant, and no position needs a mask. Small samples are looked up
together, large ones in parts.
"""

from __future__ import annotations

import math
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
        (3, N, X * Y, terms) and (N, terms, Z) float32. Position 1 is the first voxel's centre,
        and 0 that of the border before it.
    """
    moved, mapped = images.new_empty(images.shape), labels.new_empty(labels.shape)
    count, threads = len(images), torch.get_num_threads()
    together = max(1, min(_AT_ONCE // labels[0].numel(), math.ceil(count / threads)))

    def fill(first: int) -> None:
        some = slice(first, first + together)
        _fill(images[some], labels[some], table[:, some], rows[some], moved[some], mapped[some])

    _on_all_threads(fill, range(0, count, together))
    return moved, mapped


def _on_all_threads(call: Callable[[int], None], values: Sequence[int]) -> None:
    """Call for each of the values; each call computes on a single thread.

    The operations of a call are too short to be shared: threads would mostly wait for each other.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for value in values:
            call(value)
        return
    workers = min(threads, len(values))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(call, values))
    finally:
        torch.set_num_threads(threads)  # threads to come would otherwise compute alone as well


def _fill(
    images: Tensor, labels: Tensor, table: Tensor, rows: Tensor, moved: Tensor, mapped: Tensor
) -> None:
    """Write some resampled samples into ``moved`` and ``mapped``."""
    count, size = len(images), images.shape[2:]
    # one voxel below, two above: all neighbours of positions up to s + 1 are in the volume
    low = images.amin(dim=(2, 3, 4), keepdim=True).transpose(0, 1)
    padded = low.repeat(1, 1, *[s + 3 for s in size])
    classes = labels.new_zeros(padded.shape[1:])
    x, y, z = (slice(1, s + 1) for s in size)
    padded[..., x, y, z], classes[..., x, y, z] = images.transpose(0, 1), labels
    parts = max(1, round(labels.numel() / _AT_ONCE))
    step = math.ceil(table.shape[2] / parts)
    for first in range(0, table.shape[2], step):
        part = slice(first, first + step)
        places = (table[:, :, part] @ rows).flatten(1)
        for place, s in zip(places, size, strict=True):
            place.clamp_(0, s + 1)
        found = classes.flatten().index_select(0, _index(places.round(), classes.shape))
        mapped.flatten(1, 2)[:, part] = found.view(count, -1, size[2])
        index = _index(places, classes.shape)
        shares = places.frac_().unbind()
        for channel, values in enumerate(padded.flatten(1)):
            found = _linear(values, index, shares, classes.shape)
            moved[:, channel].flatten(1, 2)[:, part] = found.view(count, -1, size[2])


def _index(places: Tensor, shape: Sequence[int]) -> Tensor:
    """Indices (n,) int32 of voxels in flat volumes of the given shape (count, X, Y, Z).

    ``places`` (3, n), cut to whole numbers, are voxels of the first volume, then of the second etc.
    """
    x, y, z = places.int()
    index = x.mul_(shape[2] * shape[3]).add_(y, alpha=shape[3]).add_(z)
    starts = torch.arange(shape[0], dtype=torch.int32) * math.prod(shape[1:])
    return index.view(shape[0], -1).add_(starts[:, None]).flatten()


def _linear(
    values: Tensor, index: Tensor, shares: Sequence[Tensor], shape: Sequence[int]
) -> Tensor:
    """Trilinear interpolation in flat volumes, between the voxels ``index`` and their neighbours.

    ``shares`` (n,) are the weights of the upper neighbours along each axis.
    """
    strides = (shape[2] * shape[3], shape[3], 1)
    corners = [
        values[sum(step for step, up in zip(strides, corner, strict=True) if up) :]
        for corner in product((False, True), repeat=3)
    ]
    found = [corner.index_select(0, index) for corner in corners]
    for share in reversed(shares):
        found = [a.lerp_(b, share) for a, b in zip(found[::2], found[1::2], strict=True)]
    return found[0]
