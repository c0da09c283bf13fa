"""Prepared volumes: memory-mapped, checksummed, the same when made twice, refused when unfit."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny

from lunet.cli import main
from lunet.data import intact
from lunet.data.dataset import read_dataset
from lunet.data.ground_truth import read_reference
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError
from lunet.files import sha256

SETTINGS = PreprocessSettings(size=(24, 32, 16))


def quiet(text: str) -> None:
    """Say nothing."""


def prepare(root: Path, out: Path, settings: PreprocessSettings = SETTINGS) -> str:
    return prepare_dataset(read_dataset(root), settings, out, log=quiet).digest


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "raw", 3)


def test_contents(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert list(manifest.cases) == ["case_01", "case_02", "case_03"]
    case = manifest.case("case_02")
    image, label = case.image(), case.label()
    assert (image.shape, image.dtype) == ((1, 24, 32, 16), np.float32)
    assert (label.shape, label.dtype) == ((24, 32, 16), np.uint8)
    assert isinstance(image, np.memmap)
    assert isinstance(label, np.memmap)
    assert not image.flags.writeable
    assert case.shape == (24, 32, 16)
    assert case.spacing == (1, 1, 1)
    assert case.record["image_sha256"] == sha256(tmp_path / "out/images/case_02.npy")
    assert manifest.task.labels == {"front": 1, "back": 2}
    expected, affine = tiny.volumes(2)[1], tiny.AFFINE
    reference = read_reference(manifest, "case_02")
    np.testing.assert_array_equal(reference[0], expected)
    np.testing.assert_array_equal(reference[1], affine)
    np.testing.assert_array_equal(label[2:22, 4:28], expected)


def test_twice_gives_the_same_and_removes_what_is_gone(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first, text = prepare(raw, out), (out / "manifest.json").read_text()
    assert prepare(raw, out) == first
    assert (out / "manifest.json").read_text() == text
    tiny.write_listing(raw, ["case_01", "case_02"])
    assert prepare(raw, out) != first
    assert sorted(path.name for path in (out / "images").iterdir()) == [
        "case_01.npy", "case_02.npy"
    ]  # fmt: skip


def test_two_processes_at_once(raw: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2) as pool:
        digests = list(pool.map(prepare, [raw] * 2, [tmp_path / "out"] * 2))
    assert len({*digests, read_manifest(tmp_path / "out").digest}) == 1
    assert not list((tmp_path / "out").rglob(".part-*"))


def test_the_folder_can_be_moved_with_its_raw_data(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    for name in ("raw", "out"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    assert read_reference(read_manifest(tmp_path / "moved/out"), "case_01")[0].any()


def test_a_crop_that_cuts_labels_is_an_error_unless_it_is_accepted(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    settings = PreprocessSettings(size=(20, 12, 16))
    with pytest.raises(DataError, match=r"20x12x16 voxels cuts .* case_01 \d+ %.*crop_labels"):
        prepare_dataset(read_dataset(raw), settings, tmp_path / "out", log=said.append)
    assert not (tmp_path / "out/manifest.json").exists()
    accepted = replace(settings, crop_labels=True)
    manifest = prepare_dataset(read_dataset(raw), accepted, tmp_path / "out", log=said.append)
    assert said[-1].startswith("warning: the crop to 20x12x16 voxels cuts label voxels off")
    command = ["folds", "--manifest", str(manifest.path), "--out", str(tmp_path / "splits.json")]
    assert main([*command, "--set", "split.folds=3", "--set", "folds=[0]"]) == 0
    assert said[-1] in capsys.readouterr().out
    record = manifest.case("case_01").record
    total = int((tiny.volumes(1)[1] > 0).sum())
    assert 0 < record["foreground_lost"] < total
    assert record["foreground"] + record["foreground_lost"] == total


def test_unlabelled_cases_are_prepared_too(raw: Path, tmp_path: Path) -> None:
    tiny.write_listing(raw, ["case_01"], test=["./imagesTr/case_02.nii.gz"])
    prepare(raw, tmp_path / "out")
    case = read_manifest(tmp_path / "out").case("case_02")
    assert not case.labelled
    assert case.raw_label is None
    with pytest.raises(DataError, match="no label"):
        case.label()


@pytest.mark.parametrize(
    ("file", "array", "message"),
    [
        ("imagesTr/case_02.nii.gz", np.full(tiny.SHAPE, np.nan, np.float32), "case_02.*NaN"),
        ("labelsTr/case_02.nii.gz", np.full(tiny.SHAPE, 9, np.uint8), "case_02.*9.*declares"),
        ("labelsTr/case_02.nii.gz", np.zeros((4, 4, 4), np.uint8), "case_02.*4 x 4 x 4"),
    ],
)
def test_unfit_files_leave_no_manifest(raw, tmp_path, file, array, message) -> None:
    tiny.save(raw / file, array)
    with pytest.raises(DataError, match=message):
        prepare(raw, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


def test_missing_file(raw: Path, tmp_path: Path) -> None:
    (raw / "labelsTr/case_03.nii.gz").unlink()
    with pytest.raises(DataError, match=r"labelsTr/case_03\.nii\.gz: the file is missing"):
        prepare(raw, tmp_path / "out")


def test_broken_manifests(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing"):
        read_manifest(tmp_path / "nowhere.json")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="task: missing"):
        read_manifest(tmp_path)
    prepare(raw, tmp_path / "out")
    with pytest.raises(DataError, match="case_01"):
        read_manifest(tmp_path / "out").case("case_1")
    (tmp_path / "out/images/case_01.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DataError, match="not what was prepared"):
        read_manifest(tmp_path / "out").case("case_01").image()


def test_swapped_arrays_are_refused(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "out")
    images = tmp_path / "out/images"
    first, second = images / "case_01.npy", images / "case_02.npy"
    times = [os.stat(path).st_mtime_ns for path in (first, second)]
    first.rename(images / "aside")
    second.rename(first)
    (images / "aside").rename(second)
    for path, time in zip((first, second), times, strict=True):
        os.utime(path, ns=(time, time))  # as a copy that keeps times may leave them
    manifest = read_manifest(tmp_path / "out")
    for name in ("case_01", "case_02"):
        with pytest.raises(DataError, match=f"{name}.*not what was prepared"):
            manifest.case(name).image()
    assert manifest.case("case_03").image().any()
    (tmp_path / "out/labels/case_03.npy").unlink()
    with pytest.raises(DataError, match=r"labels/case_03\.npy: missing"):
        manifest.case("case_03").label()


def test_an_array_is_read_for_its_digest_only_when_it_may_have_changed(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(raw, tmp_path / "out")
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(intact, "sha256", counted)
    for folder in ("out", "copy"):  # a copy has other inodes: each file is read once
        manifest = read_manifest(tmp_path / folder)
        monkeypatch.setattr(intact, "_KNOWN", {})  # a process of its own
        for _ in range(2):
            for case in manifest.cases.values():
                case.image()
                case.label()
        if folder == "out":
            assert read == []
            shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert sorted(read) == sorted([f"case_0{number}.npy" for number in (1, 2, 3)] * 2)
    monkeypatch.setattr(intact, "_KNOWN", {})
    (tmp_path / "copy" / intact.CHECKED).open("a").write('["images/case_01.npy", 1')  # killed
    assert read_manifest(tmp_path / "copy").case("case_01").image().any()
    assert len(read) == 6


def test_a_label_that_was_changed_since_is_no_reference(raw: Path, tmp_path: Path) -> None:
    prepare(raw, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    path = raw / "labelsTr/case_02.nii.gz"
    label, affine = read_reference(manifest, "case_02")
    tiny.save(path, label.astype(np.float32))  # the same label in another file
    np.testing.assert_array_equal(read_reference(manifest, "case_02")[0], label)
    for other, other_affine in (
        (np.where(label == 2, 1, label).astype(np.uint8), affine),
        (label, affine @ np.diag([1, 1, 1.01, 1])),
    ):
        tiny.save(path, other, other_affine)
        with pytest.raises(
            DataError, match=r"case_02\.nii\.gz: the label of case case_02 has changed"
        ):
            read_reference(manifest, "case_02")
    assert read_reference(manifest, "case_01")[0].any()


def test_command(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sections = {
        "dataset": {"name": "tiny", "path": str(raw)},
        "task": {"channels": ["MRI"], "labels": {"front": 1, "back": 2}},
        "preprocess": {"size": [24, 32, 16]},
    }
    out = tmp_path / "out"
    words = ["preprocess", str(raw), "--out", str(out), "--settings", json.dumps(sections)]
    assert main(words) == 0
    assert read_manifest(out).case("case_01").shape == (24, 32, 16)
    assert main(["preprocess", str(raw), "--out", os.fspath(tmp_path / "plain")]) == 0
    assert read_manifest(tmp_path / "plain").case("case_01").shape == tiny.SHAPE
    capsys.readouterr()


@pytest.mark.parametrize(
    ("change", "labels"),
    [
        ("preprocess.normalise=minmax", {"front": 1, "back": 2}),
        ("dataset.remap={2: 1}", {"front": 1, "back": 2}),
        ("dataset.labels={a: 1, b: 2}", {"a": 1, "b": 2}),
        ("dataset={name: x, path: x, channels: [MRI], labels: {c: 1, d: 2}}", {"c": 1, "d": 2}),
    ],
)
def test_a_changed_setting_leaves_the_data_set_its_labels(
    raw: Path, tmp_path: Path, change: str, labels: dict[str, int]
) -> None:
    assert main(["preprocess", str(raw), "--out", str(tmp_path / "out"), "--set", change]) == 0
    task = read_manifest(tmp_path / "out").task
    assert (dict(task.labels), task.channels) == (labels, ("MRI",))


def test_a_changed_setting_leaves_another_layout_its_labels(raw: Path, tmp_path: Path) -> None:
    (raw / "dataset.json").unlink()
    table = tmp_path / "list.csv"
    rows = [f"{n},raw/imagesTr/{n}.nii.gz,raw/labelsTr/{n}.nii.gz" for n in ("case_01", "case_02")]
    table.write_text("\n".join(["id,image_T2,label", *rows]))
    words = ["--out", str(tmp_path / "out"), "--set", "preprocess.normalise=minmax"]
    assert main(["preprocess", str(table), *words]) == 0
    task = read_manifest(tmp_path / "out").task
    assert (list(task.labels.values()), task.channels) == ([1, 2], ("T2",))


def test_slices_of_a_2d_task_are_stretches_of_the_file(raw: Path, tmp_path: Path) -> None:
    listing = json.loads((raw / "dataset.json").read_text()) | {"dimensions": 2}
    (raw / "dataset.json").write_text(json.dumps(listing))
    prepare(raw, tmp_path / "flat")
    case = read_manifest(tmp_path / "flat").case("case_01")
    image, label = case.image(), case.label()
    assert image[0, :, :, 3].T.flags.c_contiguous
    assert label[..., 3].T.flags.c_contiguous
    tiny.make(tmp_path / "raw3", 3)
    prepare(tmp_path / "raw3", tmp_path / "deep")
    deep = read_manifest(tmp_path / "deep").case("case_01")
    np.testing.assert_array_equal(deep.image(), image)
    np.testing.assert_array_equal(deep.label(), label)
