"""Preparing and going back: exact shapes and affines for every orientation and spacing."""

from __future__ import annotations

import gzip
import itertools
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import torchio as tio
from hypothesis import given, settings
from hypothesis import strategies as st

from lunet.data.geometry import Geometry, corner_shift, geometry_from_dict, plan_geometry
from lunet.data.intensity import normalise_in_place
from lunet.data.io.images import Scan, read_image, read_label, read_raw
from lunet.data.preprocess import prepare_image, prepare_label, to_native
from lunet.data.resampling import centred, to_raw, to_resampled
from lunet.data.settings import PreprocessSettings
from lunet.errors import ConfigError, DataError

DATA = os.environ.get("LUNET_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="LUNET_TEST_DATA names no folder")


def normalised(values: np.ndarray, settings: PreprocessSettings) -> np.ndarray:
    """A copy, clipped and normalised."""
    copy = np.array(values, np.float32)
    normalise_in_place(copy, settings)
    return copy


IDENTITY = PreprocessSettings(orientation="keep", clip=None, normalise="none")
ORIENTATIONS = [
    "".join(codes)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for codes in itertools.product(*axes)
]


def scan_of(codes: str = "RAS", shape: tuple[int, ...] = (7, 9, 5), spacing=(1, 1, 1)) -> Scan:
    """A random image whose voxel axes point along ``codes``."""
    rng = np.random.default_rng(0)
    array = rng.standard_normal((1, *shape)).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = (3, -4, 5)
    for axis, code in enumerate(codes):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[:3, axis] = 0
        affine[world, axis] = spacing[axis] * (1 if code in "RAS" else -1)
    return Scan(array, affine)


def world(geometry_affine: np.ndarray, index: tuple[int, ...]) -> np.ndarray:
    return geometry_affine[:3, :3] @ np.array(index) + geometry_affine[:3, 3]


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_round_trip_of_every_orientation_is_exact(codes: str) -> None:
    scan = scan_of(codes, spacing=(1, 2, 3))
    wanted = PreprocessSettings(clip=None, normalise="none", size=(16, 16, 16))
    array, geometry = prepare_image(scan, wanted)
    assert array.shape == (1, 16, 16, 16)
    assert nib.aff2axcodes(geometry.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(to_native(array, geometry), scan.array)
    # a voxel keeps its place in the world
    raw = tuple(int(i) for i in np.argwhere(scan.array[0] == scan.array[0].max())[0])
    prepared = tuple(int(i) for i in np.argwhere(array[0] == array[0].max())[0])
    np.testing.assert_allclose(world(geometry.affine, prepared), world(scan.affine, raw))


@pytest.mark.parametrize("codes", ["RAS", "LPI", "PSR", "SAL", "IRP"])
def test_round_trip_with_resampling(codes: str) -> None:
    shape, spacing = (24, 30, 8), (0.8, 0.8, 3.0)
    scan = scan_of(codes, shape, spacing)
    wanted = PreprocessSettings(spacing=(1, 1, 1.5), size=(40, 40, 40), clip=None)
    array, geometry = prepare_image(scan, wanted)
    assert array.shape == (1, 40, 40, 40)
    np.testing.assert_allclose(geometry.spacing, (1, 1, 1.5))
    label = np.zeros(shape, np.uint8)
    label[4:14, 6:20, 2:6] = 1
    label[14:20, 6:20, 2:6] = 2
    prepared, lost = prepare_label(label, geometry)
    assert lost == 0
    back = to_native(prepared, geometry)
    assert back.shape == label.shape
    assert back.dtype == np.uint8
    dice = [2 * ((back == k) & (label == k)).sum() / ((back == k).sum() + (label == k).sum())
            for k in (1, 2)]  # fmt: skip
    assert min(dice) > 0.88
    for k in (1, 2):  # the volume in mm³ is kept, and so is the centre of mass
        volume = (prepared == k).sum() * np.prod(geometry.spacing)
        assert volume == pytest.approx((label == k).sum() * np.prod(spacing), rel=0.15)
        centres = [
            world(affine, np.argwhere(mask == k).mean(0))
            for affine, mask in ((geometry.affine, prepared), (scan.affine, label))
        ]
        np.testing.assert_allclose(*centres, atol=0.5)


@settings(max_examples=60)
@given(
    codes=st.sampled_from(ORIENTATIONS),
    target=st.sampled_from(["RAS", "LPS", "ASR", "keep"]),
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    size=st.none() | st.tuples(*[st.integers(1, 14)] * 3),
    spacing=st.just("keep") | st.tuples(*[st.floats(0.5, 3)] * 3),
)
def test_geometry_properties(codes, target, shape, size, spacing) -> None:
    scan = scan_of(codes, shape, (0.9, 1.3, 2.1))
    geometry = plan_geometry(shape, scan.affine, orientation=target, spacing=spacing, size=size)
    assert geometry_from_dict(geometry.as_dict()) == geometry
    prepared = centred(to_resampled(scan.array[0], geometry), geometry.shape)
    assert prepared.shape == geometry.shape
    assert to_raw(prepared, geometry).shape == shape
    if target != "keep":
        assert "".join(nib.aff2axcodes(geometry.affine)) == target
    # the centre of the resampled volume is that of the raw one
    centre = np.array(geometry.offset) + (np.array(geometry.resampled) - 1) / 2
    raw_centre = world(scan.affine, tuple((n - 1) / 2 for n in shape))
    np.testing.assert_allclose(world(geometry.affine, tuple(centre)), raw_centre, atol=1e-6)
    kept = size is None or all(s >= n for s, n in zip(size, geometry.resampled, strict=True))
    if kept and not geometry.resamples:
        np.testing.assert_array_equal(to_raw(prepared, geometry), scan.array[0])


def test_identity_is_bit_exact() -> None:
    scan = scan_of("PIR")
    array, geometry = prepare_image(scan, IDENTITY)
    assert array.tobytes() == scan.array.tobytes()
    assert to_native(array, geometry).tobytes() == scan.array.tobytes()
    np.testing.assert_array_equal(geometry.affine, scan.affine)


def test_the_same_as_torchio_s_transforms_in_a_row() -> None:
    scan = scan_of("PIR", (12, 9, 14), (1.5, 2, 1))
    wanted = PreprocessSettings(spacing=(0.8, 1.4, 1.2), size=(13, 21, 9))
    array, geometry = prepare_image(scan, wanted)
    pipeline = tio.Compose(
        [
            tio.ToCanonical(),
            tio.Resample((geometry.resampled, geometry.resampled_affine), "bspline"),
            tio.RescaleIntensity((0, 1), percentiles=(0.5, 99.5)),
            tio.ZNormalization(),
            tio.CropOrPad(wanted.size),
        ]
    )
    image = pipeline(tio.ScalarImage(tensor=torch.from_numpy(scan.array), affine=scan.affine))
    np.testing.assert_allclose(image.affine, geometry.affine, atol=1e-9)
    np.testing.assert_allclose(image.numpy(), array, atol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        {"normalise": "zscore"},
        {"normalise": "zscore_nonzero"},
        {"normalise": "minmax"},
        {"normalise": "minmax", "window": (0, 900)},
        {"normalise": "none", "window": (-100, 400)},
    ],
)
def test_intensities_as_torchio_s(fields: dict) -> None:
    values = np.random.default_rng(0).normal(300, 200, (9, 8, 7)).astype(np.float32)
    values[:3] = 0
    wanted = PreprocessSettings(**fields)
    inside = torch.from_numpy(values != 0)[None]
    shown = values[values != 0] if wanted.normalise == "zscore_nonzero" else values
    low, high = wanted.window or np.percentile(shown, wanted.clip)
    chain = {
        "zscore": [tio.ZNormalization()],
        "zscore_nonzero": [
            tio.ZNormalization(masking_method=lambda _: inside),
            tio.Mask(masking_method=lambda _: inside),
        ],
        "minmax": [tio.RescaleIntensity((0, 1), in_min_max=wanted.window)],
        "none": [],
    }[wanted.normalise]
    image = tio.ScalarImage(tensor=torch.from_numpy(values[None].copy()))
    expected = tio.Compose([tio.Clamp(float(low), float(high)), *chain])(image).numpy()[0]
    np.testing.assert_allclose(normalised(values, wanted), expected, atol=2e-5)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.4, 0.9, 2.0), (3.1, 0.7, 1)])
@pytest.mark.parametrize("shape", [(60, 34, 20), (20, 90, 3), (41, 1, 70)])
@pytest.mark.parametrize("interpolation", ["bspline", "linear", "nearest"])
def test_large_volumes_are_resampled_in_slabs(
    monkeypatch: pytest.MonkeyPatch, spacing, shape, interpolation
) -> None:
    scan = scan_of("PIR", shape, (0.8, 0.9, 1.2))
    array = scan.array[0] if interpolation != "nearest" else (scan.array[0] > 0).astype(np.uint8)
    geometry = plan_geometry(shape, scan.affine, spacing=spacing)

    def both_ways() -> list[np.ndarray]:
        found = to_resampled(array, geometry, interpolation=interpolation)
        return [found, to_raw(found, geometry, interpolation=interpolation)]

    whole = both_ways()
    monkeypatch.setattr("lunet.data.resampling._LARGEST", 4000)
    for one, two in zip(both_ways(), whole, strict=True):
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
        np.testing.assert_allclose(one, two, atol=2e-6)


@pytest.mark.parametrize(("axis", "other"), [(0, 1), (0, 2), (1, 2)])
def test_oblique_and_sheared_volumes_come_back(axis: int, other: int) -> None:
    """At 45 degrees the nearest orientation is a tie; shears are no rotations at all."""
    turn, shear = np.eye(4), np.eye(4)
    turn[[axis, axis, other, other], [axis, other, axis, other]] = np.sqrt(0.5)
    turn[axis, other] *= -1
    shear[axis, other] = 0.2
    for affine in (turn @ np.diag([1, 2, 3, 1]), shear @ np.diag([1, 2, 3, 1])):
        scan = Scan(scan_of().array, affine)
        plain = PreprocessSettings(clip=None, normalise="none", size=(12, 10, 11))
        array, geometry = prepare_image(scan, plain)
        np.testing.assert_array_equal(to_native(array, geometry), scan.array)
        label = (scan.array[0] > 0).astype(np.uint8)
        np.testing.assert_array_equal(to_native(prepare_label(label, geometry)[0], geometry), label)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (3, 20, 2)])
@pytest.mark.parametrize("spacing", [(0.4, 0.4, 0.4), (2.5, 3, 1.7), (9, 0.3, 9)])
def test_thin_volumes_keep_their_value_to_the_border(shape, spacing) -> None:
    scan = Scan(np.full((1, *shape), 5, np.float32), np.eye(4))
    wanted = PreprocessSettings(spacing=spacing, clip=None, normalise="none")
    array, geometry = prepare_image(scan, wanted)
    np.testing.assert_allclose(array, 5, rtol=1e-5)
    np.testing.assert_allclose(to_native(array, geometry), scan.array, rtol=1e-5)


def test_image_and_label_lie_on_one_grid_whatever_their_headers_say() -> None:
    """Origins that differ in the fourth digit, as in the Decathlon, move nothing."""
    shape = (11, 12, 13)
    label = np.zeros(shape, np.uint8)
    label[4:8, 4:8, 4:8] = 1
    affine = np.diag([0.7, 0.7, 1.1, 1])
    affine[:3, 3] = 3e-4
    wanted = PreprocessSettings(spacing=(1, 1, 1), clip=None, normalise="none", size=(9, 9, 16))
    array, geometry = prepare_image(Scan(label[None].astype(np.float32), affine), wanted)
    prepared, _ = prepare_label(label, geometry)
    assert prepared.shape == array.shape[1:]
    centres = [np.argwhere(mask).mean(axis=0) for mask in (prepared, array[0] > 0.5)]
    np.testing.assert_allclose(*centres, atol=0.51)


def test_class_indices_are_never_interpolated() -> None:
    label = np.random.default_rng(0).choice([0, 3, 200], (12, 13, 14)).astype(np.uint8)
    geometry = plan_geometry(label.shape, np.eye(4), spacing=(0.7, 1.3, 1), size=(20, 9, 14))
    prepared, lost = prepare_label(label, geometry)
    assert lost > 0  # 13 voxels of 1 mm are 10 of 1.3 mm, and 9 are kept
    assert prepared.dtype == np.uint8
    assert set(np.unique(prepared)) == {0, 3, 200}
    assert set(np.unique(to_native(prepared, geometry))) == {0, 3, 200}


def test_linear_image_is_resampled_exactly() -> None:
    ramp = np.broadcast_to(np.arange(20, dtype=np.float32)[:, None, None], (20, 6, 6))
    wanted = PreprocessSettings(spacing=(0.5, 1, 1), clip=None, normalise="none")
    array, geometry = prepare_image(Scan(ramp[None].copy(), np.eye(4)), wanted)
    places = np.array([world(geometry.affine, (i, 0, 0))[0] for i in range(array.shape[1])])
    inner = slice(12, -12)
    np.testing.assert_allclose(array[0, inner, 3, 3], places[inner], atol=1e-3)


def test_masked_background_stays_zero_when_resampled() -> None:
    array = np.zeros((1, 20, 20, 20), np.float32)
    array[0, 5:15, 5:15, 5:15] = np.random.default_rng(0).uniform(50, 100, (10, 10, 10))
    wanted = PreprocessSettings(spacing=(0.7, 0.7, 0.7), clip=None, normalise="zscore_nonzero")
    found, _ = prepare_image(Scan(array, np.eye(4)), wanted)
    inside = found[found != 0]
    assert inside.size == pytest.approx(1000 / 0.7**3, rel=0.15)
    assert abs(inside.mean()) < 0.05
    assert (found[0, :5] == 0).all()


def test_crop_then_back_fills() -> None:
    scan = scan_of(shape=(9, 9, 9))
    _, geometry = prepare_image(scan, PreprocessSettings(size=(5, 5, 5)))
    back = to_native(np.ones((5, 5, 5), np.uint8), geometry)
    assert (back.sum(), back[4, 4, 4], back[0, 0, 0]) == (125, 1, 0)
    probabilities = np.ones((2, 5, 5, 5), np.float32)
    filled = to_native(probabilities, geometry, fill=(0.25, 0.75))
    assert filled[:, 0, 0, 0].tolist() == [0.25, 0.75]


def test_thin_structures_survive_resampling() -> None:
    """A sheet of three voxels has no holes after resampling."""
    label = np.zeros((30, 30, 30), np.uint8)
    label[:, :, 14:17] = 3
    geometry = plan_geometry(label.shape, np.eye(4), spacing=(1.3, 1.3, 1.3))
    prepared, _ = prepare_label(label, geometry)
    assert set(np.unique(prepared)) == {0, 3}
    assert (prepared == 3).any(axis=2).all()


def test_two_axes_of_a_volume_can_be_sized_alone() -> None:
    array, _ = prepare_image(scan_of(shape=(8, 8, 5)), PreprocessSettings(size=(16, 12)))
    assert array.shape == (1, 16, 12, 5)


def test_pictures() -> None:
    picture = Scan(np.random.default_rng(0).random((1, 9, 7)).astype(np.float32), np.eye(4))
    array, geometry = prepare_image(picture, PreprocessSettings(size=(16, 16), normalise="minmax"))
    assert array.shape == (1, 16, 16)
    assert to_native(np.ones((16, 16), np.uint8), geometry).shape == (9, 7)
    assert (array.min(), array.max()) == (0, 1)


def test_normalisations() -> None:
    values = np.concatenate([np.zeros(50), np.linspace(10, 20, 50)]).astype(np.float32)
    plain = normalised(values, PreprocessSettings(clip=None))
    assert abs(plain.mean()) < 1e-6
    assert plain.std(ddof=1) == pytest.approx(1, abs=1e-5)
    inside = normalised(values, PreprocessSettings(clip=None, normalise="zscore_nonzero"))
    assert (inside[:50] == 0).all()
    assert inside[50:].std(ddof=1) == pytest.approx(1, abs=1e-5)
    window = normalised(values, PreprocessSettings(window=(12, 18), normalise="none"))
    assert (window.min(), window.max()) == (12, 18)
    clipped = normalised(values, PreprocessSettings(clip=(0, 50), normalise="none"))
    assert clipped.max() == pytest.approx(np.percentile(values, 50))


def test_a_window_maps_equal_hounsfield_units_to_equal_values() -> None:
    settings = PreprocessSettings(window=(-1350, 150), normalise="minmax")
    scan = np.array([-2000.0, -1350, -600, 150, 3000], np.float32)
    np.testing.assert_allclose(normalised(scan, settings), [0, 0, 0.5, 1, 1])
    # a scan without bone, and a slice of air alone, are seen with the same eyes
    np.testing.assert_allclose(normalised(scan[:3], settings), [0, 0, 0.5])
    np.testing.assert_allclose(normalised(np.full(4, -1000.0), settings), 350 / 1500)


@pytest.mark.parametrize(
    ("array", "changes", "error"),
    [
        (np.full((1, 4, 4, 4), 3.0), {}, "one value"),
        (np.array([[[[np.nan, 1.0]]]]), {}, "NaN or infinite"),
        (np.array([[[[np.inf, 1.0]]]]), {"normalise": "none"}, "NaN or infinite"),
        (np.ones((1, 4, 4, 4)), {"orientation": "RAX"}, "axis codes"),
        (np.ones((1, 4, 4, 4)), {"spacing": (1.0, 1.0, -1.0)}, "above 0"),
        (np.ones((1, 4, 4, 4)), {"size": (4, 4, 4, 4)}, "at most one for each of the 3 axes"),
        (np.ones((1, 4, 4, 4)), {"window": (3.0, 1.0)}, "low < high"),
        (np.ones((1, 4, 4, 4)), {"clip": (50.0, 40.0)}, "0 <= low"),
    ],
)
def test_unfit_images_and_settings(array, changes, error) -> None:
    scan = Scan(array.astype(np.float32), np.eye(4))
    with pytest.raises((DataError, ConfigError), match=error):
        prepare_image(scan, PreprocessSettings(**changes))


def test_singular_affine_and_channel_count() -> None:
    scan = scan_of()
    with pytest.raises(DataError, match="invertible"):
        prepare_image(Scan(scan.array, np.zeros((4, 4))), IDENTITY)
    with pytest.raises(DataError, match="2 are expected"):
        prepare_image(scan, IDENTITY, channels=2)


@needs_data
@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("spinal_cord_mr/t2/t2", "spinal_cord_mr/t2/t2_seg-manual"),
        ("spinal_cord_mr/t2s/t2s", "spinal_cord_mr/t2s/t2s_seg"),
        ("spleen_ct_crop/spleen2_ct", "spleen_ct_crop/spleen2_seg"),
    ],
)
def test_real_scans_return_to_their_own_grid(image: str, label: str) -> None:
    path = Path(DATA) / f"{image}.nii.gz"
    array, affine = read_label(Path(DATA) / f"{label}.nii.gz")
    size = (48, 48, 32) if "spinal" in image else (160, 160, 64)
    kept, geometry = prepare_image(path, PreprocessSettings(size=(176, 176, 64)))
    assert isinstance(geometry, Geometry)
    assert np.isfinite(kept).all()
    np.testing.assert_array_equal(to_native(prepare_label(array, geometry)[0], geometry), array)
    assert corner_shift(array.shape, affine, np.array(geometry.native_affine)) < 1e-3
    _, finer = prepare_image(path, PreprocessSettings(spacing=(1, 1, 2.5), size=size))
    back = to_native(prepare_label(array, finer)[0], finer)
    overlap = 2 * (back & array).sum() / (back.sum() + array.sum())
    assert back.shape == array.shape
    assert overlap > 0.85


def test_a_flipped_byte_of_a_compressed_file_is_found_by_its_checksum(tmp_path):
    values = np.random.default_rng(0).integers(0, 4, (12, 11, 10)).astype(np.uint8)
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    assert np.array_equal(read_raw(path)[0], values)
    # stored blocks: the flipped bit inflates to another voxel, and only the checksum knows
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    for read in (read_raw, lambda file: read_image([file]), read_label):
        with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read \(CRC check failed"):
            read(path)
