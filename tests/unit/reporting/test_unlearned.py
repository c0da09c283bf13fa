"""Networks that found nothing, or are below the atlas prior, are named."""

from __future__ import annotations

import pandas as pd
import pytest

from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Table
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.claims import claims
from lunet.reporting.tables.scores import summary
from lunet.reporting.unlearned import mean_scores, unlearned


@pytest.mark.parametrize(
    ("metric", "means", "words"),
    [
        ("dice", {"net": 0.0, "atlas_prior": 0.4}, "net found nothing: its Dice is 0"),
        ("dice", {"net": 0.0}, "net found nothing"),
        ("dice", {"net": 0.3, "atlas_prior": 0.4}, "0.3, and the atlas prior.*has 0.4"),
        ("hd95", {"net": 9.0, "atlas_prior": 4.0}, "HD95 is 9 mm"),
    ],
)
def test_a_weak_network_is_named(metric: str, means: dict[str, float], words: str) -> None:
    (sentence,) = unlearned(means, metric).values()
    assert pd.Series([sentence]).str.contains(words).all()


@pytest.mark.parametrize(
    ("metric", "means"),
    [
        ("dice", {"net": 0.5, "atlas_prior": 0.4}),
        ("dice", {"net": 0.5}),
        ("hd95", {"net": 3.0, "atlas_prior": 4.0}),
        ("volume_error_ml", {"net": 0.0}),
        ("dice", {"net": float("nan"), "atlas_prior": 0.4}),
    ],
)
def test_others_are_not(metric: str, means: dict[str, float]) -> None:
    assert unlearned(means, metric) == {}


def cases() -> pd.DataFrame:
    rows = [
        {
            "preset": preset,
            "fold": 0,
            "seed": 0,
            "case": f"c{case}",
            "group": f"c{case}",
            "label": "bright",
            "dice": dice + case / 100,
            "status": "ok",
        }
        for preset, dice in (("small", 0.2), ("large", 0.7), ("atlas_prior", 0.5))
        for case in range(6)
    ]
    return pd.DataFrame(rows)


def test_signed_errors_count_by_their_size() -> None:
    frame = pd.DataFrame({"preset": ["a", "a"], "volume_error_ml": [-2.0, 2.0]})
    assert mean_scores(frame, "volume_error_ml") == {"a": 2.0}


@pytest.mark.parametrize("reference", ["large", None])
def test_the_claims_begin_with_it(reference: str | None) -> None:
    note = claims(cases(), StatisticsSettings(reference=reference)).note
    assert note.startswith("small is not above the floor: its Dice is 0.225")


def report_of(frame: pd.DataFrame, floor: pd.DataFrame | None = None) -> Table:
    settings = ReportSettings(metrics=("dice",))
    return summary(frame, {}, StatisticsSettings(metric="dice"), settings, floor)


def test_the_summary_of_one_network_names_it_by_the_floor() -> None:
    frame = cases()
    floor = frame[frame["preset"] == "atlas_prior"]
    for preset, is_weak in (("small", True), ("large", False), ("atlas_prior", False)):
        table = report_of(frame[frame["preset"] == preset], floor)
        (finding,) = {row["finding"] for row in table.records}
        assert finding.startswith("small is not above the floor") is is_weak
        assert (finding in table.note) is True
        assert {row["preset"] for row in table.records} == {preset}


def test_a_summary_without_a_floor_names_what_found_nothing() -> None:
    frame = cases().query("preset == 'small'").assign(dice=0.0)
    assert "small found nothing" in report_of(frame).note
