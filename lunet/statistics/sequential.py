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
            raise DataError("margin", str(self.margin), "a number above 0 is needed")
        if not 0 <= self.futility < 1:
            raise DataError("futility", str(self.futility), "a probability below 1 is needed")


@dataclass(frozen=True)
class Estimate:
    """What is known at one look.

    Attributes
    ----------
    difference
        Candidate less reference, positive where the candidate is better.
    error
        Its standard error, trainings counted in.
    freedom
        Degrees of freedom of the error (infinite if it is known).
    fractions
        Shares of the planned information at all looks up to this one, by the variances as they
        are estimated now; the last is 1 at the last look.
    """

    difference: float
    error: float
    freedom: float
    fractions: tuple[float, ...]


@dataclass(frozen=True)
class Look:
    """One look and what follows from it.

    Attributes
    ----------
    z
        Standardised statistic: the normal quantile of the p-value.
    critical
        What it had to exceed; ``nominal`` is the same as a one-sided level of this look alone.
    low, high
        Repeated confidence interval of the difference, at ``1 - 2 level`` over all looks.
    power
        Conditional power; NaN at the last look.
    """

    estimate: Estimate
    z: float
    critical: float
    nominal: float
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

    With estimated variances the p-value of the t distribution is compared with the nominal level of
    the look (Jennison and Turnbull, section 3.8).

    Raises
    ------
    DataError
        If the fractions do not increase or do not fit the number of former looks.
    """
    shares = estimate.fractions
    if len(shares) != len(former) + 1:
        found = f"{len(shares)} shares after {len(former)} looks"
        raise DataError("fractions", found, "one for each look is needed")
    kept = tuple(one.critical for one in former)
    before = _spent_before(plan, former)
    error = spent(plan.spending, plan.level, shares[-1]) - before
    critical = next_critical_value(shares, kept, error)
    nominal = float(special.ndtr(-critical))
    z = _z(estimate, plan.margin)
    half = _half_width(estimate, nominal)
    power = _power(plan, estimate, (*kept, critical), before + max(error, 0.0))
    decision: Decision = "continue"
    if z > critical:
        decision = "non-inferior"
    elif power < plan.futility:
        decision = "futile"
    low, high = estimate.difference - half, estimate.difference + half
    return Look(estimate, z, critical, nominal, low, high, power, decision)


def _spent_before(plan: Plan, former: Sequence[Look]) -> float:
    """Error of the looks so far, by the shares of the information as they were told then."""
    used = [spent(plan.spending, plan.level, one.estimate.fractions[-1]) for one in former]
    return max(used, default=0.0)


def _z(estimate: Estimate, margin: float) -> float:
    """Normal quantile of the p-value of "worse by the margin or more"; NaN without an error."""
    distance = estimate.difference + margin
    if not estimate.freedom > 0 or math.isnan(estimate.error):
        return math.nan
    if estimate.error == 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    ratio = distance / estimate.error
    if math.isinf(estimate.freedom):
        return ratio
    # by the tail that is small, so that no quantile becomes infinite by rounding
    tail = special.ndtri(special.stdtr(estimate.freedom, -abs(ratio)))
    return math.copysign(float(tail), ratio)


def _half_width(estimate: Estimate, nominal: float) -> float:
    if not estimate.freedom > 0 or math.isnan(estimate.error):
        return math.inf
    if estimate.error == 0:
        return 0.0
    if not nominal:
        return math.inf
    return _t_quantile(nominal, estimate.freedom) * estimate.error


def _t_quantile(tail: float, freedom: float) -> float:
    """What the t distribution exceeds with this probability."""
    if math.isinf(freedom):
        return -float(special.ndtri(tail))
    return -float(special.stdtrit(freedom, tail))


def _power(plan: Plan, estimate: Estimate, values: tuple[float, ...], used: float) -> float:
    """Conditional power of the look; 1 where nothing is known, so that nobody is given up.

    It takes the error as it is estimated: what is asked is where the estimate will lead.
    """
    fraction = estimate.fractions[-1]
    if fraction >= 1:
        return math.nan
    distance = estimate.difference + plan.margin
    if not estimate.freedom > 0 or not estimate.error > 0:
        return 0.0 if estimate.error == 0 and distance < 0 else 1.0
    last = next_critical_value((*estimate.fractions, 1.0), values, plan.level - used)
    hoped = max(0.0, estimate.difference) + plan.margin
    drift = hoped / (estimate.error * math.sqrt(fraction))
    return conditional_power(distance / estimate.error, fraction, last, drift)
