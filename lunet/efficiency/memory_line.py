"""Memory of a training step as a linear function of the batch size, fitted to measured steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

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
    """Least squares of relative deviations, so that small and large batches count equally."""
    heights = np.asarray(values, float)
    terms = np.stack([np.ones(len(sizes)), np.asarray(sizes, float)], axis=1)
    (fixed, per_sample), _ = nnls(terms / heights[:, None], np.ones(len(sizes)))
    deviations = np.abs(terms @ [fixed, per_sample] / heights - 1)
    error = float(deviations.max()) if len(sizes) > 2 else math.nan
    return Line(float(fixed), float(per_sample), error)
