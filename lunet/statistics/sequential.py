"""Group-sequential tests of non-inferiority: looks after each fold, with a fixed total error.

The critical values come from :mod:`lunet.statistics.boundaries`. Stopping for futility is not
binding: the critical values do not rely on it, so ignoring it does not increase the error.
Intervals are repeated confidence intervals (Jennison and Turnbull, Group Sequential Methods, 2000,
chapter 9), which cover the truth at all looks together.
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
        Mean of the standardised statistic at the last look under the assumed truth.
    """
    left = 1 - fraction
    mean = z * math.sqrt(fraction) + drift * left
    return float(special.ndtr((mean - critical) / math.sqrt(left)))


@dataclass(frozen=True)
class Plan:
    """The plan of a group-sequential comparison, fixed before the first look.

    Attributes
    ----------
    margin
        Tolerated loss, in the unit of the estimates, above 0.
    level
        One-sided error of all looks together.
    spending
        Spending function, see :func:`spent`.
    futility
        A candidate is given up when its chance of success at the last look falls below this, under
        the assumption that it is as good as the reference or its estimate, whichever is better.
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
        Candidate minus reference, positive if the candidate is better.
    error
        Its standard error, which includes trainings.
    fractions
        Shares of the planned information at all looks up to this one, from the variances as
        estimated now; the last share is 1 at the last look.
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
        Critical value of a statistic with known variance; ``nominal`` is the corresponding
        one-sided level of this look alone.
    bound
        What ``ratio`` must exceed: the point of the nominal level for an estimated variance.
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
        """Whether all planned information has been used."""
        return self.estimate.fractions[-1] >= 1


def look(plan: Plan, estimate: Estimate, former: Sequence[Look] = ()) -> Look:
    """Judge a candidate at one look, given the former looks.

    Because the variances are estimated, the nominal level of the look is used for the t test of the
    study's comparisons (Jennison and Turnbull, section 3.8; :class:`MeanError`).

    Raises
    ------
    DataError
        If the fractions do not increase or do not fit the number of former looks.
    """
    shares = estimate.fractions
    if len(shares) != len(former) + 1:
        found = f"{len(shares)} shares after {len(former)} looks"
        raise DataError(where="fractions", found=found, expected="one share per look is needed")
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
    """Error used by the looks so far, with the shares of the information as estimated then."""
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
    """What the ratio must exceed; infinite if nothing is known or nothing may be spent."""
    if math.isnan(error.error) or not nominal:
        return math.inf
    shape = (error.share, error.freedom, error.freedom_trainings)
    # a level above one half means that this look may spend what earlier looks left unused
    return float(upper_point(nominal, *shape)) if nominal < 0.5 else 0.0


def _half_width(error: MeanError, bound: float) -> float:
    return 0.0 if error.error == 0 else bound * error.error if math.isfinite(bound) else math.inf


def _power(plan: Plan, estimate: Estimate, values: tuple[float, ...], used: float) -> float:
    """Conditional power of the look; 1 if nothing is known, so that no candidate is given up.

    The error is taken as estimated, because the question is where this estimate will lead.
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
