"""Atomic files: the old content or the new one, never a half."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import pytest

from lunet.errors import DataError
from lunet.files import (
    atomic,
    canonical_json,
    sha256,
    write_csv,
    write_json,
    write_new,
    write_text,
)
from lunet.reading import read_json


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "table.csv"
    write_text(path, "old\n")
    with pytest.raises(ZeroDivisionError), atomic(path) as part:
        _ = part.write_text("half") / 0
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffixes(tmp_path):
    with atomic(tmp_path / "mask.nii.gz") as part:
        assert part.name.endswith("mask.nii.gz")
        part.write_bytes(b"x")
    assert (tmp_path / "mask.nii.gz").read_bytes() == b"x"


def test_json_is_strict(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_unreadable_json_names_the_file(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_csv_writes_missing_values_as_empty_cells(tmp_path):
    write_csv(
        tmp_path / "a.csv", ["x", "y"], [{"x": float("nan"), "y": None}, {"x": 1.5, "y": "é"}]
    )
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "x,y\n,\n1.5,é\n"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+a", "'+a"),
        ("-a", "'-a"),
        ("\t=1", "'\t=1"),
        ("-0.5", "-0.5"),
        ("+1e-3", "+1e-3"),
        ("-", "-"),
        ("a=1", "a=1"),
        (-0.5, "-0.5"),
    ],
)
def test_a_text_that_a_spreadsheet_would_run_is_marked_as_text(tmp_path, text, cell):
    write_csv(tmp_path / "a.csv", ["x"], [{"x": text}])
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["x"], [cell]]


def test_canonical_json_does_not_depend_on_order():
    assert canonical_json({"b": 1, "a": [1.0]}) == canonical_json({"a": [1.0], "b": 1})
    assert json.loads(canonical_json({"a": 1})) == {"a": 1}


def test_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x").startswith("ba7816bf8f01cfea")


def test_a_new_file_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "once.json"
    assert write_new(path, {"a": 1})
    assert not write_new(path, {"a": 2})
    assert read_json(path) == {"a": 1}

    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("os.link", refused)
    assert not write_new(path, {"a": 2})
    other = path.with_name("other.json")
    assert write_new(other, {"a": 3})
    assert read_json(other) == {"a": 3}
    assert [one.name for one in sorted(path.parent.iterdir())] == ["once.json", "other.json"]
