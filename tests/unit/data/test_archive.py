"""Archives: good ones come out whole, malicious ones leave nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lunet.data.download.download import download
from lunet.data.io.archive import Limits, extract
from lunet.data.layouts.staging import place_archive
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import DatasetSettings, PhantomSettings
from lunet.errors import DataError
from lunet.reading import read_json

FILES = {"set/dataset.json": b"{}", "set/imagesTr/a.nii.gz": b"image", "set/labelsTr/a.nii.gz": b""}
SIDE_FILES = {"set/._dataset.json": b"x", "set/.DS_Store": b"x", "__MACOSX/set/a": b"x"}


def write_tar(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    mode = "w:gz" if path.name.endswith("gz") else "w"
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in extra:
            tar.addfile(member)
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def link(kind: bytes, name: str = "set/link", target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def contents(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.zip"])
def test_good_archives_come_out_without_side_files(tmp_path: Path, name: str) -> None:
    write = write_zip if name.endswith("zip") else write_tar
    archive = write(tmp_path / name, FILES | SIDE_FILES)
    written = extract(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert len(written) == len(FILES)


def test_permissions_of_the_archive_are_not_taken(tmp_path: Path) -> None:
    member = tarfile.TarInfo("tool")
    member.mode = 0o6777
    extract(write_tar(tmp_path / "a.tar", {}, member), tmp_path / "out")
    assert not (tmp_path / "out" / "tool").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)


BAD_TARS: dict[str, tuple[dict[str, bytes], list[tarfile.TarInfo], str]] = {
    "absolute": ({"/tmp/evil": b"x"}, [], "not a plain relative path"),
    "climbing": ({"set/../../evil": b"x"}, [], r"leaves the folder with '\.\.'"),
    "windows": ({"set\\..\\evil": b"x"}, [], "not a plain relative path"),
    "drive": ({"C:/evil": b"x"}, [], "not a plain relative path"),
    "symbolic link": ({}, [link(tarfile.SYMTYPE)], "is a link or a device"),
    "link inside": ({}, [link(tarfile.SYMTYPE, target="dataset.json")], "is a link"),
    "hard link": ({}, [link(tarfile.LNKTYPE, target="set/dataset.json")], "is a link"),
    "device": ({}, [link(tarfile.CHRTYPE, "set/null", "")], "is a link or a device"),
    "pipe": ({}, [link(tarfile.FIFOTYPE, "set/pipe", "")], "is a link or a device"),
    "hidden link": ({}, [link(tarfile.SYMTYPE, "set/._x")], "is a link or a device"),
    "file as folder": ({"set/dataset.json/x": b"x"}, [], "lies inside a file"),
}


@pytest.mark.parametrize("kind", BAD_TARS)
def test_bad_tars_are_refused_before_anything_is_written(tmp_path: Path, kind: str) -> None:
    files, extra, message = BAD_TARS[kind]
    archive = write_tar(tmp_path / "bad.tar", FILES | files, *extra)
    with pytest.raises(DataError, match=message) as caught:
        extract(archive, tmp_path / "out")
    assert "bad.tar" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_member_that_comes_twice_is_refused(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", FILES, tarfile.TarInfo("set/dataset.json"))
    with pytest.raises(DataError, match="appears twice"):
        extract(archive, tmp_path / "out")
    same = write_tar(tmp_path / "b.tar", FILES, tarfile.TarInfo("./set//dataset.json"))
    with pytest.raises(DataError, match="appears twice"):
        extract(same, tmp_path / "out")


def zip_link(path: Path) -> Path:
    member = zipfile.ZipInfo("set/link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "/etc/passwd")
    return path


def zip_encrypted(path: Path) -> Path:
    write_zip(path, {"secret": b"content"})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + offset
        content[at : at + 2] = struct.pack("<H", 1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_zip(path, {"../evil": b"x"}), "leaves the folder"),
        (lambda path: write_zip(path, {"/evil": b"x"}), "not a plain relative path"),
        (lambda path: write_zip(path, {"bomb": bytes(5_000_000)}), "unpacks"),
        (zip_link, "is a link"),
        (zip_encrypted, "is encrypted"),
    ],
    ids=["climbing", "absolute", "bomb", "link", "encrypted"],
)
def test_bad_zips_are_refused(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    archive = make(tmp_path / "bad.zip")
    with pytest.raises(DataError, match=message):
        extract(archive, tmp_path / "out", limits=Limits(ratio=100))
    assert not (tmp_path / "out").exists()


def test_tar_bomb_is_refused_by_its_ratio(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "bomb.tar.gz", {"zeros": bytes(300_000_000)})
    assert archive.stat().st_size < 400_000
    with pytest.raises(DataError, match="unpacks"):
        extract(archive, tmp_path / "out")


def test_size_and_count_limits(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", {f"f{i}": b"12345678" for i in range(20)})
    with pytest.raises(DataError, match="over 19 members"):
        extract(archive, tmp_path / "out", limits=Limits(count=19))
    with pytest.raises(DataError, match="unpacks"):
        extract(archive, tmp_path / "out", limits=Limits(size=100))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_truncated_or_foreign_content_is_a_clear_error(tmp_path: Path, name: str) -> None:
    write = write_zip if name.endswith("zip") else write_tar
    files = {f"f{i}": bytes(range(256)) * 40 for i in range(4)}
    whole = write(tmp_path / name, files).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable archive"):
        extract(tmp_path / name, tmp_path / "out")
    (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
    with pytest.raises(DataError, match="not a readable archive"):
        extract(tmp_path / name, tmp_path / "other")
    with pytest.raises(DataError, match="missing"):
        extract(tmp_path / f"none{name}", tmp_path / "other")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-10240, -1024, -512, -1, 8**12])
def test_absurd_sizes_in_headers_are_clear_errors(tmp_path: Path, kind: bytes, size: int) -> None:
    member = tarfile.TarInfo("evil")
    member.size, member.type = size, kind
    header = tarfile.TarInfo("first").tobuf() + member.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(header + bytes(10240))
    with pytest.raises(DataError, match=r"a\.tar"):
        extract(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
def test_damaged_archives_give_no_other_error_and_no_wrong_data(tmp_path: Path, name: str) -> None:
    random_bytes = random.Random(name)
    files = {f"set/f{i}": random_bytes.randbytes(200 + 150 * i) for i in range(6)}
    good = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name, files).read_bytes()
    refused = 0
    for attempt in range(150):
        damaged = bytearray(good)
        for _ in range(4):
            damaged[random_bytes.randrange(len(damaged))] ^= 1 << random_bytes.randrange(8)
        (tmp_path / name).write_bytes(damaged)
        try:
            extract(tmp_path / name, tmp_path / f"out{attempt}")
        except DataError:
            refused += 1
            continue
        # plain tar has no checksum of its content; the compressed formats have
        if name != "a.tar":
            assert contents(tmp_path / f"out{attempt}") == files
    assert refused > 0


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_a_tar_that_was_cut_or_damaged_between_members_is_refused(
    tmp_path: Path, name: str
) -> None:
    plain = write_tar(tmp_path / "whole.tar", {f"f{i}": bytes([i]) * 512 for i in range(4)})
    whole = plain.read_bytes()
    no_end = whole[: 4 * 1024]  # at a boundary: every member is whole
    one_block = whole[: 4 * 1024 + 512]
    cut = whole[: 2 * 1024]
    zeroed = whole[:1024] + bytes(512) + whole[1536:]
    wrong_sum = bytearray(whole)
    wrong_sum[2 * 1024 + 3] ^= 4
    for index, content in enumerate((no_end, one_block, cut, zeroed, bytes(wrong_sum))):
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
        with pytest.raises(DataError, match="not a readable archive") as caught:
            extract(tmp_path / name, tmp_path / f"out{index}")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / f"out{index}").exists()


@pytest.mark.parametrize("kind", [b"x", b"g", b"X", b"L", b"K"])
def test_a_long_extension_header_is_refused_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    member = tarfile.TarInfo("names")
    member.type, member.size = kind, 1 << 28
    content = tarfile.TarInfo("first").tobuf() + member.tobuf() + bytes(1 << 20)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content))
    tracemalloc.start()
    with pytest.raises(DataError, match="header of 268435456 bytes"):
        extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 1 << 23
    tracemalloc.stop()


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("volume")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    with pytest.raises(DataError, match="sparse"):
        extract(write_tar(tmp_path / "a.tar", {}, member), tmp_path / "out")


def test_a_file_that_the_listing_of_an_archive_names_must_be_in_it(tmp_path: Path) -> None:
    entry = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    lost = {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"}
    listing = {"modality": {"0": "MRI"}, "labels": {"1": "a"}, "training": [entry, lost]}
    files = FILES | {"set/dataset.json": json.dumps(listing).encode()}
    (tmp_path / "stage").mkdir()
    settings, archive = DatasetSettings(name="own"), write_tar(tmp_path / "a.tar", files)
    with pytest.raises(DataError, match=r"a\.tar: .*imagesTr/b\.nii\.gz: missing, case b"):
        place_archive(archive, tmp_path / "stage", settings)


def test_images_outside_of_the_data_set_of_an_archive_are_named(tmp_path: Path) -> None:
    make_phantom(PhantomSettings(subjects=1, scale=0.5), tmp_path / "mine")
    content = {
        f"{folder}/{path.relative_to(tmp_path / 'mine').as_posix()}": path.read_bytes()
        for path in sorted((tmp_path / "mine").rglob("*"))
        for folder in ("mine", "second")
        if path.is_file() and not path.name.startswith(".")
    }
    archive = write_tar(tmp_path / "both.tar", content | {"read.me": b"two sets"})
    logged: list[str] = []
    settings = DatasetSettings(name="mine", path=str(archive))
    out = download(settings, tmp_path / "raw", log=logged.append)
    images = [name for name in content if name.startswith("second/") and name.endswith(".nii.gz")]
    left = [line for line in logged if line.startswith("left out: second/")]
    assert len(left) == len(images) > 1
    assert sorted(read_json(out / "source.json")["left_out"]) == sorted(images)


def test_extended_headers_are_bounded_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is short, but together they would fill the memory; and none is counted twice."""
    names = {f"{'d' * 120}/{number:03d}": b"x" for number in range(40)}
    archive = write_tar(tmp_path / "a.tar", names)
    monkeypatch.setattr("lunet.data.io.tar._MOST", 40 * 512)
    for place in ("one", "two"):
        assert len(extract(archive, tmp_path / place)) == 40
    monkeypatch.setattr("lunet.data.io.tar._MOST", 2000)
    with pytest.raises(DataError, match="headers of more than 2000 bytes in all"):
        extract(archive, tmp_path / "three")


def test_extended_headers_without_a_member(tmp_path: Path) -> None:
    """A chain of them, which ``tarfile`` follows by recursion."""
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 512
    block = name.tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(block * 5000 + bytes(1024))
    with pytest.raises(DataError, match="more than 16 headers of one member"):
        extract(tmp_path / "a.tar", tmp_path / "out")
