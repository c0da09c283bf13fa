"""What is noticed about the data when Snakemake starts, before any job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lunet.errors import DataError
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
