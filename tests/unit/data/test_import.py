"""Other layouts become the project's by links, with their labels, regions and channels."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tiny_dataset as tiny
from PIL import Image

from lunet.cli import main
from lunet.data.audit.audit import audit
from lunet.data.catalog import task_of
from lunet.data.dataset import Dataset, read_dataset
from lunet.data.download.download import download
from lunet.data.ground_truth import read_reference
from lunet.data.io.images import read_label
from lunet.data.layouts.importing import write_project
from lunet.data.layouts.open import open_dataset
from lunet.data.prepare import prepare_dataset
from lunet.data.settings import DatasetSettings, PreprocessSettings
from lunet.errors import ConfigError, DataError

DATA = os.environ.get("LUNET_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="LUNET_TEST_DATA names no folder")
IMAGE, LABEL = tiny.volumes(1)


def own(**fields: object) -> DatasetSettings:
    return DatasetSettings(name="own", path="x", **fields)


def imported(source: Path, out: Path, settings: DatasetSettings | None = None) -> Dataset:
    """Through the files on disk, as a study reads it."""
    write_project(open_dataset(source, settings), out)
    return read_dataset(out)


def nnunet(root: Path, **changes: object) -> Path:
    for name in ("la_001", "la_002"):
        for channel in (0, 1):
            tiny.save(root / f"imagesTr/{name}_{channel:04d}.nii.gz", IMAGE)
        tiny.save(root / f"labelsTr/{name}.nii.gz", LABEL)
    tiny.save(root / "imagesTs/la_003_0000.nii.gz", IMAGE)
    tiny.save(root / "imagesTs/la_003_0001.nii.gz", IMAGE)
    listing = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "front": 1, "back": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(listing | changes))
    return root


def test_nnunet(tmp_path: Path) -> None:
    dataset = imported(nnunet(tmp_path / "Dataset007_Tiny"), tmp_path / "raw")
    assert [case.id for case in dataset.cases] == ["la_001", "la_002", "la_003"]
    assert [case.labelled for case in dataset.cases] == [True, True, False]
    assert dataset.task.channels == ("T1", "T2")
    assert dataset.task.labels == {"front": 1, "back": 2}
    assert all(path.is_symlink() for path in dataset.cases[0].images)
    assert [f for f in audit(dataset).findings if f.severity == "error"
            and not f.check.startswith("duplicate")] == []  # fmt: skip


def test_nnunet_regions(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
    source = nnunet(tmp_path / "n", labels=labels, regions_class_order=[1, 2, 3])
    task = imported(source, tmp_path / "raw").task
    assert task.regions == {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert task.labels == {"label_1": 1, "label_2": 2, "enhancing": 3}
    assert (task.out_channels, task.activation) == (3, "sigmoid")


def test_nnunet_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nnunet(tmp_path / "Dataset007_Tiny")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    for name in ("7", "Dataset007", "Dataset007_Tiny"):
        assert len(open_dataset(name).cases) == 3
    with pytest.raises(DataError, match="0 folders"):
        open_dataset("8")


def test_a_study_takes_its_task_from_a_raw_data_set_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nnunet(tmp_path / "Dataset007_Tiny")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    settings = DatasetSettings(name="mine", path="Dataset007")
    task = task_of(settings)
    assert (task.channels, task.labels) == (("T1", "T2"), {"front": 1, "back": 2})
    assert task_of(DatasetSettings(name="mine", path="7", labels={"x": 1})).labels == {"x": 1}
    out = download(settings, tmp_path / "raw", log=lambda line: None)
    dataset = read_dataset(out, settings)
    assert dataset.task == task
    assert [case.labelled for case in dataset.cases] == [True, True, False]
    with pytest.raises(DataError, match=r"dataset\.path: data set 8: 0 folders Dataset008"):
        task_of(DatasetSettings(name="mine", path="8"))
    (tmp_path / "Dataset007_Tiny" / "dataset.json").write_text('{"channel_names": {"0": "T1"}}')
    with pytest.raises(DataError, match="labels: missing"):
        task_of(settings)


def test_nnunet_listing_of_files(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "n")
    files = {"images": ["imagesTr/la_001_0000.nii.gz", "imagesTr/la_001_0001.nii.gz"],
             "label": "labelsTr/la_001.nii.gz"}  # fmt: skip
    nnunet(source, dataset={"one": files}, numTraining=1)
    assert [case.id for case in open_dataset(source).cases] == ["one", "la_003"]


@pytest.mark.parametrize("said", [1, 3])
def test_nnunet_cases_that_did_not_come(tmp_path: Path, said: int) -> None:
    source = nnunet(tmp_path / "n", numTraining=said)
    with pytest.raises(DataError, match=f"numTraining: {said}, but 2 training cases were found"):
        open_dataset(source)


def test_nnunet_refusals(tmp_path: Path) -> None:
    source = nnunet(tmp_path / "n")
    (source / "imagesTr/la_002_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"la_002_0001\.nii\.gz: subject la_002 has no channel 1"):
        open_dataset(source)
    with pytest.raises(DataError, match=r"ignore.*remap=\{3: 0\}"):
        open_dataset(nnunet(source, labels={"background": 0, "a": 1, "ignore": 3}))


def test_bids(tmp_path: Path) -> None:
    root = tmp_path / "bids"
    for name in ("sub-01", "sub-02"):
        for kind in ("T1w", "T2w"):
            tiny.save(root / name / f"anat/{name}_{kind}.nii.gz", IMAGE)
        mask = root / f"derivatives/labels/{name}/anat/{name}_T2w_dseg.nii.gz"
        tiny.save(mask, LABEL)
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t50\nsub-02\t60\n")
    (root / "derivatives/labels/dseg.tsv").write_text("index\tname\n1\tfront\n2\tback\n")
    dataset = imported(root, tmp_path / "raw")
    assert dataset.task.channels == ("T1w", "T2w")
    assert dataset.task.labels == {"front": 1, "back": 2}
    assert [case.group for case in dataset.cases] == ["sub-01", "sub-02"]
    assert all(case.labelled for case in dataset.cases)
    assert len(open_dataset(root, own(channels=("T2w",))).cases[0].images) == 1
    (root / "sub-02/anat/sub-02_T1w.nii.gz").unlink()
    with pytest.raises(DataError, match=r"subject sub-02 has 0 files sub-02\*_T1w"):
        open_dataset(root, own(channels=("T1w", "T2w")))
    (root / "participants.tsv").write_text("participant_id\nsub-01\nsub-09\n")
    with pytest.raises(DataError, match="sub-09 has no images"):
        open_dataset(root)


def brats(root: Path, *, year: int, codes: tuple[int, ...]) -> Path:
    kinds = ("flair", "t1", "t1ce", "t2") if year == 2021 else ("t1c", "t1n", "t2f", "t2w")
    label = np.zeros(tiny.SHAPE, np.uint8)
    for index, code in enumerate(codes):
        label[2 + index, 3:9, 3:9] = code
    for number in (0, 1):
        name = f"BraTS2021_{number:05d}" if year == 2021 else f"BraTS-GLI-{number:05d}-000"
        stem = name + ("_" if year == 2021 else "-")
        for kind in kinds:
            tiny.save(root / name / f"{stem}{kind}.nii.gz", IMAGE)
        tiny.save(root / name / f"{stem}seg.nii.gz", label)
    return root


def test_brats_2021_codes_become_ours(tmp_path: Path) -> None:
    dataset = imported(brats(tmp_path / "b", year=2021, codes=(1, 2, 4)), tmp_path / "raw")
    assert dataset.task.channels == ("flair", "t1", "t1ce", "t2")
    assert dataset.task.regions == {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
    label, _ = read_label(dataset.cases[0].label, dataset.rule)
    assert np.unique(label).tolist() == [0, 1, 2, 3]
    manifest = prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)
    assert np.unique(manifest.case(dataset.cases[0].id).label()).tolist() == [0, 1, 2, 3]
    assert np.unique(read_reference(manifest, dataset.cases[0].id)[0]).tolist() == [0, 1, 2, 3]


def test_brats_2023_needs_no_remap(tmp_path: Path) -> None:
    dataset = imported(brats(tmp_path / "b", year=2023, codes=(1, 2, 3)), tmp_path / "raw")
    assert dataset.task.channels == ("t2f", "t1n", "t1c", "t2w")
    assert dataset.cases[0].group == "BraTS-GLI-00000"
    assert np.unique(read_label(dataset.cases[0].label, dataset.rule)[0]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("year", "codes"), [(2021, (1, 2, 3)), (2023, (1, 2, 4))])
def test_brats_codes_of_the_other_edition_are_errors(tmp_path, year, codes) -> None:
    dataset = imported(brats(tmp_path / "b", year=year, codes=codes), tmp_path / "raw")
    assert "undeclared_label" in {f.check for f in audit(dataset).findings}
    with pytest.raises(DataError, match=f"{codes[-1]}"):
        prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)


def test_brats_missing_contrast(tmp_path: Path) -> None:
    root = brats(tmp_path / "b", year=2021, codes=(1,))
    (root / "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz").unlink()
    with pytest.raises(DataError, match=r"BraTS2021_00001_t1ce\.nii\.gz: subject BraTS2021_00001"):
        open_dataset(root)


def test_mmwhs(tmp_path: Path) -> None:
    root = tmp_path / "m"
    codes = (500, 600, 420, 550, 205, 820, 850)
    label = np.zeros(tiny.SHAPE, np.int16)
    for index, code in enumerate(codes):
        label[2 + index, 3:9, 3:9] = code
    for modality in ("ct", "mr"):
        stem = f"{modality}_train/{modality}_train_1001"
        tiny.save(root / f"{stem}_image.nii.gz", IMAGE)
        tiny.save(root / f"{stem}_label.nii.gz", label)
    with pytest.raises(DataError, match="MM-WHS_CT or MM-WHS_MR"):
        open_dataset(root)
    dataset = imported(root, tmp_path / "raw", DatasetSettings(name="MM-WHS_MR", path=str(root)))
    assert [case.id for case in dataset.cases] == ["mr_train_1001"]
    found, _ = read_label(dataset.cases[0].label, dataset.rule)
    assert np.unique(found).tolist() == list(range(8))
    for index, code in enumerate(codes, start=1):
        assert (found[label == code] == index).all()
    assert [f.check for f in audit(dataset).findings if f.severity == "error"] == []
    label[0, 0, 0] = 501
    tiny.save(root / "mr_train/mr_train_1001_label.nii.gz", label)
    with pytest.raises(DataError, match="501"):
        read_label(dataset.cases[0].label, dataset.rule)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_two_folders(tmp_path: Path, suffix: str) -> None:
    import SimpleITK as sitk

    root = tmp_path / "plain"
    for folder, array in (("images", IMAGE), ("masks", LABEL)):
        (root / folder).mkdir(parents=True)
        for name in ("p1_a", "p1_b", "p2_a"):
            end = "_mask" if folder == "masks" else ""
            image = sitk.GetImageFromArray(array.T)
            sitk.WriteImage(image, str(root / folder / f"{name}{end}{suffix}"))
    (root / "images/._p1_a.nii.gz").write_bytes(b"x")
    dataset = imported(root, tmp_path / "raw", own(groups=r"^(p\d)"))
    assert [case.group for case in dataset.cases] == ["p1", "p1", "p2"]
    assert dataset.task.labels == {"label_1": 1, "label_2": 2}
    manifest = prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)
    np.testing.assert_array_equal(manifest.case("p1_a").label()[::-1, ::-1], LABEL)


def test_channels_without_their_listing_do_not_become_cases(tmp_path: Path) -> None:
    for case in ("a", "b"):
        for channel in range(2):
            tiny.save(tmp_path / f"set/imagesTr/{case}_000{channel}.nii.gz", IMAGE)
        tiny.save(tmp_path / f"set/labelsTr/{case}.nii.gz", LABEL)
    with pytest.raises(DataError, match=r"a_0001.*2 images .* like a further channel"):
        open_dataset(tmp_path / "set", layout="folders")
    for case in ("a", "b"):  # numbered slices, each with its mask
        (tmp_path / f"set/labelsTr/{case}.nii.gz").unlink()
        for number in range(2):
            tiny.save(tmp_path / f"set/labelsTr/{case}_000{number}.nii.gz", LABEL)
    dataset = open_dataset(tmp_path / "set", layout="folders")
    assert [case.labelled for case in dataset.cases] == [True] * 4


def test_mask_without_image(tmp_path: Path) -> None:
    tiny.save(tmp_path / "images/a.nii.gz", IMAGE)
    tiny.save(tmp_path / "labels/b.nii.gz", LABEL)
    with pytest.raises(DataError, match=r"b\.nii\.gz: a mask without an image"):
        open_dataset(tmp_path)


def test_csv(tmp_path: Path) -> None:
    tiny.save(tmp_path / "f/t1.nii.gz", IMAGE)
    tiny.save(tmp_path / "f/t2.nii.gz", IMAGE)
    tiny.save(tmp_path / "f/seg.nii.gz", LABEL)
    path = tmp_path / "list.csv"
    rows = [["id", "subject", "image_T1", "image_T2", "label"],
            ["x", "s", "f/t1.nii.gz", "f/t2.nii.gz", "f/seg.nii.gz"]]  # fmt: skip
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    dataset = imported(path, tmp_path / "raw", own(labels={"front": 1, "back": 2}))
    case = dataset.cases[0]
    assert (case.id, case.group, len(case.images)) == ("x", "s", 2)
    assert dataset.task.channels == ("T1", "T2")
    path.write_text("image,label\nf/t1.nii.gz,f/gone.nii.gz\n")
    with pytest.raises(DataError, match=r"row 2: .*gone\.nii\.gz does not exist"):
        open_dataset(path)
    path.write_text("image,label\nf/t1.nii.gz,f\n")
    with pytest.raises(DataError, match=r"row 2: .*f is a folder"):
        open_dataset(path)
    path.write_text("image,label\n")
    with pytest.raises(DataError, match="lists no case"):
        open_dataset(path)
    path.write_text("picture\nx\n")
    with pytest.raises(DataError, match="columns picture"):
        open_dataset(path)


def test_pictures_and_lossy_masks(tmp_path: Path) -> None:
    root = tmp_path / "p"
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40)).astype(np.uint8)
    mask = np.zeros((30, 40), np.uint8)
    mask[9:20, 9:20] = 255
    for folder, array in (("images", pixels), ("masks", mask)):
        (root / folder).mkdir(parents=True)
        Image.fromarray(array).save(root / folder / "7_1.png")
    dataset = imported(root, tmp_path / "raw", own(labels={"tumour": 1}))
    assert dataset.task.dimensions == 2
    assert dataset.rule.remap == {255: 1}
    np.testing.assert_array_equal(read_label(dataset.cases[0].label, dataset.rule)[0], mask.T > 0)
    Image.fromarray(mask).save(root / "masks/7_1.jpg", quality=30)
    (root / "masks/7_1.png").unlink()
    with pytest.raises(DataError, match="--threshold 127"):
        open_dataset(root)
    lossy = imported(root, tmp_path / "lossy", own(mask_threshold=127.0))
    found, _ = read_label(lossy.cases[0].label, lossy.rule)
    assert np.unique(found).tolist() == [0, 1]
    assert (found == (mask.T > 0)).mean() > 0.99


def test_links_in_a_circle_are_links_without_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tiny.make(tmp_path / "raw", 3)
    label = raw / "labelsTr/case_02.nii.gz"
    label.unlink()
    label.symlink_to(label)
    for step in ("audit", "repair", "import", "preprocess"):
        code = main([step, str(raw), "--out", str(tmp_path / step)])
        told = "".join(capsys.readouterr())
        assert code in (0, 2), told
        assert "Traceback" not in told
        assert "case_02" in told


def test_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"notes\.txt.*decathlon.*nnunet.*bids.*brats.*csv"):
        open_dataset(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'nnunet'"):
        open_dataset(tmp_path, layout="nnunett")
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "gone")


def test_out_must_be_new_and_failures_leave_nothing(tmp_path: Path) -> None:
    source = tiny.make(tmp_path / "source", 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("x")
    with pytest.raises(ConfigError, match="full/file exists and was not written"):
        write_project(open_dataset(source), tmp_path / "full")
    for place in (source, tmp_path):
        with pytest.raises(ConfigError, match="is an input"):
            write_project(open_dataset(source), place)
    (source / "labelsTr/case_02.nii.gz").unlink()
    with pytest.raises(DataError, match="case_02"):
        write_project(open_dataset(source), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "source"]


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = nnunet(tmp_path / "Dataset007_Tiny")
    words = ["import", str(source), "--out", str(tmp_path / "raw"), "--remap", "2=1"]
    assert main([*words, "--labels", "all=1"]) == 0
    assert "3 cases, labels all 1" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "raw")
    assert np.unique(read_label(dataset.cases[0].label, dataset.rule)[0]).tolist() == [0, 1]
    assert main(["import", str(source), "--out", str(tmp_path / "x"), "--labels", "a"]) == 2


@needs_data
def test_real_slices(tmp_path: Path) -> None:
    source = Path(DATA) / "lung_tumour_slices"
    settings = own(labels={"tumour": 1}, groups=r"^(\d+)_")
    dataset = imported(source, tmp_path / "png", settings)
    assert (len(dataset.cases), len({case.group for case in dataset.cases})) == (13, 9)
    assert [f for f in audit(dataset).findings if f.severity == "error"] == []
    lossy = imported(
        source / "jpeg", tmp_path / "jpeg",
        own(labels={"tumour": 1}, groups=r"^(\d+)_", mask_threshold=127.0),
    )  # fmt: skip
    assert [f for f in audit(lossy).findings if f.severity == "error"] == []
    manifest = prepare_dataset(
        lossy, PreprocessSettings(normalise="minmax"), tmp_path / "p", log=lambda _: None
    )
    case = next(iter(manifest.cases.values()))
    assert case.image().shape == (1, 512, 512)
    assert np.unique(case.label()).tolist() == [0, 1]


@needs_data
def test_real_contrasts_share_a_mask(tmp_path: Path) -> None:
    folder = Path(DATA) / "spinal_cord_mr/multi_contrast"
    path = tmp_path / "list.csv"
    path.write_text(
        "id,image_T1w,image_T2w,label\n"
        f"unf01,{folder}/sub-unf01_T1w.nii.gz,{folder}/sub-unf01_T2w.nii.gz,"
        f"{folder}/sub-unf01_T2w_seg.nii.gz\n"
    )
    dataset = imported(path, tmp_path / "raw")
    assert [f for f in audit(dataset).findings if f.severity == "error"] == []
    manifest = prepare_dataset(dataset, PreprocessSettings(), tmp_path / "p", log=lambda _: None)
    assert manifest.case("unf01").image().shape == (2, 131, 141, 16)


@needs_data
@pytest.mark.parametrize(
    ("folder", "check", "file"),
    [
        ("image_without_label", "image_without_label", "hippocampus_118"),
        ("infinite_values", "not_finite", "mtr"),
        ("truncated_label", "shape_mismatch", "seg"),
    ],
)
def test_really_bad_files(folder: str, check: str, file: str) -> None:
    findings = audit(open_dataset(Path(DATA) / "bad" / folder)).findings
    assert any(f.check == check and f.severity == "error" and file in f.file for f in findings)


@needs_data
def test_really_foreign_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"hippocampus_281\.nii\.gz: a mask without an image"):
        open_dataset(Path(DATA) / "bad/foreign_label")
    shutil.copytree(Path(DATA) / "bad/foreign_label", tmp_path / "pair")
    shutil.unpack_archive(Path(DATA) / "Task04_Hippocampus.tar", tmp_path, filter="data")
    image = tmp_path / "Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz"
    (tmp_path / "pair/imagesTr").mkdir()
    shutil.copy(image, tmp_path / "pair/imagesTr/hippocampus_281.nii.gz")
    found = {f.check for f in audit(open_dataset(tmp_path / "pair")).findings}
    assert found >= {"shape_mismatch", "spacing_mismatch"}
    assert nib.load(image).shape == (35, 51, 35)
