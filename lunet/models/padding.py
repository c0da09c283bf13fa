"""Pads an image to a size that a network accepts, and crops the logits back; used by all models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lunet.errors import DataError


def legal_sizes(
    sizes: Sequence[int], *, multiple: Sequence[int], minimum: int = 1, long_side: int = 1
) -> tuple[int, ...]:
    """Smallest legal spatial size (voxels per axis) that contains ``sizes``.

    The arithmetic has no branch, so that exported and compiled networks keep free sizes.

    Parameters
    ----------
    sizes
        Voxels per axis of the image.
    multiple
        The size of each axis is rounded up to a multiple of this, one value per axis.
    minimum
        Each axis has at least this many voxels (before rounding up to the multiple).
    long_side
        At least one axis has this many multiples; if none has, the first one is extended.
        Normalisations need two at the deepest level: a single voxel has no variance.
    """
    if torch.jit.is_tracing():  # sizes are tensors there, and a trace is valid for one size
        sizes = [int(n) for n in sizes]
    # no negative dividend: ONNX rounds quotients towards zero
    units = [(torch.sym_max(n, minimum) + m - 1) // m for n, m in zip(sizes, multiple, strict=True)]
    longest = reduce(torch.sym_max, units)
    is_short = torch.sym_min(1, torch.sym_max(0, long_side - longest))
    units[0] = units[0] + is_short * (long_side - units[0])
    return tuple(n * m for n, m in zip(units, multiple, strict=True))


def batch_norm_side(x: Tensor, *, training: bool) -> int:
    """Voxels that batch norm needs along one axis of the deepest level.

    Batch statistics need two values per channel: in training, a single image must have two voxels.
    """
    return 2 if training and x.shape[0] == 1 else 1


def run_padded(
    network: Callable[[Tensor], Tensor | list[Tensor]], x: Tensor, sizes: Sequence[int]
) -> Tensor | list[Tensor]:
    """Run ``network`` on ``x`` padded with zeros to ``sizes``; crop the logits to ``x``'s size.

    ``x`` is (batch, channel, \\*spatial). Padding is at the high-index side of each axis, so that
    voxel 0 stays where it is; a legal size is not padded. The items of a list (deep supervision)
    are each cropped.
    """
    given = x.shape[2:]
    amounts = [n for have, want in zip(given, sizes, strict=True) for n in (want - have, 0)]
    logits = network(functional.pad(x, amounts[::-1]))
    window: tuple[Any, ...] = (..., *(slice(n) for n in given))
    return [y[window] for y in logits] if isinstance(logits, list) else logits[window]


def check_image(x: Tensor, *, channels: int, ndim: int) -> None:
    """Refuse an input that is not (batch, ``channels``, ``ndim`` spatial axes).

    Raises
    ------
    DataError
        If the number of axes or of channels differs.
    """
    if x.ndim != ndim + 2 or x.shape[1] != channels:
        axes = ", ".join("XYZ"[:ndim])
        raise DataError(
            where="input of the network",
            found=f"shape {tuple(x.shape)}",
            expected=f"this network was built for (batch, {channels}, {axes})",
            action="Add the missing axes or build the network with other in_channels or ndim",
        )
