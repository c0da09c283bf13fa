"""Memory of a training step as a linear function of the batch size, fitted to measured steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lunet.errors import DataError


@dataclass(frozen=True)
class Line:
    """Memory of a training step as a linear function of the batch size.

    Attributes
    ----------
    fixed, per_sample
        Bytes of a step without samples, and bytes per sample; neither is negative.
    error
        Largest relative deviation of a step from the line; NaN for two steps, since a line can
        always pass through both.
    """

    fixed: float
    per_sample: float
    error: float

    def largest_batch(self, budget: float) -> int:
        """The largest number of samples that fits into ``budget`` bytes; may be 0."""
        return max(0, math.floor((budget - self.fixed) / self.per_sample))


def counted_line(points: Sequence[Mapping[str, Any]]) -> Line:
    """The line fitted to the live tensors in ``training_memory`` of an ``efficiency.json``.

    Raises
    ------
    DataError
        If there are fewer than two points.
    """
    if len(points) < 2:
        raise DataError(
            where="training_memory", found=f"{len(points)} point(s)", expected="a line needs two"
        )
    return _line(_sizes(points), [float(point["counted_bytes"]) for point in points])


def measured_line(points: Sequence[Mapping[str, Any]]) -> Line | None:
    """The line fitted to the measured bytes; None if a point has none or they do not increase."""
    measured = [point.get("measured_bytes") for point in points]
    values = [float(value) for value in measured if value is not None]
    if len(values) != len(points) or len(values) < 2 or not values[-1] > values[0]:
        return None
    line = _line(_sizes(points), values)
    return line if line.per_sample > 0 else None


def _sizes(points: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(point["batch"]) for point in points]


def _line(sizes: Sequence[int], values: Sequence[float]) -> Line:
    """Least squares of relative deviations, so that small and large batches count equally.

    In plain Python, because every start of a workflow imports this module.
    """
    # minimise the sum of (a / v + b n / v - 1)^2 over a, b >= 0
    ones = [1 / value for value in values]
    slopes = [size / value for size, value in zip(sizes, values, strict=True)]
    aa, ab, bb = (_sumprod(ones, ones), _sumprod(ones, slopes), _sumprod(slopes, slopes))
    determinant = aa * bb - ab**2
    fixed = (sum(ones) * bb - sum(slopes) * ab) / determinant
    per_sample = (sum(slopes) * aa - sum(ones) * ab) / determinant
    if fixed < 0:
        fixed, per_sample = 0.0, sum(slopes) / bb
    elif per_sample < 0:
        fixed, per_sample = sum(ones) / aa, 0.0
    fitted = (fixed + per_sample * size for size in sizes)
    deviations = [abs(one / value - 1) for one, value in zip(fitted, values, strict=True)]
    return Line(fixed, per_sample, max(deviations) if len(sizes) > 2 else math.nan)


def _sumprod(one: Sequence[float], other: Sequence[float]) -> float:
    """Sum of products (``math.sumprod`` is of Python 3.12)."""
    return math.fsum(a * b for a, b in zip(one, other, strict=True))
