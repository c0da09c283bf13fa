"""Memory of a training step against the batch size: a line through measured steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lunet.errors import DataError


@dataclass(frozen=True)
class Line:
    """Memory of a training step against the batch size.

    Attributes
    ----------
    by
        ``measured`` or ``counted``.
    fixed, per_sample
        Bytes of a step without samples, and of each sample.
    error
        Largest relative deviation at the batch sizes that the line was not drawn through; NaN
        if there are none.
    """

    by: str
    fixed: float
    per_sample: float
    error: float

    def largest_batch(self, budget: float) -> int:
        """Samples that fit ``budget`` bytes, 0 if not even one does."""
        return max(0, math.floor((budget - self.fixed) / self.per_sample))


def memory_line(points: Sequence[Mapping[str, Any]]) -> Line:
    """The line through the first two points of an ``efficiency.json``'s ``training_memory``.

    Measured bytes are used if each point has them and they rise with the batch, otherwise counted
    bytes.

    Raises
    ------
    DataError
        If there are fewer than two points.
    """
    if len(points) < 2:
        raise DataError(
            where="training_memory", found=f"{len(points)} point(s)", expected="a line needs two"
        )
    sizes = [int(point["batch"]) for point in points]
    measured = [point.get("measured_bytes") for point in points]
    values = [float(value) for value in measured if value is not None]
    if len(values) == len(points) and values[1] > values[0]:
        return _line("measured", sizes, values)
    return _line("counted", sizes, [float(point["counted_bytes"]) for point in points])


def _line(by: str, sizes: Sequence[int], values: Sequence[float]) -> Line:
    slope = (values[1] - values[0]) / (sizes[1] - sizes[0])
    fixed = values[0] - slope * sizes[0]
    others = zip(sizes[2:], values[2:], strict=True)
    deviations = [abs((fixed + slope * size) / value - 1) for size, value in others]
    return Line(by, fixed, slope, max(deviations, default=math.nan))
