"""Subjects: a table beside the data, and what names suggest."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from lunet.cli import main
from lunet.data.dataset import read_dataset
from lunet.data.subjects import subject_lines, suggested_pattern
from lunet.errors import DataError

NAMES = [f"sub-{subject}_ses-{visit}" for subject in ("a", "b", "c") for visit in (1, 2)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in NAMES:
        image = draw.normal(size=(5, 6, 7)).astype(np.float32)
        for kind, array in (("images", image), ("labels", (image > 1).astype(np.uint8))):
            path = tmp_path / "source" / kind / f"{name}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return tmp_path / "source"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (NAMES, 3),
        (["case1_1", "case1_2", "case2_1"], 2),
        (["p7_L", "p7_R", "p8_L", "p8_R"], 2),
        (["p7_visit1", "p7_visit2", "p9_visit1"], 2),
        (["hippocampus_001", "hippocampus_002", "hippocampus_017"], None),
        (["a", "b", "sub-c"], None),
    ],
)
def test_names_suggest_subjects(names: list[str], found: int | None) -> None:
    suggestion = suggested_pattern(names)
    assert (suggestion and suggestion[1]) == found


def test_import_says_that_each_file_is_its_own(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "6 cases of 6 subjects: each file its own\n" in printed
    assert "look like 3 subjects; if they are, add --groups '^(sub-[A-Za-z0-9]+)'" in printed


def test_a_table_names_the_subjects_and_is_kept(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{name};{name[4]};{30 + i}" for i, name in enumerate(NAMES)]
    (source / "subjects.csv").write_text("\n".join(["case;subject;age", *rows]))
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    assert "6 cases of 3 subjects\n" in capsys.readouterr().out
    dataset = read_dataset(tmp_path / "out")
    assert [case.group for case in dataset.cases] == ["a", "a", "b", "b", "c", "c"]
    assert "age" in (tmp_path / "out" / "subjects.csv").read_text()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,subject\nx,y\n", "columns `case` and `subject`"),
        ("case,subject\nsub-a_ses-1,a\n", "no row for case sub-a_ses-2"),
        ("case,subject\nsub-a_ses-1,a\nsub-a_ses-1,b\n", "named twice"),
        ("case,subject\nsub-a_ses-1,\n", "has no subject"),
    ],
)
def test_a_wrong_table_is_refused(source: Path, tmp_path: Path, table: str, message: str) -> None:
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "out" / "subjects.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_dataset(tmp_path / "out")


def test_subjects_that_are_known_suggest_nothing() -> None:
    assert list(subject_lines((name, name[:5]) for name in NAMES)) == ["6 cases of 3 subjects"]
