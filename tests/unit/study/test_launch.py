"""What is noticed about the data when Snakemake starts, before any job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lunet.errors import DataError
from lunet.study.external import check_external, external_digest
from lunet.study.launch import source_warnings
from lunet.study.study import Study, study_of

LISTING = {
    "modality": {"0": "T1", "1": "T2"},
    "labels": {"0": "background", "1": "front", "2": "back"},
    "training": [],
}


def study(folder: Path, **dataset: Any) -> Study:
    return study_of(
        {
            "study": "s",
            "dataset": {"name": "mine", "path": str(folder / "data"), **dataset},
            "presets": ["unet_small_1f"],
            "roots": {"work": str(folder / "work"), "results": str(folder / "results")},
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset.json").write_text(json.dumps(LISTING))
    return tmp_path


def test_a_path_that_does_not_exist_is_refused_unless_the_data_are_here(tmp_path: Path) -> None:
    described = {"labels": {"front": 1}, "channels": ["T1"]}
    with pytest.raises(DataError, match=r"dataset\.path: .*data: does not exist"):
        list(source_warnings(study(tmp_path, **described)))
    (tmp_path / "work/s/raw").mkdir(parents=True)
    assert list(source_warnings(study(tmp_path, **described))) == []


def test_the_path_of_a_target_is_checked_too(folder: Path) -> None:
    elsewhere = {"name": "other", "path": str(folder / "none"), "labels": {"front": 1}}
    asked = {
        "dataset": elsewhere | {"channels": ["T1", "T2"]},
        "map": {"front": "front", "back": "background"},
    }
    mapping = {"study": "s", "dataset": {"name": "mine", "path": str(folder / "data")}}
    mapping |= {"presets": ["unet_small_1f"], "transfer": {"far": asked}}
    mapping |= {"roots": {"work": str(folder / "work")}}
    with pytest.raises(DataError, match=r"transfer\.far\.dataset\.path: .*does not exist"):
        list(source_warnings(study_of(mapping)))


@pytest.mark.parametrize(
    ("dataset", "lines"),
    [
        ({}, []),
        ({"labels": {"front": 1, "back": 2}}, []),
        ({"labels": {"fornt": 1}}, ["'fornt' is label 1, which is called 'front'"]),
        ({"labels": {"front": 1, "rim": 3}}, ["'rim' is label 3, which is not listed"]),
        ({"labels": {"all": 1}, "remap": {"1": 1, "2": 1}}, []),
        ({"channels": ["T1"]}, ["channels: 1 are named, its dataset.json has T1, T2"]),
    ],
)
def test_what_the_listing_calls_otherwise_is_told(
    folder: Path, dataset: dict[str, Any], lines: list[str]
) -> None:
    told = list(source_warnings(study(folder, **dataset)))
    assert len(told) == len(lines)
    assert all(line in found for line, found in zip(lines, told, strict=True))


def test_predictions_of_others_must_be_there_and_only_their_own_fold_is_repeated(
    folder: Path,
) -> None:
    base = {"study": "s", "dataset": {"name": "mine", "path": str(folder / "data")}}
    base |= {"presets": ["unet_small_1f"], "folds": [0, 1]}
    mine = study_of(base | {"external": {"theirs": {"predictions": str(folder / "theirs")}}})
    with pytest.raises(DataError, match=r"external\.theirs\.predictions: .*does not exist"):
        check_external(mine)
    (folder / "theirs").mkdir()
    for name in ("a", "b"):
        (folder / f"theirs/{name}.nii.gz").write_text(name)
    check_external(mine)
    splits = folder / "splits.json"
    digest = external_digest(mine, str(splits))

    def digests() -> list[str]:
        named = type("Wildcards", (), {"preset": "theirs"})
        return [digest(type("Wildcards", (named,), {"fold": fold})) for fold in ("0", "1")]

    assert len(set(digests())) == 1  # before the folds are known, all files count
    parts = [{"train": [], "validation": [], "test": [case]} for case in ("a", "b")]
    splits.write_text(json.dumps({"seed": 0, "held_out": [], "folds": parts}))
    before = digests()
    (folder / "theirs/b.nii.gz").write_text("corrected")
    assert digests()[0] == before[0]
    assert digests()[1] != before[1]
