"""Lesion-wise results: components, hits and false positives, the FROC curve."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from froc import froc_curve

from lunet.errors import DataError
from lunet.metrics.lesions import (
    FROC_RATES,
    LesionCounts,
    components,
    count_lesions,
    froc_score,
    image_froc,
)


def squares(
    *corners: tuple[int, int], side: int = 2, shape: tuple[int, int] = (20, 20)
) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    for x, y in corners:
        mask[x : x + side, y : y + side] = True
    return mask


def test_components_join_corners_only_where_asked() -> None:
    mask = squares((2, 2), (4, 4), (10, 10))
    assert components(mask).max() == 2
    assert components(mask, connectivity="faces").max() == 3
    volume = np.zeros((4, 4, 4), dtype=bool)
    volume[0, 0, 0] = volume[1, 1, 1] = True
    assert components(volume).max() == 1
    assert components(volume, connectivity="faces").max() == 2


def test_found_missed_and_false_positive_lesions() -> None:
    reference = squares((1, 1), (8, 8), (15, 2))
    prediction = squares((2, 2), (8, 8), (1, 15), (15, 15))
    counts = count_lesions(reference, prediction)
    assert counts == LesionCounts(lesions=3, found=2, false_positives=2)
    assert counts.sensitivity == pytest.approx(2 / 3)


def test_one_component_over_two_lesions_finds_both_and_is_no_false_positive() -> None:
    reference = squares((5, 2), (5, 8))
    prediction = np.zeros_like(reference)
    prediction[5, 2:10] = True
    assert count_lesions(reference, prediction) == LesionCounts(2, 2, 0)


def test_a_mask_of_everything_finds_nothing_where_purity_is_asked_for() -> None:
    reference = squares((1, 1), (8, 8))
    everything = np.ones_like(reference)
    assert count_lesions(reference, everything) == LesionCounts(2, 2, 0)
    assert count_lesions(reference, everything, precision=0.1) == LesionCounts(2, 0, 1)
    good = squares((1, 1), side=3)  # 4 of 9 voxels are lesion
    assert count_lesions(reference, good, precision=0.4) == LesionCounts(2, 1, 0)
    assert count_lesions(reference, good, precision=0.5) == LesionCounts(2, 0, 1)


def test_the_image_froc_agrees_with_the_counts_with_purity_too() -> None:
    rng = np.random.default_rng(1)
    reference = rng.random((40, 40)) > 0.97
    steps = np.rint(200 * np.clip(0.6 * reference + 0.5 * rng.random((40, 40)), 0, 1))
    levels = np.array([20, 60, 90, 120, 150])
    for overlap, precision in ((0.0, 0.0), (0.0, 0.1), (0.5, 0.3)):
        options = {"overlap": overlap, "precision": precision}
        froc = image_froc(reference, steps.astype(np.uint8), levels=levels, **options)
        for place, level in enumerate(levels):
            counts = count_lesions(reference, steps >= level, **options)
            found = (froc.lesions, froc.found[place], froc.false_positives[place])
            assert found == (counts.lesions, counts.found, counts.false_positives)


def test_overlap_is_a_share_of_the_lesion() -> None:
    reference, prediction = squares((4, 4)), squares((4, 4))
    prediction[4, 4] = False  # three of four voxels are left
    assert count_lesions(reference, prediction, overlap=0.75).found == 1
    assert count_lesions(reference, prediction, overlap=0.76).found == 0


def test_images_without_a_lesion_have_no_sensitivity_but_false_positives() -> None:
    empty = np.zeros((20, 20), dtype=bool)
    counts = count_lesions(empty, squares((1, 1), (9, 9)))
    assert (counts.lesions, counts.found, counts.false_positives) == (0, 0, 2)
    assert math.isnan(counts.sensitivity)
    assert count_lesions(empty, empty) == LesionCounts(0, 0, 0)


def test_froc_by_hand() -> None:
    # Image 1: a lesion at 0.9 and one at 0.4, a false positive at 0.6. Image 2: none, one at 0.3.
    reference = squares((1, 1), (8, 8))
    first = 0.9 * squares((1, 1)) + 0.4 * squares((8, 8)) + 0.6 * squares((15, 15))
    second = 0.3 * squares((5, 5))
    curve = froc_curve(
        [reference, np.zeros_like(reference)],
        [first, second],
        thresholds=(0.2, 0.35, 0.5, 0.8, 0.95),
    )
    assert list(curve["threshold"]) == [0.95, 0.8, 0.5, 0.35, 0.2]
    assert list(curve["sensitivity"]) == [0, 0.5, 0.5, 1, 1]
    assert list(curve["false_positives_per_image"]) == [0, 0, 0.5, 0.5, 1]
    # 0.5 at the rates 1/8 and 1/4, 1.0 at the five above.
    assert froc_score(curve) == pytest.approx((0.5 * 2 + 1.0 * 5) / 7)
    assert len(FROC_RATES) == 7


def test_froc_agrees_with_the_counts_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    reference = rng.random((30, 30)) > 0.97
    probability = np.clip(0.6 * reference + 0.5 * rng.random((30, 30)), 0, 1)
    levels = (0.8, 0.6, 0.45)
    for overlap in (0.0, 0.5, 1.0):
        curve = froc_curve([reference], [probability], thresholds=levels, overlap=overlap)
        for level, row in zip(levels, curve.itertuples(), strict=True):
            counts = count_lesions(reference, probability >= level, overlap=overlap)
            assert row.sensitivity == pytest.approx(counts.sensitivity)
            assert row.false_positives_per_image == counts.false_positives


def test_a_score_is_not_made_up_beyond_the_curve() -> None:
    curve = pd.DataFrame({"false_positives_per_image": [3.0], "sensitivity": [0.8]})
    assert froc_score(curve, rates=(1.0, 4.0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: count_lesions(m, m[:-1]), "same shape"),
        (lambda m: count_lesions(m, m.astype(int)), "boolean array"),
        (lambda m: count_lesions(m, m, overlap=1.5), "share from 0 to 1"),
    ],
)
def test_bad_input_is_refused(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call(squares((1, 1)))  # type: ignore[operator]
