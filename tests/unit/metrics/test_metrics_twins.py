"""Agreement with the packages whose definitions lunet follows, and where they cannot be followed.

Tolerance: 1e-6 mm against MONAI's distances or, above 8 mm, the rounding of the float32 in which it
hands them out; 1e-9 mm against surface-distance and MedPy.
"""

from __future__ import annotations

import math
import warnings
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from metric_pairs import Pair, pairs

from lunet.metrics import nearest
from lunet.metrics.case import evaluate_case
from lunet.metrics.surfels import surfel_measures

pytestmark = pytest.mark.filterwarnings("ignore")  # the twins' own deprecations
REASON = "the test dependency that defines this metric is not installed"
FIXED = settings(
    max_examples=200,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
EMPTY = np.zeros((6, 7, 8), dtype=bool)
BALL = np.linalg.norm(np.indices((6, 7, 8)).T - (3, 3, 3), axis=-1).T <= 2


@pytest.fixture(scope="module")
def monai() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.metrics", reason=REASON)


@pytest.fixture(scope="module")
def surface_distance() -> ModuleType:
    """The package at 0.1, with the names that NumPy 2 and SciPy have dropped since."""
    from scipy import ndimage

    for module, name, value in (
        (np, "Inf", np.inf),
        (np, "NaN", np.nan),
        (ndimage, "filters", ndimage),
        (ndimage, "morphology", ndimage),
    ):
        if not hasattr(module, name):
            setattr(module, name, value)
    return pytest.importorskip("surface_distance.metrics", reason=REASON)


@pytest.fixture(scope="module")
def medpy() -> ModuleType:
    return pytest.importorskip("medpy.metric.binary", reason=REASON)


def ours(pair: Pair, *tolerances: float) -> pd.Series:
    return evaluate_case(
        pair.reference, pair.prediction, spacing=pair.spacing, tolerances=tolerances
    ).iloc[0]


def monai_value(function: object, pair: Pair, *args: object, **options: object) -> float:
    import torch

    tensors = [torch.from_numpy(m)[None, None] for m in (pair.prediction, pair.reference)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = function(  # type: ignore[operator]
            *tensors, *args, include_background=True, spacing=list(pair.spacing), **options
        )
    return float(found)


@pytest.mark.slow
def test_hd_hd95_assd_nsd_as_monai(monai: ModuleType) -> None:
    """MONAI's four functions; the test below shows that what is left is float32 rounding.

    HD95 has a wider tolerance because torch interpolates a percentile between two distances with
    a float32 weight, whose error grows with the number of surface voxels.
    """
    hausdorff, average = monai.compute_hausdorff_distance, monai.compute_average_surface_distance

    @FIXED
    @given(pairs())
    def check(pair: Pair) -> None:
        # No distance on the grids of the pairs is 0.83 mm: at a tie float32 would decide.
        nsd = monai_value(monai.compute_surface_dice, pair, [0.83], use_subvoxels=True)
        expected = {
            "hd": monai_value(hausdorff, pair),
            "assd": monai_value(average, pair, symmetric=True),
            "nsd_0.83": nsd,
        }
        row = ours(pair, 0.83)
        got = row[list(expected)].astype(float).to_dict()
        assert got == pytest.approx(expected, abs=1e-6, rel=1e-6)
        hd95 = monai_value(hausdorff, pair, percentile=95)
        assert row["hd95"] == pytest.approx(hd95, abs=1e-4)

    check()


def test_distances_as_monai_to_1e_6_mm(monai: ModuleType) -> None:
    """From MONAI's own surface distances, with percentiles and means in double precision."""
    import torch

    distances_of = monai.utils.get_edge_surface_distance

    @FIXED
    @given(pairs())
    def check(pair: Pair) -> None:
        masks = [torch.from_numpy(mask) for mask in (pair.prediction, pair.reference)]
        _, found, _ = distances_of(*masks, spacing=list(pair.spacing), symmetric=True)
        a, b = (distances.numpy().astype(float) for distances in found)
        expected = {
            "hd": max(a.max(), b.max()),
            "hd95": max(np.percentile(a, 95), np.percentile(b, 95)),
            "assd": np.concatenate([a, b]).mean(),
            "masd": (a.mean() + b.mean()) / 2,
        }
        row = ours(pair)[list(expected)].astype(float)
        assert row.to_dict() == pytest.approx(expected, abs=1e-6, rel=1.2e-7)

    check()


@pytest.mark.slow
@pytest.mark.parametrize("tree", [False, True])
def test_nsd_as_surface_distance(
    surface_distance: ModuleType, monkeypatch: pytest.MonkeyPatch, tree: bool
) -> None:
    monkeypatch.setattr(nearest, "_tree_pays", lambda *_: tree)

    @FIXED
    @given(pairs())
    def check(pair: Pair) -> None:
        found = surface_distance.compute_surface_distances(
            pair.reference, pair.prediction, pair.spacing
        )
        tolerances = (0.0, 0.3, 0.5, 1.0, 1.7, 2.5, 6.0)
        row = ours(pair, *tolerances)
        for tolerance in tolerances:
            expected = surface_distance.compute_surface_dice_at_tolerance(found, tolerance)
            assert row[f"nsd_{tolerance:g}"] == pytest.approx(expected, abs=1e-9), tolerance

    check()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.9, 5.0), (3.0, 0.2, 1.0)])
def test_surfel_areas_as_surface_distance(
    surface_distance: ModuleType, spacing: tuple[float, ...]
) -> None:
    tables = surface_distance.lookup_tables
    area = tables.create_table_neighbour_code_to_surface_area(spacing)
    length = tables.create_table_neighbour_code_to_contour_length(spacing[:2])
    np.testing.assert_allclose(surfel_measures(spacing), area, rtol=0, atol=1e-12)
    np.testing.assert_allclose(surfel_measures(spacing[:2]), length, rtol=0, atol=1e-12)


def test_hd_assd_masd_and_overlap_as_medpy(medpy: ModuleType) -> None:
    """MedPy has no MASD, but its two directed means."""

    @FIXED
    @given(pairs())
    def check(pair: Pair) -> None:
        one, other, spacing = pair.prediction, pair.reference, pair.spacing
        directed = medpy.asd(one, other, spacing), medpy.asd(other, one, spacing)
        expected = {
            "hd": medpy.hd(one, other, spacing),
            "assd": medpy.assd(one, other, spacing),
            "masd": sum(directed) / 2,
            "dice": medpy.dc(one, other),
            "iou": medpy.jc(one, other),
            "precision": medpy.precision(one, other),
            "recall": medpy.recall(one, other),
        }
        row = ours(pair)[list(expected)].astype(float)
        assert row.to_dict() == pytest.approx(expected, abs=1e-9)

    check()


def test_hd95_of_medpy_pools_both_directions(medpy: ModuleType) -> None:
    """A spur on the prediction alone: pooled with the reference's zeros it is diluted."""
    reference = np.zeros((20, 20, 20), dtype=bool)
    reference[5:10, 5:10, 5:10] = True
    prediction = reference.copy()
    prediction[10:18, 7, 7] = True
    pair = Pair(reference, prediction, (1.0, 1.0, 1.0))
    pooled = medpy.hd95(prediction, reference)
    assert ours(pair)["hd95"] > pooled + 1


def test_missed_structure_where_monai_has_no_number(monai: ModuleType) -> None:
    """MONAI's HD95 of a missed structure is NaN, which its mean drops: missing it is rewarded."""
    pair = Pair(BALL, EMPTY, (1.0, 1.0, 2.0))
    assert math.isnan(monai_value(monai.compute_hausdorff_distance, pair, percentile=95))
    row = ours(pair)
    assert row["status"] == "missed"
    assert row["hd95"] == row["assd"] == pytest.approx(math.sqrt(6**2 + 7**2 + 16**2))
    assert row["dice"] == 0


def test_spurious_structure_where_monai_has_no_number(monai: ModuleType) -> None:
    """MONAI's Dice of a structure invented in an empty reference is NaN by default."""
    pair = Pair(EMPTY, BALL, (1.0, 1.0, 1.0))
    import torch

    tensors = [torch.from_numpy(m)[None, None] for m in (pair.prediction, pair.reference)]
    assert math.isnan(float(monai.compute_dice(*tensors, include_background=True)))
    assert math.isnan(monai_value(monai.compute_hausdorff_distance, pair, percentile=95))
    row = ours(pair)
    assert (row["status"], row["dice"]) == ("spurious", 0.0)
    assert row["hd95"] == pytest.approx(math.sqrt(6**2 + 7**2 + 8**2))


@pytest.mark.parametrize("masks", [(BALL, EMPTY), (EMPTY, BALL), (EMPTY, EMPTY)])
def test_empty_masks_where_medpy_raises(medpy: ModuleType, masks: tuple) -> None:
    with pytest.raises(RuntimeError):
        medpy.hd95(*masks)
    status = ours(Pair(*masks, (1.0, 1.0, 1.0)))["status"]
    assert status == {2: "both_empty"}.get(
        sum(not m.any() for m in masks), "missed" if masks[0].any() else "spurious"
    )


@pytest.mark.parametrize("masks", [(BALL, EMPTY), (EMPTY, BALL)])
def test_one_empty_mask_has_an_nsd_of_0_in_both(surface_distance: ModuleType, masks: tuple) -> None:
    found = surface_distance.compute_surface_distances(*masks, (1.0, 1.0, 1.0))
    assert surface_distance.compute_surface_dice_at_tolerance(found, 1.0) == 0
    assert ours(Pair(*masks, (1.0, 1.0, 1.0)), 1.0)["nsd_1"] == 0
    assert surface_distance.compute_robust_hausdorff(found, 95) == math.inf
