"""A local data set's digest: changed by what a study reads, by nothing else, and read once."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import tiny_dataset as tiny

from lunet.data import source
from lunet.data.dataset_json import locate
from lunet.data.download.download import download
from lunet.data.settings import DatasetSettings
from lunet.data.source import source_digest
from lunet.errors import DataError
from lunet.files import sha256


def no_line(text: str) -> None:
    """A line is a fault."""
    raise AssertionError(text)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "tiny", 3)


def digest_of(path: Path, raw: Path, **changes: object) -> str:
    settings = DatasetSettings(name="tiny", path=str(path), **changes)
    return source_digest(settings, raw, no_line)


def test_what_is_corrected_added_or_removed_is_seen(raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "work/raw"
    seen = [digest_of(raw, target)]

    def look() -> str:
        seen.append(digest_of(raw, target))
        return seen[-1]

    tiny.save(raw / "labelsTr/case_02.nii.gz", tiny.volumes(9)[1])
    assert look() != seen[-2]
    tiny.write_listing(raw, ["case_01", "case_02"])
    assert look() != seen[-2]
    shutil.copy(raw / "imagesTr/case_01.nii.gz", raw / "imagesTr/case_04.nii.gz")
    shutil.copy(raw / "labelsTr/case_01.nii.gz", raw / "labelsTr/case_04.nii.gz")
    assert look() == seen[-2]  # not listed: no case
    tiny.write_listing(raw, ["case_01", "case_02", "case_04"])
    assert look() != seen[-2]
    (raw / "imagesTr/case_04.nii.gz").unlink()
    assert look() != seen[-2]
    changed = [value for value, before in zip(seen[1:], seen, strict=False) if value != before]
    assert len({seen[0], *changed}) == 5


def test_touch_notes_and_the_folder_s_place_change_nothing(raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "work/raw"
    first = digest_of(raw, target)
    for path in raw.rglob("*.nii.gz"):
        os.utime(path)
    (raw / "README.md").write_text("notes")
    (raw / ".DS_Store").write_text("x")
    assert digest_of(raw, target) == first
    shutil.copytree(raw, tmp_path / "elsewhere")
    assert digest_of(tmp_path / "elsewhere", target) == first
    assert digest_of(tmp_path / "elsewhere", tmp_path / "fresh/raw") == first


def test_only_changed_files_are_read_again(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(source, "sha256", counted)
    digest_of(raw, tmp_path / "raw")
    assert len(read) == 7
    read.clear()
    digest_of(raw, tmp_path / "raw")
    assert read == []
    tiny.save(raw / "labelsTr/case_02.nii.gz", tiny.volumes(9)[1])
    digest_of(raw, tmp_path / "raw")
    assert read == ["case_02.nii.gz"]
    memory = tmp_path / ".raw.source.json"
    for damage in ("{", "[]", json.dumps({"root": 1, "digest": "x", "files": []})):
        memory.write_text(damage)
        assert len(digest_of(raw, tmp_path / "raw")) == 16


def test_other_layouts(raw: Path, tmp_path: Path) -> None:
    (raw / "dataset.json").unlink()
    target = tmp_path / "work/raw"
    first = digest_of(raw, target)
    (raw / "loop").symlink_to(raw)
    (raw / "LICENSE").write_text("notes")
    assert digest_of(raw, target) == first
    shutil.copy(raw / "imagesTr/case_01.nii.gz", raw / "imagesTr/case_04.nii.gz")
    assert digest_of(raw, target) != first
    table = tmp_path / "list.csv"
    image, label = "tiny/imagesTr/case_01.nii.gz", "tiny/labelsTr/case_01.nii.gz"
    table.write_bytes(f"id;image;label\nJörg;{image};{label}\n".encode("utf-16"))
    listed = digest_of(table, target)
    tiny.save(raw / "labelsTr/case_02.nii.gz", tiny.volumes(9)[1])
    assert digest_of(table, target) == listed
    tiny.save(raw / "labelsTr/case_01.nii.gz", tiny.volumes(9)[1])
    assert digest_of(table, target) != listed


def test_home_and_variables_in_a_path(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCANS", str(tmp_path))
    for path in ("~/tiny", "$SCANS/tiny", "${SCANS}/tiny"):
        assert locate(path) == raw
    named_so = tmp_path / "$SCANS"
    named_so.mkdir()
    assert locate(named_so) == named_so
    with pytest.raises(DataError, match=r"\$NOT_SET/tiny: does not .*variable NOT_SET"):
        locate("$NOT_SET/tiny")
    with pytest.raises(DataError, match="~nobody-of-this-name/x: does not exist"):
        locate("~nobody-of-this-name/x")


def test_a_source_that_is_gone_is_taken_as_unchanged(raw: Path, tmp_path: Path) -> None:
    target = tmp_path / "work/raw"
    first = digest_of(raw, target)
    raw.rename(tmp_path / "aside")
    said: list[str] = []
    settings = DatasetSettings(name="tiny", path=str(raw))
    assert source_digest(settings, target, said.append) == first
    assert len(said) == 1
    assert "does not exist" in said[0]
    assert source_digest(settings, tmp_path / "other/raw", no_line) == ""


def test_the_variable_may_be_set_in_one_shell_only(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, settings = tmp_path / "work/raw", DatasetSettings(name="Task04_Hippocampus")
    raw = raw.rename(tmp_path / "Task04_Hippocampus")
    monkeypatch.delenv("LUNET_DATA", raising=False)
    assert source_digest(settings, target, no_line) == ""
    monkeypatch.setenv("LUNET_DATA", str(tmp_path))
    first = source_digest(settings, target, no_line)
    assert first == digest_of(raw, tmp_path / "other")
    download(settings, target, log=lambda _: None)
    monkeypatch.delenv("LUNET_DATA")
    assert source_digest(settings, target, no_line) == first
    tiny.save(raw / "labelsTr/case_02.nii.gz", tiny.volumes(9)[1])
    assert source_digest(settings, target, no_line) != first
    # fetched from its origin: a folder of that name which appears later is another matter
    (target / "source.json").write_text(json.dumps({"url": "https://example.org/a.tar"}))
    monkeypatch.setenv("LUNET_DATA", str(tmp_path))
    assert source_digest(settings, target, no_line) == ""


def test_the_phantom_has_no_source(tmp_path: Path) -> None:
    assert source_digest(DatasetSettings(name="phantom"), tmp_path / "raw", no_line) == ""
