"""Published means tested again: the interval of the difference and the verdict."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lunet.statistics.replication import Mean, own_mean, published_mean, replicated


def test_equal_errors_give_the_interval_of_the_unpaired_t_test() -> None:
    one, other = Mean(0.90, 0.004, 30), Mean(0.89, 0.004, 30)
    found = replicated(one, other, margin=None, alpha=0.05)
    half = stats.t.isf(0.025, 30) * math.sqrt(2) * 0.004
    assert found.low == pytest.approx(0.01 - half)
    assert found.high == pytest.approx(0.01 + half)
    assert found.verdict == "unresolved"


@pytest.mark.parametrize(
    ("published", "margin", "verdict"),
    [
        (0.90, 0.01, "confirmed"),
        (0.9025, 0.01, "confirmed"),  # significant, but within the margin
        (0.92, 0.01, "refuted"),
        (0.88, 0.01, "refuted"),
        (0.909, 0.01, "refuted"),
        (0.901, 0.001, "unresolved"),
        (0.90, None, "unresolved"),
    ],
)
def test_verdicts(published: float, margin: float | None, verdict: str) -> None:
    theirs = Mean(published, 0.0007, math.inf)
    found = replicated(Mean(0.90, 0.0007, 200), theirs, margin=margin, alpha=0.05)
    assert found.verdict == verdict


def test_what_a_publication_gives_becomes_its_error() -> None:
    own = Mean(0.9, 0.002, 100, sd=0.04)
    assert published_mean(0.9, own) is None
    interval = published_mean(0.9, own, low=0.89, high=0.91)
    assert interval is not None
    assert interval.error == pytest.approx(0.01 / stats.norm.isf(0.025))
    for given, spread in (({"sd": 0.02}, 0.02), ({}, 0.04)):
        mean = published_mean(0.9, own, n=100, **given)
        assert mean is not None
        assert mean.error == pytest.approx(spread / 10)
        assert mean.freedom == 99


def test_own_mean_counts_subjects_and_trainings() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        [
            {"preset": "a", "fold": 0, "seed": seed, "case": f"c{case}", "label": "x"}
            | {"group": f"c{case}", "status": "ok", "dice": 0.9 + 0.05 * seed + noise}
            for case, noise in enumerate(rng.normal(0, 0.01, 20))
            for seed in (0, 1)
        ]
    )
    both, single = (own_mean(part, "dice", "a", "x") for part in (rows, rows[rows["seed"] == 0]))
    means = rows[rows["seed"] == 0]["dice"]
    assert single.value == pytest.approx(means.mean())
    assert single.error == pytest.approx(means.std(ddof=1) / math.sqrt(20))
    assert both.error > 0.02  # the two trainings differ by 0.05
