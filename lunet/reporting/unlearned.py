"""Networks that have not learnt the task: they find nothing, or are no better than the atlas prior.

A comparison with such a network says nothing about sizes, so it is named before any comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from lunet.metrics.catalog import compared_name, direction, is_of, is_signed, unit_suffix
from lunet.reporting.origin import PRIOR, of, trained

_ADVICE = "Train for more epochs, or look at the losses in its history.csv."


def mean_scores(cases: pd.DataFrame, metric: str) -> dict[str, float]:
    """Trained preset, or atlas prior -> mean of a metric over its per-case rows.

    Signed errors count by their magnitude.
    """
    cases = of(cases, {*trained(cases), PRIOR})
    values = pd.to_numeric(cases[metric], errors="coerce")
    values = values.abs() if is_signed(metric) else values
    return {str(name): float(mean) for name, mean in values.groupby(cases["preset"]).mean().items()}


def unlearned(means: Mapping[str, float], metric: str) -> dict[str, str]:
    """Network -> sentence, for each that found nothing or does not exceed the atlas prior.

    Parameters
    ----------
    means
        Preset -> mean of the metric; with the atlas prior, if the study has it.
    metric
        Column of the per-case table that the study compares.
    """
    floor = means.get(PRIOR, math.nan)
    name, unit, sign = compared_name(metric), unit_suffix(metric), direction(metric)
    found = {}
    for preset, mean in means.items():
        if preset == PRIOR:
            continue
        if mean == 0 and is_of(metric, "overlap", "surface"):
            found[preset] = f"{preset} found nothing: its {name} is 0 in every case. {_ADVICE}"
        elif sign * mean <= sign * floor:
            found[preset] = (
                f"{preset} is not above the floor: its {name} is {mean:.3g}{unit}, and the atlas "
                f"prior, which never sees an image, has {floor:.3g}{unit}. {_ADVICE}"
            )
    return found
