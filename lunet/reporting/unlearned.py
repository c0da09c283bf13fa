"""Rows that find nothing, or are no better than the atlas prior: what has not learnt the task.

A comparison with such a row says nothing about sizes, so it is named before any comparison.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import pandas as pd

from lunet.metrics.catalog import compared_name, direction, is_of, is_signed, unit_suffix
from lunet.reporting.origin import PRIOR, externals, readers

_ADVICE = "Train for more epochs, or look at the losses in its history.csv."
_ADVICE_GIVEN = "Check that its masks belong to these cases and have the labels of this study."


def mean_scores(cases: pd.DataFrame, metric: str) -> dict[str, float]:
    """Preset -> mean of a metric over its per-case rows; signed errors count by their magnitude."""
    values = pd.to_numeric(cases[metric], errors="coerce")
    values = values.abs() if is_signed(metric) else values
    return {str(name): float(mean) for name, mean in values.groupby(cases["preset"]).mean().items()}


def unlearned_in(cases: pd.DataFrame, metric: str) -> dict[str, str]:
    """:func:`unlearned` of per-case rows."""
    given = (*externals(cases), *readers(cases))
    return unlearned(mean_scores(cases, metric), metric, given)


def unlearned(
    means: Mapping[str, float], metric: str, given: Collection[str] = ()
) -> dict[str, str]:
    """Preset -> sentence, for each that found nothing or does not exceed the atlas prior.

    Parameters
    ----------
    means
        Preset -> mean of the metric; with the atlas prior, if the study has it.
    metric
        Column of the per-case table that the study compares.
    given
        Presets whose masks were made elsewhere, so that nothing here can be trained for longer.
    """
    floor = means.get(PRIOR, math.nan)
    name, unit, sign = compared_name(metric), unit_suffix(metric), direction(metric)
    found = {}
    for preset, mean in means.items():
        if preset == PRIOR:
            continue
        advice = _ADVICE_GIVEN if preset in given else _ADVICE
        if mean == 0 and is_of(metric, "overlap", "surface"):
            found[preset] = f"{preset} found nothing: its {name} is 0 in every case. {advice}"
        elif sign * mean <= sign * floor:
            found[preset] = (
                f"{preset} is not above the floor: its {name} is {mean:.3g}{unit}, and the atlas "
                f"prior, which never sees an image, has {floor:.3g}{unit}. {advice}"
            )
    return found
