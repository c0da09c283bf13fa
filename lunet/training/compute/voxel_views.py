"""Views of channels-last tensors ``(N, C, *S)``: neighbouring voxels seen as channels of one.

None of these functions copies a channels-last tensor.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Most channels of a widened view; a layer with more than a quarter of it is wide enough.
_WIDTH = 256


def layout_of(x: Tensor) -> torch.memory_format:
    """The channels-last layout for a tensor with two or three spatial axes."""
    return torch.channels_last if x.ndim == 4 else torch.channels_last_3d


def laid_out(x: Tensor) -> Tensor:
    """The tensor channels-last; a copy if it is not."""
    return x.contiguous(memory_format=layout_of(x))


def is_channels_last(x: Tensor) -> bool:
    """Whether a tensor is channels-last and not also contiguous in the usual order."""
    if x.ndim not in (4, 5) or x.is_contiguous():
        return False
    return x.is_contiguous(memory_format=layout_of(x))


def voxels(x: Tensor) -> Tensor:
    """All voxels, ``(voxels, C)``."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def split_rows(x: Tensor, k: int) -> Tensor:
    """``(N, C, *S, W)`` as ``(N, k C, *S, W / k)``."""
    rows = x.movedim(1, -1)
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] // k, -1).movedim(-1, 1)


def joined_rows(x: Tensor, k: int) -> Tensor:
    """``(N, k C, *S, W / k)`` as ``(N, C, *S, W)``."""
    rows = x.movedim(1, -1)
    return rows.reshape(*rows.shape[:-2], rows.shape[-2] * k, -1).movedim(-1, 1)


def repeats(x: Tensor) -> int:
    """Number of voxels in a row that :func:`widened` may join; 1 if layout or size prevents it."""
    if not is_channels_last(x) or not 0 < x.shape[1] <= _WIDTH // 4:
        return 1
    count, k = x[0, 0].numel(), 1
    while count % (2 * k) == 0 and 2 * k * x.shape[1] <= _WIDTH:
        k *= 2
    return k


def widened(x: Tensor, k: int) -> Tensor:
    """``(N, C, *S)`` as ``(N, k C, voxels / k, 1)``."""
    flat = x.movedim(1, -1).reshape(len(x), -1, 1, x.shape[1] * k)
    return flat.permute(0, 3, 1, 2)


def narrowed(wide: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`widened`, to the shape of ``like``."""
    flat = wide.permute(0, 2, 3, 1).reshape(len(like), *like.shape[2:], like.shape[1])
    return flat.movedim(-1, 1)
