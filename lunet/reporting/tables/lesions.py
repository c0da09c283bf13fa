"""Lesion-wise results: sensitivity and false positives, with patients as the units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lunet.metrics.lesions import FROC_RATES, froc_score
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import decimals, fixed, integer, interval
from lunet.statistics.bootstrap import mean_interval

_CASE = ["preset", "label", "case", "group"]
_TITLES = (
    "Patients",
    "Lesions",
    "Sensitivity per lesion",
    "False positives per patient",
    "FROC score",
    "Pixel accuracy (uninformative)",
    "Pixel accuracy of predicting nothing",
)


def lesions(counts: pd.DataFrame, froc: pd.DataFrame, settings: StatisticsSettings) -> Table:
    """A row per preset and structure.

    Parameters
    ----------
    counts
        Rows of ``lesions.csv``: a row per run, case and structure.
    froc
        Rows of ``froc.csv``: a row per run, case, structure and threshold.
    settings
        Level of the intervals, resamples, seed.
    """
    scores = scores_by_seed(froc)
    records = tuple(
        _record(part, scores.loc[(preset, label)], settings)
        for (preset, label), part in counts.groupby(["preset", "label"], sort=False)
    )
    rates = ", ".join(f"{rate:g}" for rate in FROC_RATES)
    return Table(
        name="lesions",
        caption="Lesion-wise results: lesions found and false positives, with "
        f"{100 * settings.confidence:g} % confidence intervals (bootstrap over patients).",
        columns=(
            Column("Preset", text=True),
            Column("Structure", text=True),
            *map(Column, _TITLES),
        ),
        rows=tuple(map(_row, records)),
        records=records,
        note="A lesion is a connected component of the reference. A false positive is a predicted "
        "component that touches no lesion, or of which too small a share lies in lesions "
        "(lesions.precision). Counts are means over seeds. FROC score: mean sensitivity "
        f"at {rates} false positives per patient. Pixel accuracy is shown because readers expect "
        "it; with so little foreground it is uninformative, as the value of an empty prediction "
        "shows.",
    )


def froc_points(froc: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Curves pooled over the rows of each group of ``by``, with falling thresholds.

    Returns
    -------
    Columns of ``by``, ``threshold``, ``sensitivity`` (of all lesions) and
    ``false_positives_per_image`` (mean over cases).
    """
    grouped = froc.groupby([*by, "threshold"], sort=False)
    sums = grouped[["lesions", "found"]].sum()
    points = pd.DataFrame(
        {
            "sensitivity": sums["found"] / sums["lesions"],
            "false_positives_per_image": grouped["false_positives"].mean(),
        }
    ).reset_index()
    order = {key: index for index, key in enumerate(dict.fromkeys(froc["preset"]))}
    points["place"] = points["preset"].map(order)
    keys = ["place", *[key for key in by if key != "preset"], "threshold"]
    rising = [True] * len(by) + [False]
    return points.sort_values(keys, ascending=rising, ignore_index=True).drop(columns="place")


def scores_by_seed(froc: pd.DataFrame) -> pd.DataFrame:
    """FROC score of each preset, structure (index) and seed (columns)."""
    points = froc_points(froc, ["preset", "label", "seed"])
    scores = {key: froc_score(part) for key, part in points.groupby(["preset", "label", "seed"])}
    return pd.Series(scores).unstack()


def _record(part: pd.DataFrame, scores: pd.Series, settings: StatisticsSettings) -> dict[str, Any]:
    by_case = part.groupby(_CASE, sort=False).mean(numeric_only=True).reset_index()
    number = by_case["lesions"].astype(int)
    # each case's share of found lesions, repeated for each lesion: the mean is over lesions, while
    # patients are resampled
    shares = np.repeat(by_case["found"] / number.clip(lower=1), number)
    false = by_case["false_positives"]
    options: dict[str, Any] = {
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "seed": settings.seed,
    }
    found = mean_interval(shares, np.repeat(by_case["group"], number), **options)
    wrong = mean_interval(false, by_case["group"], **options)
    first = part.iloc[0]
    return {
        "preset": first["preset"],
        "label": first["label"],
        "patients": by_case["group"].nunique(),
        "lesions": int(number.sum()),
        "sensitivity": float(shares.mean()),
        "sensitivity_ci_low": found.low,
        "sensitivity_ci_high": found.high,
        "false_positives": float(false.mean()),
        "false_positives_ci_low": wrong.low,
        "false_positives_ci_high": wrong.high,
        "froc_score": float(scores.mean()),
        "froc_score_sd_seeds": float(scores.std(ddof=1)),
        "pixel_accuracy": float(by_case["pixel_accuracy"].mean()),
        "pixel_accuracy_of_nothing": float(by_case["pixel_accuracy_of_nothing"].mean()),
    }


def _row(record: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        cell(record["preset"]),
        cell(record["label"]),
        cell(integer(record["patients"])),
        cell(integer(record["lesions"])),
        _with_interval(record, "sensitivity"),
        _with_interval(record, "false_positives"),
        cell(fixed(record["froc_score"], 3)),
        cell(fixed(record["pixel_accuracy"], 5)),
        cell(fixed(record["pixel_accuracy_of_nothing"], 5)),
    )


def _with_interval(record: Mapping[str, Any], name: str) -> Cell:
    low, high = record[f"{name}_ci_low"], record[f"{name}_ci_high"]
    places = decimals((high - low) / 2)
    return cell(fixed(record[name], places), interval(low, high, places))
