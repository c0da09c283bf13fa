"""Volumes in slabs of a few planes, so that no second copy of a large one is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PLANES = 16  # float32: a cache line along the last axis


def slabs(length: int) -> Iterator[slice]:
    """Slices of up to 16 planes that cover an axis of ``length`` voxels."""
    for first in range(0, length, _PLANES):
        yield slice(first, min(first + _PLANES, length))


def count_broken(array: NDArray[Any]) -> int:
    """Voxels that are NaN or infinite."""
    parts = (array[part] for part in slabs(len(array)))
    return sum(part.size - int(np.isfinite(part).sum()) for part in parts)
