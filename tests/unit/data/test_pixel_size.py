"""Pictures state no physical size: pixels are px until the size of a pixel is given."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny
from PIL import Image

from lunet.cli import main
from lunet.data.audit.audit import audit
from lunet.data.audit.page import audit_page
from lunet.data.dataset import read_dataset
from lunet.data.fingerprint import fingerprint_of
from lunet.data.layouts.open import open_dataset
from lunet.data.plan import NetworkCost, propose
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import DatasetSettings, PreprocessSettings
from lunet.errors import ConfigError, DataError

SHAPE = (30, 20)
FLAT = NetworkCost(bytes_per_voxel=1000, fixed_bytes=1e6, multiple=(16, 16))


def pictures(folder: Path, suffix: str = ".png", count: int = 4) -> Path:
    """Pictures of 8 bits with a disk, and their masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows, columns = np.indices(SHAPE[::-1])
    for number in range(count):
        disk = (rows - 10) ** 2 + (columns - 12 - number) ** 2 < 25
        noise = np.random.default_rng(number).normal(0, 10, disk.shape)
        grey = np.clip(80 + 100 * disk + noise, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / f"images/p{number}{suffix}")
        Image.fromarray((255 * disk).astype(np.uint8)).save(folder / f"masks/p{number}{suffix}")
    return folder


def imported(folder: Path, *words: str) -> Path:
    source = pictures(folder / "source")
    out = folder / "raw"
    assert main(["import", str(source), "--channels", "CT", "--out", str(out), *words]) == 0
    return out


def test_an_import_marks_pictures_of_unknown_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = imported(tmp_path)
    assert "distances are in px" in capsys.readouterr().out
    assert json.loads((raw / "dataset.json").read_text())["pixel_mm"] is None
    dataset = read_dataset(raw)
    assert dataset.unit == "px"
    prepare_dataset(dataset, PreprocessSettings(), tmp_path / "prepared", log=lambda line: None)
    manifest = read_manifest(tmp_path / "prepared")
    assert (manifest.unit, manifest.pixel_mm) == ("px", None)


def test_a_given_pixel_size_becomes_the_spacing(tmp_path: Path) -> None:
    raw = imported(tmp_path, "--pixel-mm", "0.5", "0.25")
    assert json.loads((raw / "dataset.json").read_text())["pixel_mm"] == [0.5, 0.25]
    dataset = read_dataset(raw)
    settings = PreprocessSettings(spacing=(0.5, 0.5))
    manifest = prepare_dataset(dataset, settings, tmp_path / "prepared", log=lambda line: None)
    assert (dataset.unit, manifest.unit) == ("mm", "mm")
    case = manifest.case("p0")
    assert case.spacing == pytest.approx((0.5, 0.5))
    assert case.shape == (SHAPE[0], SHAPE[1] // 2)


def test_a_configuration_gives_the_pixel_size(tmp_path: Path) -> None:
    source = pictures(tmp_path)
    settings = DatasetSettings(name="mine", path=str(source), pixel_mm=0.1)
    assert open_dataset(source, settings).pixel_mm == (0.1, 0.1)
    assert read_dataset(imported(tmp_path / "other"), settings).unit == "mm"


def test_volumes_state_their_own_size(tmp_path: Path) -> None:
    raw = tiny.make(tmp_path / "raw")
    assert read_dataset(raw).unit == "mm"
    with pytest.raises(ConfigError, match="volumes state the size"):
        read_dataset(raw, DatasetSettings(name="mine", path=str(raw), pixel_mm=0.1))


def test_pixels_and_millimetres_do_not_mix(tmp_path: Path) -> None:
    source = pictures(tmp_path)
    tiny.save(source / "images/v.nii.gz", np.zeros((8, 8, 8), np.float32))
    tiny.save(source / "masks/v.nii.gz", np.ones((8, 8, 8), np.uint8))
    with pytest.raises(DataError, match=r"4 pictures without a physical size .* among volumes"):
        open_dataset(source)


def test_the_audit_speaks_of_pixels(tmp_path: Path) -> None:
    found = audit(read_dataset(imported(tmp_path)))
    page = audit_page(found.dataset, found.findings, found.facts)
    assert "no physical size is known" in page
    assert "30 x 20 pixels" in page
    assert " mm" not in page
    assert " ml" not in page


def test_findings_about_pictures_speak_of_pixels_and_areas(tmp_path: Path) -> None:
    source = pictures(tmp_path / "source", count=8)
    for number, path in enumerate(sorted((source / "masks").iterdir())):
        mask = np.array(Image.open(path)) // 255
        if number == 0:
            mask[1:-1, 1:-1] = 1
        if number != 1:
            mask[9:11, 11 + number : 13 + number] = 2
        Image.fromarray(mask).save(path)
    assert main(["import", str(source), "--out", str(tmp_path / "raw")]) == 0
    rows = [finding.as_row() for finding in audit(read_dataset(tmp_path / "raw")).findings]
    text = " ".join(value for row in rows for key, value in row.items() if key != "check")
    assert "no pixel of " in text
    assert "area of " in text
    assert "500 px" in text
    assert not {"voxel", "volume", "ml", "RAS"} & {*text.replace("s ", " ").split()}


def test_the_plan_of_pictures_is_in_pixels_and_not_in_hounsfield_units(tmp_path: Path) -> None:
    choices = propose(fingerprint_of(read_dataset(imported(tmp_path))), lambda _: FLAT, memory=1e9)
    found = {choice.key: choice for choice in choices}
    assert found["preprocess.spacing"].value == "keep"
    assert found["preprocess.size"].value == [32, 32]
    assert "preprocess.window" not in found
    text = " ".join(choice.reason for choice in choices)
    assert "mm" not in text.split()
    assert "Hounsfield" not in text
    assert "volume" not in text
    assert "voxel" not in text
    assert "a step of 16 pictures" in text
    assert "8 x 8 pixels at the deepest" in text  # of the size that is prepared, 32 x 32


def test_the_plan_of_slices_has_two_axes_and_counts_slices(tmp_path: Path) -> None:
    raw = tiny.make(tmp_path / "raw")
    listing = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(listing | {"dimensions": 2}))
    fingerprint = fingerprint_of(read_dataset(raw))
    assert fingerprint.shapes.tolist() == [list(tiny.SHAPE[:2])] * 6
    assert fingerprint.samples == 6 * tiny.SHAPE[2]
    found = {c.key: c for c in propose(fingerprint, lambda _: FLAT, memory=1e9, largest_batch=12)}
    assert found["preprocess.size"].value == [32, 32]
    assert found["train.batch_size"].value == 12
    assert "12 slices" in found["train.batch_size"].reason
