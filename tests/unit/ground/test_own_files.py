from __future__ import annotations

import os
from pathlib import Path

import pytest

from lunet.errors import ConfigError, LunetError
from lunet.own_files import MARKER, claim


def test_own_files_are_replaced_and_stale_ones_named(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert claim(folder, ["a.nii.gz", "b.nii.gz"]) == []
    for name in ("a.nii.gz", "b.nii.gz"):
        (folder / name).write_text(name)
    assert claim(folder, ["b.nii.gz", "c.nii.gz"]) == ["a.nii.gz"]


def test_a_foreign_file_is_neither_replaced_nor_named(tmp_path: Path) -> None:
    (tmp_path / "expert.nii.gz").write_text("by hand")
    assert claim(tmp_path, ["a.nii.gz"]) == []
    with pytest.raises(ConfigError, match=r"expert\.nii\.gz exists and was not written"):
        claim(tmp_path, ["a.nii.gz", "expert.nii.gz"])
    assert (tmp_path / "expert.nii.gz").read_text() == "by hand"


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink", "folder", "dots"])
def test_an_input_is_never_an_output(tmp_path: Path, link: str) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    scan = scans / "a.nii.gz"
    scan.write_text("scan")
    out = scans
    if link in ("symlink", "hardlink"):
        out = tmp_path / "out"
        out.mkdir()
        make = os.symlink if link == "symlink" else os.link
        make(scan, out / "a.nii.gz")
    elif link == "folder":
        out = tmp_path / "out"
        out.symlink_to(scans)
    elif link == "dots":
        out = scans / ".." / "scans"
    with pytest.raises(ConfigError, match="is an input"):
        claim(out, ["a.nii.gz"], inputs=[scan], former=["a.nii.gz"])
    assert scan.read_text() == "scan"
    assert not (out / MARKER).exists()


def test_a_dangling_link_of_somebody_else_stays(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "gone")
    with pytest.raises(ConfigError, match="was not written"):
        claim(tmp_path, ["a.nii.gz"])


def test_a_list_that_names_files_elsewhere_gives_no_right_to_them(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / MARKER).write_text('{"files": ["../precious", "a"]}')
    assert claim(folder, ["b"]) == []
    (folder / MARKER).write_text("[1]")
    with pytest.raises(LunetError, match="is no list of files"):
        claim(folder, ["b"])
