"""Rates of missed structures, invented structures and failed cases, as separate endpoints.

A mean over cases hides them: one miss in forty moves it by a few points, and with 3 % failures an
interval of the mean covers the truth in only 68 to 90 % of studies. Each rate is the mean over
cases (of each case's mean over its trainings) with the interval of Clopper and Pearson (Biometrika
26:404, 1934), whose coverage is never below its level. The number of trials is the number of
subjects, because cases and trainings of one subject are not independent trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from scipy import stats

from lunet.statistics.bootstrap import Interval
from lunet.statistics.values import MEAN_LABEL, with_empty_references

EVENTS = ("missed", "spurious", "failed")
DETECTION_COLUMNS = (
    "preset",
    "label",
    *(f"{event}{part}" for event in EVENTS for part in ("", "_low", "_high", "_n", "_groups")),
)


def rate_interval(share: float, trials: int, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's interval of a share.

    Parameters
    ----------
    share
        Between 0 and 1; ``share * trials`` need not be a whole number.
    trials
        Number of independent trials; with 0 the bounds are NaN.
    confidence
        Level of the interval.
    """
    if not trials:
        return Interval(math.nan, math.nan)
    tail, hits = (1 - confidence) / 2, share * trials
    low = float(stats.beta.ppf(tail, hits, trials - hits + 1)) if hits > 0 else 0.0
    high = float(stats.beta.isf(tail, hits + 1, trials - hits)) if hits < trials else 1.0
    return Interval(low, high)


def detection(
    rows: pd.DataFrame, *, failure: float = 0.5, confidence: float = 0.95
) -> pd.DataFrame:
    """Rates of missed and invented structures and of failed cases.

    Parameters
    ----------
    rows
        Per-case rows with ``dice``, see :mod:`lunet.statistics.values`.
    failure
        A Dice below this is a failure.
    confidence
        Level of the intervals.

    Returns
    -------
    One row with ``DETECTION_COLUMNS`` per preset and label, and one for all labels together.
    ``missed`` is a rate of the cases that have the structure, ``spurious`` of the cases that do not
    have it, and ``failed`` of the cases that have a Dice, each with its interval and the numbers of
    cases and subjects. A rate without any case is NaN.
    """
    table = rows if "group" in rows else rows.assign(group=rows["case"])
    table = with_empty_references(table.assign(dice=table.get("dice", math.nan)), "dice")
    status, dice = table["status"], table["dice"]
    events = {
        "missed": status.eq("missed").where(status.isin(("ok", "missed"))),
        "spurious": status.eq("spurious").where(status.isin(("spurious", "both_empty"))),
        "failed": dice.lt(failure).where(dice.notna()),  # NaN without a Dice
    }
    table = table[["preset", "label", "case", "group"]].assign(
        **{name: event.astype(float) for name, event in events.items()}
    )
    records = [
        {"preset": preset, "label": label} | _rates(part, confidence)
        for preset, label, part in _parts(table)
    ]
    return pd.DataFrame(records, columns=DETECTION_COLUMNS)


def _parts(table: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    labels = list(dict.fromkeys(table["label"]))
    for preset in dict.fromkeys(table["preset"]):
        own = table[table["preset"] == preset]
        if len(labels) > 1:
            yield str(preset), MEAN_LABEL, own
        for label in labels:
            yield str(preset), str(label), own[own["label"] == label]


def _rates(part: pd.DataFrame, confidence: float) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    for event in EVENTS:
        known = part.dropna(subset=[event])
        cases, groups = known.groupby("case")[event].mean(), known["group"].nunique()
        share = float(cases.mean()) if len(cases) else math.nan
        interval = rate_interval(share, groups, confidence)
        rates |= {event: share, f"{event}_low": interval.low, f"{event}_high": interval.high}
        rates |= {f"{event}_n": len(cases), f"{event}_groups": groups}
    return rates
