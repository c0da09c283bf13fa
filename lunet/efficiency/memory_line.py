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
    fixed, per_sample
        Bytes of a step without samples, and of each sample; neither is negative.
    error
        Largest relative deviation from the steps; NaN if there are only two, which every line
        through both fits.
    """

    fixed: float
    per_sample: float
    error: float

    def largest_batch(self, budget: float) -> int:
        """Samples that fit ``budget`` bytes, 0 if not even one does."""
        return max(0, math.floor((budget - self.fixed) / self.per_sample))


def counted_line(points: Sequence[Mapping[str, Any]]) -> Line:
    """The line through the live tensors of an ``efficiency.json``'s ``training_memory``.

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
    """The line through the measured bytes; None where a point lacks them or they do not rise."""
    measured = [point.get("measured_bytes") for point in points]
    values = [float(value) for value in measured if value is not None]
    if len(values) != len(points) or len(values) < 2 or not values[-1] > values[0]:
        return None
    line = _line(_sizes(points), values)
    return line if line.per_sample > 0 else None


def _sizes(points: Sequence[Mapping[str, Any]]) -> list[int]:
    return [int(point["batch"]) for point in points]


def _line(sizes: Sequence[int], values: Sequence[float]) -> Line:
    """Least squares of relative deviations: a small batch counts as much as a large one.

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
