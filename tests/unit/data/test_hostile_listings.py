"""What a listing in an archive names lies in the archive; nothing outside is moved or changed."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import tiny_dataset as tiny

from lunet.data.dataset import Case, Dataset, read_dataset
from lunet.data.download.download import download
from lunet.data.io.images import read_image
from lunet.data.layouts.importing import require_inside
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.task import Task

LISTINGS: dict[str, dict[str, Any]] = {
    "decathlon": {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "front"}},
    "nnunet": {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "front": 1, "back": 2},
        "file_ending": ".nii.gz",
    },
}


def listing(layout: str, image: str, label: str) -> dict[str, Any]:
    """A listing of two cases: one in the archive, one of these files."""
    own = {"image": "imagesTr/case_01.nii.gz", "label": "labelsTr/case_01.nii.gz"}
    if layout == "decathlon":
        bad = {"id": "b", "image": image, "label": label}
        return LISTINGS[layout] | {"training": [own, bad], "name": "x"}
    pairs = {"case_01": (own["image"], own["label"]), "b": (image, label)}
    mapping = {name: {"images": [i], "label": lab} for name, (i, lab) in pairs.items()}
    return LISTINGS[layout] | {"numTraining": 2, "dataset": mapping}


def pack(archive: Path, folder: Path, content: dict[str, Any]) -> Path:
    text = json.dumps(content).encode()
    with tarfile.open(archive, "w") as tar:
        for name in ("imagesTr/case_01.nii.gz", "labelsTr/case_01.nii.gz"):
            tar.add(folder / name, f"Set/{name}")
        info = tarfile.TarInfo("Set/dataset.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return archive


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """The user's folder with a scan and a mask."""
    return tiny.make(tmp_path / "users", 1)


PLACES = {
    "absolute": "{users}",
    "up": "../../../users",
    "through the folder": "imagesTr/../../../../users",
    "through the unpacked": "../../.unpacked/../../users",
    "into the record": "../../../raw2",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", LISTINGS)
def test_a_listing_in_an_archive_cannot_name_files_elsewhere(
    tmp_path: Path, users: Path, layout: str, place: str
) -> None:
    source = tiny.make(tmp_path / "made", 1)
    there = PLACES[place].format(users=users)
    (tmp_path / "raw2").symlink_to(users)
    image, label = (f"{there}/{part}Tr/case_01.nii.gz" for part in ("images", "labels"))
    content = listing(layout, image, label)
    archive = pack(tmp_path / "set.tar", source, content)
    before = {p: p.read_bytes() for p in users.rglob("*") if p.is_file()}
    settings = DatasetSettings(name="Set", path=str(archive))
    with pytest.raises(DataError, match="case b names a file elsewhere"):
        download(settings, tmp_path / "raw", log=lambda _: None)
    assert {p: p.read_bytes() for p in users.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "raw").exists()
    assert not list(tmp_path.glob(".part-*"))


@pytest.mark.parametrize("layout", LISTINGS)
def test_the_same_listing_with_its_own_files_is_read(tmp_path: Path, layout: str) -> None:
    source = tiny.make(tmp_path / "made", 1)
    content = listing(layout, "imagesTr/case_01.nii.gz", "labelsTr/case_01.nii.gz")
    archive = pack(tmp_path / "set.tar", source, content)
    settings = DatasetSettings(name="Set", path=str(archive))
    out = download(settings, tmp_path / "raw", log=lambda _: None)
    dataset = read_dataset(out, settings)
    assert sorted(case.id for case in dataset.cases) == ["b", "case_01"]
    for case in dataset.cases:
        path = out / case.images[0]
        assert path.read_bytes() == (source / "imagesTr/case_01.nii.gz").read_bytes()
        assert not path.is_symlink()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_link_in_an_archive_is_refused(tmp_path: Path, users: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("Set/imagesTr/case_01.nii.gz")
    info.type, info.linkname = kind, str(users / "imagesTr/case_01.nii.gz")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.addfile(info)
    settings = DatasetSettings(name="Set", path=str(tmp_path / "set.tar"))
    with pytest.raises(DataError, match="link"):
        download(settings, tmp_path / "raw", log=lambda _: None)
    assert (users / "imagesTr/case_01.nii.gz").is_file()


def test_links_are_followed_before_a_file_counts_as_inside(tmp_path: Path, users: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "scan.nii.gz").symlink_to(users / "imagesTr/case_01.nii.gz")
    (folder / "own.nii.gz").write_bytes(b"")
    task = Task(("MRI",), {"front": 1})
    for name, fault in (("own.nii.gz", False), ("scan.nii.gz", True)):
        case = Case("a", (folder / name,), None, "a")
        dataset = Dataset(folder, "x", task, (case,))
        if fault:
            with pytest.raises(DataError, match="names a file elsewhere"):
                require_inside(dataset, folder)
        else:
            require_inside(dataset, folder)


HEADERS = {
    ".mhd": "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"
    "ElementDataFile = {}\n",
    ".nhdr": "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\ndata file: {}\n\n",
}
HEADERS |= {".mha": HEADERS[".mhd"], ".nrrd": HEADERS[".nhdr"]}


@pytest.mark.parametrize("name", ["../secret.raw", "{}/secret.raw", "LIST\n../secret.raw"])
@pytest.mark.parametrize("suffix", HEADERS)
def test_a_header_names_files_of_its_own_folder_only(
    tmp_path: Path, suffix: str, name: str
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for place in (tmp_path / "secret.raw", folder / "own.raw"):
        place.write_bytes(bytes(range(64)))
    path = folder / f"scan{suffix}"
    path.write_text(HEADERS[suffix].format(name.format(tmp_path)))
    with pytest.raises(DataError, match="a file in its own folder"):
        read_image([path])
    path.write_text(HEADERS[suffix].format("own.raw"))
    assert read_image([path]).array.sum() == sum(range(64))


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_headers_with_their_data_are_unpacked_together(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "Dataset001_x"
    ending = suffix
    for part, name in (("imagesTr", f"a_0000{ending}"), ("labelsTr", f"a{ending}")):
        (folder / part).mkdir(parents=True)
        image = sitk.GetImageFromArray(tiny.volumes(1)[part == "labelsTr"])
        sitk.WriteImage(image, str(folder / part / name))
    content = LISTINGS["nnunet"] | {"numTraining": 1, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(content))
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(folder, folder.name)
    settings = DatasetSettings(name="x", path=str(tmp_path / "set.tar"))
    out = download(settings, tmp_path / "raw", log=lambda _: None)
    (case,) = read_dataset(out, settings).cases
    np.testing.assert_array_equal(
        read_image(case.images).array[0].shape, tiny.volumes(1)[0].T.shape
    )
