"""The smallest p-value that a number of subjects can give; standard library only."""

from __future__ import annotations


def smallest_p(subjects: int) -> float:
    """Two-sided p-value of sign flips where all subjects differ in the same direction.

    Of the ``2**subjects`` patterns of signs the observed one and its mirror image are as extreme.
    The one-sided test of non-inferiority has half of it, and half of the level.
    """
    return min(1.0, 2.0 ** (1 - subjects))
