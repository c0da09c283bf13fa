"""AMOS22, FLARE22, ACDC, KiTS23, BTCV and TotalSegmentator as published: names, pairs, subjects."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lunet.cli import main
from lunet.data.catalog_table import CATALOG
from lunet.data.dataset import Dataset
from lunet.data.download.download import download
from lunet.data.folds import SplitCase, make_splits
from lunet.data.layouts.open import open_dataset
from lunet.data.settings import DatasetSettings, SplitSettings
from lunet.errors import DataError

AFFINE = np.diag([0.8, 0.8, 2.5, 1.0])


def save(path: Path, *values: int, shape: tuple[int, ...] = (4, 5, 3)) -> Path:
    """A volume with these values in its first voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = np.zeros(shape, np.int16)
    volume.flat[: len(values)] = values
    nib.save(nib.Nifti1Image(volume, AFFINE), path)
    return path


def opened(root: Path, name: str) -> Dataset:
    return open_dataset(root, DatasetSettings(name=name, path=str(root)))


def labels_of(dataset: Dataset) -> dict[str, str]:
    """Case -> the name of its label file."""
    return {case.id: case.label.name for case in dataset.cases if case.label}


def test_amos22(tmp_path: Path) -> None:
    pairs = []
    for name in ("amos_0001", "amos_0507"):
        for folder in ("imagesTr", "labelsTr"):
            save(tmp_path / folder / f"{name}.nii.gz", 1, 15)
        pairs.append({"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"})
    labels = {"0": "background"} | {str(i): n for n, i in CATALOG["AMOS22"].labels.items()}
    listing = {"name": "AMOS", "modality": {"0": "CT"}, "labels": labels, "training": pairs}
    (tmp_path / "dataset.json").write_text(json.dumps(listing | {"test": []}))
    dataset = opened(tmp_path, "AMOS22")
    assert labels_of(dataset) == {n: f"{n}.nii.gz" for n in ("amos_0001", "amos_0507")}
    assert len(dataset.task.labels) == 15


def test_flare22(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path / f"images/FLARE22_Tr_{number:04d}_0000.nii.gz", 40)
        save(tmp_path / f"labels/FLARE22_Tr_{number:04d}.nii.gz", *range(14))
    settings = CATALOG["FLARE22"]
    dataset = open_dataset(
        tmp_path,
        DatasetSettings(name="FLARE22", labels=settings.labels, channels=("CT",)),
        settings.layout,
    )
    assert labels_of(dataset) == {
        "FLARE22_Tr_0001_0000": "FLARE22_Tr_0001.nii.gz",
        "FLARE22_Tr_0002_0000": "FLARE22_Tr_0002.nii.gz",
    }
    assert list(dataset.task.labels)[-1] == "left kidney"


def test_acdc_has_two_frames_of_a_patient_and_leaves_the_cine_out(tmp_path: Path) -> None:
    for patient in ("patient001", "patient002", "patient003", "patient004"):
        folder = tmp_path / "training" / patient
        save(folder / f"{patient}_4d.nii.gz", shape=(4, 5, 3, 6))
        for frame in ("01", "12"):
            save(folder / f"{patient}_frame{frame}.nii.gz", 90)
            save(folder / f"{patient}_frame{frame}_gt.nii.gz", 1, 2, 3)
    dataset = opened(tmp_path, "ACDC")
    assert dataset.task.labels == {"RV": 1, "Myo": 2, "LV": 3}
    assert len(dataset.cases) == 8
    assert labels_of(dataset)["patient001_frame12"] == "patient001_frame12_gt.nii.gz"
    assert {case.group for case in dataset.cases} == {f"patient00{n}" for n in range(1, 5)}
    cases = [SplitCase(case.id, case.group, 6) for case in dataset.cases]
    for fold in make_splits(cases, SplitSettings(folds=2)).folds:
        parts = [{name[:10] for name in part} for part in (fold.train, fold.validation, fold.test)]
        assert not parts[0] & parts[2]
        assert not parts[0] & parts[1]


def test_kits23_is_trained_on_the_classes_that_it_ranks_by(tmp_path: Path) -> None:
    for case in ("case_00000", "case_00588"):
        save(tmp_path / "dataset" / case / "imaging.nii.gz", 30)
    save(tmp_path / "dataset/case_00000/segmentation.nii.gz", 1, 2, 3)
    save(tmp_path / "dataset/case_00000/instances/kidney_instance-1.nii.gz", 1)
    dataset = opened(tmp_path, "KiTS23")
    assert labels_of(dataset) == {"case_00000": "segmentation.nii.gz"}
    assert [case.id for case in dataset.cases if not case.label] == ["case_00588"]
    assert dataset.task.structures["masses"] == (2, 3)


def test_btcv(tmp_path: Path) -> None:
    root = tmp_path / "RawData"
    save(root / "Training/img/img0001.nii.gz", 30)
    save(root / "Training/label/label0001.nii.gz", 1, 13)
    save(root / "Testing/img/img0061.nii.gz", 30)
    dataset = opened(tmp_path, "BTCV")
    assert labels_of(dataset) == {"img0001": "label0001.nii.gz"}
    assert [case.listed_as for case in dataset.cases] == ["test", "training"]
    assert dataset.task.labels["portal and splenic vein"] == 10


def test_two_challenges_in_one_folder_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "case_00000/imaging.nii.gz", 30)
    save(tmp_path / "img/img0001.nii.gz", 30)
    with pytest.raises(DataError, match="subjects of KiTS23 and BTCV"):
        open_dataset(tmp_path, layout="per_subject")


def test_the_masks_of_totalsegmentator_become_one_label(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for case in ("s0000", "s0001"):
        save(source / case / "ct.nii.gz", 30)
        save(source / case / "segmentations/liver.nii.gz", 0, 1, 1)
        save(source / case / "segmentations/spleen.nii.gz", 1)
        save(source / case / "segmentations/heart.nii.gz", 0, 0, 0, 1)
    words = ["import", str(source), "--layout", "totalsegmentator", "--labels", "spleen=1"]
    assert main([*words, "liver=2", "--out", str(tmp_path / "raw")]) == 0
    label = np.asarray(nib.load(tmp_path / "raw/labelsTr/s0001.nii.gz").dataobj)
    assert label.ravel()[:4].tolist() == [1, 2, 2, 0]
    dataset = open_dataset(tmp_path / "raw")
    assert [case.id for case in dataset.cases] == ["s0000", "s0001"]
    assert dataset.task.labels == {"spleen": 1, "liver": 2}
    assert not (tmp_path / "raw/merged").exists()


def test_a_structure_that_totalsegmentator_does_not_have_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "source/s0000/ct.nii.gz", 30)
    save(tmp_path / "source/s0000/segmentations/liver.nii.gz", 1)
    words = ["import", str(tmp_path / "source"), "--layout", "totalsegmentator"]
    assert main([*words, "--labels", "lever=1", "--out", str(tmp_path / "raw")]) == 2
    assert "lever.nii.gz: missing, each label is the name of a mask" in capsys.readouterr().err
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("name", "advice"),
    [("AMOS22", "Fetch it from https://zenodo"), ("BTCV", "Register at https://www.synapse")],
)
def test_where_a_data_set_is_fetched_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.delenv("LUNET_DATA", raising=False)
    with pytest.raises(DataError, match=advice):
        download(DatasetSettings(name=name), tmp_path / "raw", cache=tmp_path)
