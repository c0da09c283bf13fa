"""Group-sequential tests of non-inferiority: looks after each fold at an error that was fixed.

The critical values are those of :mod:`lunet.statistics.boundaries`. Stopping for futility is not
binding: the critical values do not count on it, so that ignoring it costs no error. Intervals are
repeated confidence intervals (Jennison and Turnbull, Group Sequential Methods, 2000, chapter 9):
they hold at all looks together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy import special

from lunet.errors import DataError
from lunet.statistics.boundaries import Spending, check_level, next_critical_value, spent
from lunet.statistics.components import MeanError, upper_point

Decision = Literal["continue", "non-inferior", "futile"]


def conditional_power(z: float, fraction: float, critical: float, drift: float) -> float:
    """Probability of success at the last look, given the statistic at this one.

    Parameters
    ----------
    z
        Standardised statistic now.
    fraction
        Share of the planned information now, below 1.
    critical
        Critical value of the last look.
    drift
        Mean of the standardised statistic at the last look under the truth that is assumed.
    """
    left = 1 - fraction
    mean = z * math.sqrt(fraction) + drift * left
    return float(special.ndtr((mean - critical) / math.sqrt(left)))


@dataclass(frozen=True)
class Plan:
    """How a comparison is looked at; fixed before the first look.

    Attributes
    ----------
    margin
        Loss that is tolerated, in the unit of the estimates, above 0.
    level
        One-sided error of all looks together.
    spending
        Spending function, see :func:`spent`.
    futility
        A candidate is given up when its chance of success at the last look falls below this, even
        if it is truly as good as the reference or as its estimate, whichever is better.
    """

    margin: float
    level: float = 0.025
    spending: Spending = "obrien_fleming"
    futility: float = 0.1

    def __post_init__(self) -> None:
        check_level(self.level)
        if not (math.isfinite(self.margin) and self.margin > 0):
            raise DataError(
                where="margin", found=str(self.margin), expected="a number above 0 is needed"
            )
        if not 0 <= self.futility < 1:
            raise DataError(
                where="futility",
                found=str(self.futility),
                expected="a probability below 1 is needed",
            )


@dataclass(frozen=True)
class Estimate:
    """What is known at one look.

    Attributes
    ----------
    difference
        Candidate less reference, positive where the candidate is better.
    error
        Its standard error, trainings counted in.
    fractions
        Shares of the planned information at all looks up to this one, by the variances as they
        are estimated now; the last is 1 at the last look.
    """

    difference: float
    error: MeanError
    fractions: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """One look and what follows from it.

    Attributes
    ----------
    ratio
        Distance of the estimate from the margin, in standard errors.
    critical
        Critical value of a statistic whose variance is known; ``nominal`` is the same as a
        one-sided level of this look alone.
    bound
        What ``ratio`` had to exceed: the point of that level, the variance being estimated.
    low, high
        Repeated confidence interval of the difference, at ``1 - 2 level`` over all looks.
    power
        Conditional power; NaN at the last look.
    """

    estimate: Estimate
    ratio: float
    critical: float
    nominal: float
    bound: float
    low: float
    high: float
    power: float
    decision: Decision

    @property
    def is_last(self) -> bool:
        """Whether all the planned information is there."""
        return self.estimate.fractions[-1] >= 1


def look(plan: Plan, estimate: Estimate, former: Sequence[Look] = ()) -> Look:
    """Judge a candidate at one look, the former looks being what they were.

    With estimated variances the nominal level of the look is that of the test which the study's
    comparisons use (Jennison and Turnbull, section 3.8; :class:`MeanError`).

    Raises
    ------
    DataError
        If the fractions do not increase or do not fit the number of former looks.
    """
    shares = estimate.fractions
    if len(shares) != len(former) + 1:
        found = f"{len(shares)} shares after {len(former)} looks"
        raise DataError(where="fractions", found=found, expected="one for each look is needed")
    kept = tuple(one.critical for one in former)
    before = _spent_before(plan, former)
    error = spent(plan.spending, plan.level, shares[-1]) - before
    critical = next_critical_value(shares, kept, error)
    nominal = float(special.ndtr(-critical))
    ratio, bound = _ratio(estimate, plan.margin), _bound(estimate.error, nominal)
    half = _half_width(estimate.error, bound)
    power = _power(plan, estimate, (*kept, critical), before + max(error, 0.0))
    decision: Decision = "continue"
    if ratio > bound:
        decision = "non-inferior"
    elif power < plan.futility:
        decision = "futile"
    low, high = estimate.difference - half, estimate.difference + half
    return Look(estimate, ratio, critical, nominal, bound, low, high, power, decision)


def _spent_before(plan: Plan, former: Sequence[Look]) -> float:
    """Error of the looks so far, by the shares of the information as they were told then."""
    used = [spent(plan.spending, plan.level, one.estimate.fractions[-1]) for one in former]
    return max(used, default=0.0)


def _ratio(estimate: Estimate, margin: float) -> float:
    distance, error = estimate.difference + margin, estimate.error.error
    if math.isnan(error):
        return math.nan
    if error == 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / error


def _bound(error: MeanError, nominal: float) -> float:
    """What the ratio must exceed; infinite where nothing is known or nothing may be spent."""
    if math.isnan(error.error) or not nominal:
        return math.inf
    shape = (error.share, error.freedom, error.freedom_trainings)
    # more than half is left only where a look may spend what the others left over
    return float(upper_point(nominal, *shape)) if nominal < 0.5 else 0.0


def _half_width(error: MeanError, bound: float) -> float:
    return 0.0 if error.error == 0 else bound * error.error if math.isfinite(bound) else math.inf


def _power(plan: Plan, estimate: Estimate, values: tuple[float, ...], used: float) -> float:
    """Conditional power of the look; 1 where nothing is known, so that nobody is given up.

    It takes the error as it is estimated: what is asked is where the estimate will lead.
    """
    fraction, error = estimate.fractions[-1], estimate.error.error
    if fraction >= 1:
        return math.nan
    distance = estimate.difference + plan.margin
    if not error > 0:
        return 0.0 if error == 0 and distance < 0 else 1.0
    last = next_critical_value((*estimate.fractions, 1.0), values, plan.level - used)
    hoped = max(0.0, estimate.difference) + plan.margin
    drift = hoped / (error * math.sqrt(fraction))
    return conditional_power(distance / error, fraction, last, drift)
