"""The metrics contract: values known by hand, empty masks, unions, refusals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metric_pairs import Pair, border_points, pairs
from scipy.ndimage import binary_dilation, center_of_mass
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from lunet.data.geometry import spacing_of, voxel_volume
from lunet.errors import DataError
from lunet.metrics import nearest, surface
from lunet.metrics.case import evaluate_case
from lunet.metrics.catalog import case_columns

FIXED = settings(
    max_examples=200,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def cube(shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[(slice(low, high),) * len(shape)] = True
    return mask


def one(reference: np.ndarray, prediction: np.ndarray, **options: object) -> pd.Series:
    frame = evaluate_case(reference, prediction, **options)
    assert len(frame) == 1
    return frame.iloc[0]


def test_columns_are_those_of_the_contract() -> None:
    mask = cube((6, 6, 6), 1, 4)
    frame = evaluate_case(mask, mask, tolerances=(0.5, 1.0, 2))
    assert list(frame.columns) == [
        "label", "dice", "iou", "precision", "recall", "hd", "hd95", "assd", "masd",
        "nsd_0.5", "nsd_1", "nsd_2", "volume_ml", "volume_reference_ml", "volume_error_ml",
        "volume_error_relative", "centre_distance", "status",
    ]  # fmt: skip
    assert list(frame.columns) == case_columns((0.5, 1.0, 2.0))


def test_equal_masks_are_perfect() -> None:
    row = one(cube((9, 8, 7), 2, 5), cube((9, 8, 7), 2, 5), spacing=(1, 2, 3))
    assert row["status"] == "ok"
    assert (row[["dice", "iou", "precision", "recall", "nsd_1"]] == 1).all()
    assert (row[["hd", "hd95", "assd", "masd", "centre_distance", "volume_error_ml"]] == 0).all()
    assert row["volume_ml"] == row["volume_reference_ml"] == pytest.approx(27 * 6 / 1000)


def test_shifted_cube_by_hand() -> None:
    # A 4-voxel cube against itself moved 2 voxels along the last axis, which has 3 mm voxels.
    reference = np.zeros((8, 8, 10), dtype=np.uint8)
    prediction = np.zeros_like(reference)
    reference[2:6, 2:6, 2:6] = 7
    prediction[2:6, 2:6, 4:8] = 7
    row = one(reference, prediction, spacing=(1, 1, 3), labels={"cube": 7}, tolerances=(1, 2))
    assert row["label"] == "cube"
    assert row["dice"] == pytest.approx(0.5)
    assert row["iou"] == pytest.approx(1 / 3)
    assert row["hd"] == pytest.approx(6.0)
    assert row["hd95"] == pytest.approx(6.0)
    assert row["centre_distance"] == pytest.approx(6.0)
    assert row["volume_error_relative"] == 0
    # Border voxels: 56 of 64. By hand: the far face lies 6 mm off; the ring next to it 3 mm; the
    # rings shared with the other cube 0, their 2 x 4 inner voxels see the other's end face.
    distances = [6.0] * 16 + [3.0] * 12 + [0.0] * 24 + [1.0] * 4
    assert row["assd"] == row["masd"] == pytest.approx(np.mean(distances), abs=1e-12)


def test_sub_voxel_surface_of_a_single_voxel_is_an_octahedron() -> None:
    reference = np.zeros((5, 5, 9), dtype=bool)
    prediction = reference.copy()
    reference[2, 2, 2] = prediction[2, 2, 6] = True
    # 8 corner points each, 3 to 5 mm apart along the last axis: half of the area within 3 mm.
    row = one(reference, prediction, tolerances=(2.99, 3.0, 4.0))
    assert tuple(row[["nsd_2.99", "nsd_3", "nsd_4"]]) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("present", "status"), [("reference", "missed"), ("prediction", "spurious")]
)
def test_one_empty_mask_scores_the_worst_value(present: str, status: str) -> None:
    masks = {"reference": cube((10, 20, 30), 0, 0), "prediction": cube((10, 20, 30), 0, 0)}
    masks[present] = cube((10, 20, 30), 2, 5)
    row = one(masks["reference"], masks["prediction"], spacing=(1, 0.5, 2))
    assert row["status"] == status
    assert (row[["dice", "iou", "precision", "recall", "nsd_1"]] == 0).all()
    diagonal = math.sqrt(10**2 + 10**2 + 60**2)
    distances = row[["hd", "hd95", "assd", "masd", "centre_distance"]].astype(float)
    assert distances.to_numpy() == pytest.approx(diagonal)
    error = 0.027 if present == "prediction" else -0.027
    assert row["volume_error_ml"] == pytest.approx(error)
    if present == "reference":
        assert row["volume_error_relative"] == -1
    else:
        assert math.isnan(row["volume_error_relative"])


def test_both_empty_is_undefined_not_perfect() -> None:
    empty = np.zeros((4, 5, 6), dtype=np.uint8)
    row = one(empty, empty, labels={"tumour": 3})
    assert row["status"] == "both_empty"
    values = row.drop(["label", "status", "volume_ml", "volume_reference_ml"]).astype(float)
    assert values.isna().all()
    assert row["volume_ml"] == row["volume_reference_ml"] == 0


def test_the_diagonal_exceeds_every_distance_in_the_image() -> None:
    reference, prediction = np.zeros((4, 5, 6), dtype=bool), np.zeros((4, 5, 6), dtype=bool)
    reference[0, 0, 0] = prediction[-1, -1, -1] = True
    missed = one(reference, np.zeros_like(reference), spacing=(3, 1, 2))
    assert one(reference, prediction, spacing=(3, 1, 2))["hd"] < missed["hd"]


def test_labels_of_the_data_set_decide_not_those_found() -> None:
    reference = np.zeros((6, 6, 6), dtype=np.int16)
    reference[1:3] = 1
    reference[3:5] = 2
    prediction = np.where(reference == 2, 1, reference)
    names = {"one": 1, "two": 2, "absent": 300, "whole": (1, 2), "background": 0}
    frame = evaluate_case(reference, prediction, labels=names).set_index("label")
    assert list(frame["status"]) == ["ok", "missed", "both_empty", "ok", "ok"]
    assert frame.loc["whole", "dice"] == frame.loc["background", "dice"] == 1
    assert frame.loc["one", "precision"] == pytest.approx(0.5)


def test_two_dimensions_take_the_default_spacing_and_a_slice_of_1_mm() -> None:
    reference, prediction = cube((12, 9), 2, 6), cube((12, 9), 3, 7)
    row = one(reference, prediction)
    assert row["hd"] == pytest.approx(math.sqrt(2))
    assert row["volume_ml"] == pytest.approx(16 / 1000)
    assert one(reference, prediction, spacing=(2, 3))["hd"] == pytest.approx(math.sqrt(13))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int64, bool])
def test_any_integer_type_and_memory_order_gives_the_same(dtype: type) -> None:
    reference, prediction = cube((9, 10, 11), 2, 7), cube((9, 10, 11), 3, 9)
    expected = evaluate_case(reference, prediction, spacing=(1, 2, 3))
    got = evaluate_case(
        np.asfortranarray(reference.astype(dtype)),
        prediction.astype(dtype)[::-1][::-1],
        spacing=np.array([1, 2, 3]),
    )
    pd.testing.assert_frame_equal(got, expected, check_exact=True)


def test_centre_of_a_mask_longer_than_a_byte_counts() -> None:
    reference, prediction = np.zeros((2, 900, 3, 4), dtype=bool)
    reference[:800, 0, 0] = reference[:100] = True
    prediction[:100] = True
    shift = np.array(center_of_mass(reference)) - center_of_mass(prediction)
    found = one(reference, prediction)["centre_distance"]
    assert found == pytest.approx(np.linalg.norm(shift), abs=1e-9)


def test_arguments_are_left_unchanged() -> None:
    reference, prediction = cube((9, 9, 9), 0, 5).astype(np.uint8), cube((9, 9, 9), 2, 9)
    before = reference.copy(), prediction.copy()
    reference.setflags(write=False)
    evaluate_case(reference, prediction, labels={"a": 1, "b": (1, 2)})
    assert (reference == before[0]).all()
    assert (prediction == before[1]).all()


@pytest.mark.parametrize("way", ["look-ups", "transform", "tree", "mixed"])
def test_against_the_definition(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Brute force in double precision: each way of finding distances alone, and all as mixed."""
    if way != "mixed":
        monkeypatch.setattr(nearest, "_tree_pays", lambda *_: way != "look-ups")
        monkeypatch.setattr(nearest, "_SMALL", math.inf if way == "transform" else 0)

    @FIXED
    @given(pairs())
    def check(pair: Pair) -> None:
        row = one(pair.reference, pair.prediction, spacing=pair.spacing)
        expected = by_definition(pair)
        assert row[list(expected)].astype(float).to_dict() == pytest.approx(expected, abs=1e-9)

    check()


@FIXED
@given(pairs())
def test_all_ways_of_finding_distances_give_the_same_bits(pair: Pair) -> None:
    near = nearest.neighbours(pair.spacing)
    grid = nearest.Grid.around(pair.reference.shape, near, pair.spacing)
    target = surface.border(grid, grid.pad(pair.reference))
    points, targets = np.flatnonzero(grid.pad(pair.prediction)), np.flatnonzero(target)
    by_tree = nearest._tree_distances(grid, points, targets, np.inf)
    by_transform = nearest._transformed_distances(grid, points, target)
    mixed = nearest.directed_distances(grid, points, target, targets, near, limit=np.inf)
    assert by_tree.tobytes() == by_transform.tobytes() == mixed.tobytes()


def by_definition(pair: Pair) -> dict[str, float]:
    """The metrics from all pairs of border voxels."""
    points = [border_points(mask, pair.spacing) for mask in (pair.reference, pair.prediction)]
    table = cdist(*points)
    a, b = table.min(axis=1), table.min(axis=0)
    centres = [center_of_mass(mask) for mask in (pair.reference, pair.prediction)]
    shift = (np.array(centres[0]) - centres[1]) * pair.spacing
    both = (pair.reference & pair.prediction).sum()
    return {
        "hd": max(a.max(), b.max()),
        "hd95": max(np.percentile(a, 95), np.percentile(b, 95)),
        "assd": np.concatenate([a, b]).mean(),
        "masd": (a.mean() + b.mean()) / 2,
        "centre_distance": np.linalg.norm(shift),
        "dice": 2 * both / (pair.reference.sum() + pair.prediction.sum()),
        "iou": both / (pair.reference | pair.prediction).sum(),
        "precision": both / pair.prediction.sum(),
        "recall": both / pair.reference.sum(),
    }


@FIXED
@given(pairs(), st.randoms(use_true_random=False))
def test_orientation_and_side_do_not_matter(pair: Pair, random: object) -> None:
    """Flips, transpositions, a margin of background and swapped roles change no distance."""
    columns = ["hd", "hd95", "assd", "masd", "nsd_1", "dice", "centre_distance"]
    tolerance = {"tolerances": (1.0,)}
    base = one(pair.reference, pair.prediction, spacing=pair.spacing, **tolerance)
    order = list(range(pair.reference.ndim))
    random.shuffle(order)  # type: ignore[attr-defined]
    turned = [
        np.pad(np.flip(mask.transpose(order), axis=0), 2)
        for mask in (pair.prediction, pair.reference)
    ]
    spacing = tuple(pair.spacing[axis] for axis in order)
    other = one(turned[0], turned[1], spacing=spacing, **tolerance)
    assert other[columns].astype(float).to_dict() == pytest.approx(
        base[columns].astype(float).to_dict(), abs=1e-9
    )


BALL = cube((6, 6, 6), 1, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prediction": BALL[:-1]}, "same shape"),
        ({"prediction": BALL.astype(float)}, "integer class indices"),
        ({"reference": BALL[None]}, "without channels"),
        ({"reference": BALL[0, 0], "prediction": BALL[0, 0]}, "2D or 3D"),
        ({"spacing": (1, 1)}, "3 positive numbers"),
        ({"spacing": (1, 1, 0)}, "3 positive numbers"),
        ({"spacing": (1, math.nan, 1)}, "3 positive numbers"),
        ({"tolerances": (1.0, -1.0)}, "0 or more"),
        ({"tolerances": (1.0, 1.0)}, "different"),
        ({"labels": {}}, "class index"),
        ({"labels": {"a": -1}}, "class index"),
        ({"labels": {"a": 1.5}}, "class index"),
        ({"labels": {"a": ()}}, "class index"),
        ({"labels": {"a": True}}, "class index"),
        ({"reference": BALL.astype(int) * 2, "labels": None}, "Pass labels"),
    ],
)
def test_bad_input_is_refused_in_one_clear_line(arguments: dict, words: str) -> None:
    full = {"reference": BALL, "prediction": BALL, "labels": {"a": 1}, **arguments}
    with pytest.raises(DataError, match=words) as caught:
        evaluate_case(full.pop("reference"), full.pop("prediction"), **full)
    assert "\n" not in str(caught.value)


@FIXED
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 1.25, 3.0])] * 3),
)
def test_nsd_and_volume_do_not_hang_on_the_noise_of_an_oblique_header(
    angles: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    """Headers keep float32: a turned grid of 1 mm reads as 0.9999999 or 1.0000001 mm."""
    mask = cube((9, 8, 7), 2, 6)
    grown = binary_dilation(mask)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine = affine.astype(np.float32).astype(np.float64)
    limits = tuple(sorted(set(spacing)))  # distances that occur exactly
    turned = one(
        mask,
        grown,
        spacing=spacing_of(affine),
        tolerances=limits,
        voxel_volume=voxel_volume(affine),
    )
    plain = one(mask, grown, spacing=spacing, tolerances=limits)
    for metric in case_columns(limits)[1:-1]:
        assert turned[metric] == pytest.approx(plain[metric], rel=1e-6, abs=1e-9), metric


def test_a_voxel_of_a_sheared_grid_has_the_volume_of_its_determinant() -> None:
    """A gantry tilt of 30 degrees: columns as long as before, 13 % less volume."""
    affine = np.eye(4)
    affine[:3, 2] = [0, math.sin(math.pi / 6), math.cos(math.pi / 6)]
    assert spacing_of(affine) == pytest.approx((1, 1, 1))
    assert voxel_volume(affine) == pytest.approx(math.cos(math.pi / 6))
    assert voxel_volume(np.diag([2.0, 3.0, 9.0, 1.0]), 2) == pytest.approx(6)
    mask = cube((9, 9, 9), 2, 7)
    row = one(mask, mask, voxel_volume=voxel_volume(affine))
    assert row["volume_ml"] == pytest.approx(0.125 * math.cos(math.pi / 6))


@pytest.mark.parametrize("volume", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_voxel_volume_is_refused(volume: float) -> None:
    mask = cube((4, 4, 4), 1, 3)
    with pytest.raises(DataError, match="voxel_volume"):
        evaluate_case(mask, mask, voxel_volume=volume)
