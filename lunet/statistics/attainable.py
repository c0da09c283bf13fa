"""The smallest p-value that is possible with a number of subjects; standard library only."""

from __future__ import annotations


def smallest_p(subjects: int) -> float:
    """Two-sided p-value of the sign-flip test if all subjects differ in the same direction.

    Of the ``2**subjects`` patterns of signs only the observed one and its mirror image are as
    extreme. The one-sided test of non-inferiority has half this p-value, but also half the level.
    """
    return min(1.0, 2.0 ** (1 - subjects))
