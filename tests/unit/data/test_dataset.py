"""Reading the project's layout: pairs by entry, groups, limits, and clear refusals."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tiny_dataset as tiny
from PIL import Image

from lunet.data.dataset import read_dataset
from lunet.data.io.images import (
    LabelRule,
    RoundedLabels,
    class_indices,
    code_book,
    read_image,
    read_label,
    read_raw,
)
from lunet.data.layouts.open import open_dataset
from lunet.data.settings import DatasetSettings
from lunet.errors import ConfigError, DataError
from lunet.task import Task


def listed(root: Path, **changes: object) -> Path:
    root.mkdir(exist_ok=True)
    tiny.write_listing(root, ["hippocampus_001", "hippocampus_002", "hippocampus_003"], **changes)
    return root


def test_pairs_follow_the_entries_not_the_folders(tmp_path: Path) -> None:
    training = [
        {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
        {"image": "./imagesTr/._a.nii.gz", "label": "./labelsTr/._a.nii.gz"},
    ]
    dataset = read_dataset(listed(tmp_path, training=training, test=["./imagesTs/c.nii.gz"]))
    assert [case.id for case in dataset.cases] == ["b", "a", "c"]
    assert all(
        case.label is None or case.label.name == case.images[0].name for case in dataset.cases
    )
    assert [case.labelled for case in dataset.cases] == [True, True, False]
    assert dataset.task == Task(("MRI",), {"front": 1, "back": 2})


def test_sides_of_one_subject_share_their_group(tmp_path: Path) -> None:
    dataset = read_dataset(listed(tmp_path), DatasetSettings(name="Task04_Hippocampus"))
    groups = [case.group for case in dataset.cases]
    assert groups[0] == groups[1] != groups[2]


def test_limit_counts_subjects(tmp_path: Path) -> None:
    settings = DatasetSettings(name="Task04_Hippocampus", limit=1)
    assert len(read_dataset(listed(tmp_path), settings).cases) == 2


def test_groups_by_pattern(tmp_path: Path) -> None:
    settings = DatasetSettings(name="own", path="x", groups=r"^(hippo)")
    assert {case.group for case in read_dataset(listed(tmp_path), settings).cases} == {"hippo"}
    with pytest.raises(ConfigError, match="finds no group"):
        read_dataset(tmp_path, DatasetSettings(name="own", path="x", groups=r"(\d{9})"))


def test_a_file_per_channel(tmp_path: Path) -> None:
    training = [{"image": ["i/s_0000.nii.gz", "i/s_0001.nii.gz"], "label": "l/s.nii.gz"}]
    case = read_dataset(listed(tmp_path, training=training)).cases[0]
    assert (case.id, len(case.images)) == ("s", 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": "x"}, "training: found 'x', a list is expected"),
        ({"training": [{"image": 3}]}, r"training\[0\]: image: found 3, a text or a list"),
        ({"training": [{"image": "a.nii.gz", "label": 3}]}, r"training\[0\]: label: found 3"),
        ({"training": [{"image": []}]}, r"training\[0\]: image \[\], a file name"),
        ({"test": ["./imagesTr/hippocampus_001.nii.gz"]}, "two cases are called 'hippocampus_001'"),
        ({"labels": {}}, "labels: empty"),
        ({"labels": {"x": "front"}}, "whole numbers"),
        ({"modality": None}, "modality: found None, a mapping"),
        ({"remap": {"a": 1}}, "remap"),
    ],
)
def test_wrong_listings_are_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(listed(tmp_path, **changes))


def test_no_listing_points_to_import(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="lunet import"):
        read_dataset(tmp_path)


def test_listing_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_dataset(tmp_path)


def test_extras_of_the_listing(tmp_path: Path) -> None:
    extras = {"remap": {"4": 2}, "regions": {"all": [1, 2]}, "dimensions": 2}
    dataset = read_dataset(listed(tmp_path, **extras))
    assert dataset.rule == LabelRule({4: 2})
    assert (dataset.task.regions, dataset.task.dimensions) == ({"all": (1, 2)}, 2)


@pytest.mark.parametrize("name", ["x.nrrd", "x.mha", "x.nii.gz", "x.nii"])
def test_formats_agree(tmp_path: Path, name: str) -> None:
    import SimpleITK as sitk

    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    image = sitk.GetImageFromArray(array.T)
    image.SetSpacing((1.5, 2, 3))
    image.SetOrigin((-10, 20, 30))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    for file in ("reference.nii.gz", name):
        sitk.WriteImage(image, str(tmp_path / file))
    reference = read_raw(tmp_path / "reference.nii.gz")
    found = read_raw(tmp_path / name)
    np.testing.assert_array_equal(found[0], array)
    np.testing.assert_array_equal(reference[0], array)
    np.testing.assert_allclose(found[1], reference[1], atol=1e-5)


def test_picture_axes(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    scan = read_image([tmp_path / "x.png"])
    assert scan.array.shape == (1, 3, 2)
    np.testing.assert_array_equal(scan.array[0], pixels.T)


def test_palettes_are_colours_of_images_and_indices_of_labels(tmp_path: Path) -> None:
    indices = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([10, 10, 10, 200, 200, 200, 90, 90, 90])
    picture.save(tmp_path / "p.png")
    grey = np.array([10, 200, 90])[indices].T
    np.testing.assert_array_equal(read_image([tmp_path / "p.png"]).array[0], grey)
    np.testing.assert_array_equal(read_label(tmp_path / "p.png")[0], indices.T)


def test_what_is_no_single_image_is_refused(tmp_path: Path) -> None:
    page = Image.fromarray(np.zeros((4, 5), np.uint8))
    page.save(tmp_path / "stack.tif", save_all=True, append_images=[page, page])
    with pytest.raises(DataError, match="3 pages"):
        read_image([tmp_path / "stack.tif"])
    rgb = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for array, what in ((rgb, "colours"), (np.zeros((3, 4, 5), np.complex64), "complex numbers")):
        tiny.save(tmp_path / "x.nii.gz", array)
        with pytest.raises(DataError, match=f"voxels are {what}"):
            read_image([tmp_path / "x.nii.gz"])


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<f4", ">f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_values_are_those_of_nibabel(tmp_path: Path, dtype: str, suffix: str) -> None:
    """Read in slabs, with their scale, whatever the dtype and byte order on disk."""
    array = np.random.default_rng(0).integers(0, 200, (5, 7, 37)).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(array.shape)
    header.set_slope_inter(0.25, -1024)
    header.set_data_offset(352)
    path = tmp_path / f"x{suffix}"
    content = header.binaryblock.ljust(352, b"\0") + array.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    found = read_image([path]).array
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[0], nib.load(path).get_fdata(dtype=np.float32))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        read_image([path])


def test_colour_pictures_give_three_channels(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert read_image([tmp_path / "grey.png"]).array.shape == (1, 3, 2)
    grey[0, 0, 0] = 200
    Image.fromarray(grey).save(tmp_path / "colour.png")
    assert read_image([tmp_path / "colour.png"]).array.shape == (3, 3, 2)


def test_channels_on_different_grids_are_refused(tmp_path: Path) -> None:
    tiny.save(tmp_path / "a.nii.gz", np.ones(tiny.SHAPE, np.float32))
    tiny.save(tmp_path / "b.nii.gz", np.ones(tiny.SHAPE, np.float32), np.diag([1, 1, 2, 1.0]))
    with pytest.raises(DataError, match=r"b\.nii\.gz.*away from"):
        read_image([tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"])


def test_label_rule() -> None:
    rule = code_book({"LV": 1, "RV": 2, "LA": 3}, {500: 1, 600: 2, 421: 3, 420: 3})
    raw = np.array([[0, 500], [600, 420]])
    np.testing.assert_array_equal(class_indices(raw, rule, "x"), [[0, 1], [2, 3]])
    # 1 is a class index of ours but no code of theirs: never taken for a structure
    with pytest.raises(DataError, match="1"):
        class_indices(np.array([0, 1]), rule, "x")
    with pytest.raises(DataError, match="700"):
        class_indices(np.array([0, 700]), rule, "x")
    # outside of published code books a value that is not named stays
    merged = class_indices(np.array([0, 1, 2]), LabelRule({2: 1}), "x")
    np.testing.assert_array_equal(merged, [0, 1, 1])
    soft = np.array([0.0, 0.4, 0.6])
    np.testing.assert_array_equal(class_indices(soft, LabelRule(threshold=0.5), "x"), [0, 0, 1])
    with pytest.raises(DataError, match="mask_threshold"):
        class_indices(soft, LabelRule(), "x")


def test_a_threshold_is_for_one_structure(tmp_path: Path) -> None:
    root = listed(tmp_path, mask_threshold=0.5, labels={"0": "background", "1": "all"})
    assert read_dataset(root).rule == LabelRule({}, 0.5)
    settings = DatasetSettings(name="x", path="x", mask_threshold=1.0)
    two = listed(tmp_path / "two")
    for opened in (read_dataset, open_dataset):
        with pytest.raises(ConfigError, match=r"mask_threshold: 1, but the labels are"):
            opened(two, settings)


def test_values_that_drifted_are_rounded_with_a_warning() -> None:
    raw = np.array([0, 0.9999999, 1.9999998, 3.0004], np.float32)
    with pytest.warns(RoundedLabels, match=r"up to 0\.0004 off"):
        found = class_indices(raw, LabelRule({3: 1}), "x")
    np.testing.assert_array_equal(found, [0, 1, 2, 1])
    with pytest.raises(DataError, match=r"0\.998, 2"):
        class_indices(np.array([0, 0.998, 2]), LabelRule(), "x")
    with pytest.raises(DataError, match="nan"):
        class_indices(np.array([0, np.nan, 2]), LabelRule(), "x")


def test_label_with_singleton_axis(tmp_path: Path) -> None:
    tiny.save(tmp_path / "a.nii.gz", np.ones((*tiny.SHAPE, 1), np.float64))
    array, _ = read_label(tmp_path / "a.nii.gz")
    assert array.shape == tiny.SHAPE
    assert array.dtype == np.uint8


def test_listing_survives_unknown_keys(tmp_path: Path) -> None:
    root = listed(tmp_path, relase="1.0", note="x")
    assert json.loads((root / "dataset.json").read_text())["relase"] == "1.0"
    assert len(read_dataset(root).cases) == 3
