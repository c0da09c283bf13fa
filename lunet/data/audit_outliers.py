"""What counts as an exception among the cases of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A share of cases that is small enough to call them exceptions.
RARE = 0.1
# Robust deviations (in units of 1.4826 x median absolute deviation) that make an outlier.
FAR = 6.0
# Cases below which nothing can be said about outliers.
FEW = 5


def is_rare(count: int, total: int) -> bool:
    """Whether so few cases are exceptions among so many."""
    return 2 * count < total and count <= max(1, RARE * total)


def outliers(values: Sequence[float] | NDArray[Any], floor: float) -> NDArray[np.bool_]:
    """Which values are far from the median: FAR robust deviations, each at least ``floor``."""
    array = np.asarray(values, dtype=float)
    distance = np.abs(array - np.median(array))
    deviation = max(1.4826 * float(np.median(distance)), floor)
    return np.asarray(distance > FAR * deviation)
