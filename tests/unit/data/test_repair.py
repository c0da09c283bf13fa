"""Safe repairs go into a new folder; the raw data stay as they are, and a log tells all."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tiny_dataset as tiny

from lunet.cli import main
from lunet.data.audit.audit import audit
from lunet.data.audit.repair import RepairOptions, repair
from lunet.data.dataset import read_dataset
from lunet.data.io.images import read_label, read_raw
from lunet.data.settings import DatasetSettings
from lunet.errors import ConfigError
from lunet.files import sha256

IMAGE, LABEL = "imagesTr/case_03.nii.gz", "labelsTr/case_03.nii.gz"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "raw", 6)


def sums(root: Path) -> dict[str, str]:
    return {str(path): sha256(path) for path in root.rglob("*") if path.is_file()}


def mended(root: Path, out: Path, **options: bool) -> set[str]:
    """Repair; the checks that still complain about the new folder."""
    before = sums(root)
    repair(read_dataset(root), out, RepairOptions(**options))
    assert sums(root) == before
    return {f.check for f in audit(read_dataset(out)).findings if f.severity != "info"}


def shifted(mm: float) -> np.ndarray:
    affine = tiny.AFFINE.copy()
    affine[0, 3] += mm
    return affine


def conflict(path: Path) -> None:
    image = nib.load(path)
    image.set_qform(shifted(30), 1)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)


def save_label(**how: object):
    return lambda root: tiny.save(root / LABEL, how["change"](tiny.volumes(3)[1]), how.get(
        "affine", tiny.AFFINE))  # fmt: skip


SAFE = {
    "float label": save_label(change=lambda a: a.astype(np.float64)),
    "float drift": save_label(change=lambda a: a * np.float32(0.9999999)),
    "singleton": save_label(change=lambda a: a[..., None]),
    "jitter": save_label(change=lambda a: a, affine=shifted(0.02)),
    "all three": save_label(change=lambda a: a[..., None] * 1.0, affine=shifted(0.02)),
    "qform": lambda root: conflict(root / IMAGE),
    "not gzip": lambda r: (r / IMAGE).write_bytes(gzip.decompress((r / IMAGE).read_bytes())),
    "stray": lambda root: (root / "imagesTr/._case_03.nii.gz").write_bytes(b"x"),
    "count": lambda root: tiny.write_listing(
        root, [f"case_{n:02d}" for n in range(1, 7)], numTraining=99
    ),
}


@pytest.mark.parametrize("name", SAFE)
def test_safe_repairs(name: str, raw: Path, tmp_path: Path) -> None:
    SAFE[name](raw)
    assert {f.check for f in audit(read_dataset(raw)).findings if f.severity != "info"}
    assert mended(raw, tmp_path / "out") == set()
    dataset = read_dataset(tmp_path / "out")
    case = dataset.case("case_03")
    image, label = tiny.volumes(3)
    np.testing.assert_array_equal(read_raw(case.images[0])[0], image)
    np.testing.assert_array_equal(read_label(case.label)[0], label)
    assert dataset.case("case_01").images[0].is_symlink()
    rows = list(csv.DictReader((tmp_path / "out/repairs.csv").open()))
    assert "repaired" in {row["outcome"] for row in rows}
    assert not list(tmp_path.rglob(".part-*"))


def test_values_are_changed_only_when_asked(raw: Path, tmp_path: Path) -> None:
    broken = tiny.volumes(3)[0]
    broken[0, 0, :3] = np.nan, np.inf, -np.inf
    tiny.save(raw / IMAGE, broken)
    assert mended(raw, tmp_path / "out") == {"not_finite"}
    assert mended(raw, tmp_path / "filled", fill_non_finite=True) == set()
    found, _ = read_raw(read_dataset(tmp_path / "filled").case("case_03").images[0])
    finite = np.isfinite(broken)
    np.testing.assert_array_equal(found[finite], broken[finite])
    assert found[0, 0, 0] == broken[finite].min()
    assert found[0, 0, 1] == broken[finite].max()


def test_headers_are_overruled_only_when_asked(raw: Path, tmp_path: Path) -> None:
    tiny.save(raw / LABEL, tiny.volumes(3)[1], shifted(7))
    assert mended(raw, tmp_path / "out") == {"origin_mismatch"}
    assert mended(raw, tmp_path / "trusted", trust_image_header=True) == set()


def two_channels(root: Path, second: np.ndarray) -> None:
    """The data set with a second channel, at ``second`` for case_03."""
    entries = []
    for number in range(1, 7):
        name = f"case_{number:02d}"
        files = [f"imagesTr/{name}.nii.gz", f"imagesTr/{name}_T2.nii.gz"]
        image, _ = tiny.volumes(number)
        tiny.save(root / files[1], image * 2, second if number == 3 else tiny.AFFINE)
        entries.append({"id": name, "image": files, "label": f"labelsTr/{name}.nii.gz"})
    tiny.write_listing(root, [], modality={"0": "T1", "1": "T2"}, training=entries, numTraining=6)


def test_a_channel_that_lies_elsewhere_is_moved_when_asked(raw: Path, tmp_path: Path) -> None:
    two_channels(raw, shifted(7))
    assert mended(raw, tmp_path / "out") == {"origin_mismatch"}
    assert mended(raw, tmp_path / "trusted", trust_image_header=True) == set()
    case = read_dataset(tmp_path / "trusted").case("case_03")
    np.testing.assert_array_equal(read_raw(case.images[1])[1], tiny.AFFINE)
    np.testing.assert_array_equal(read_raw(case.images[1])[0], tiny.volumes(3)[0] * 2)


def test_a_repair_that_did_not_help_is_called_left(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_channels(raw, shifted(0.02))
    label = tiny.volumes(2)[1].astype(np.float64)
    tiny.save(raw / "labelsTr/case_02.nii.gz", label)
    monkeypatch.setattr("lunet.data.audit.repair._as_integers", lambda raw: raw)
    rows = repair(read_dataset(raw), tmp_path / "out")
    outcome = {(row["check"], row["case"]): row["outcome"] for row in rows}
    assert outcome["float_label", "case_02"] == "left"
    assert outcome["cosmetic_jitter", "case_03"] == "repaired"
    told = next(row["done"] for row in rows if row["check"] == "float_label")
    assert told == "tried (stored as integers), and still found"
    with (tmp_path / "out/repairs.csv").open() as stream:
        assert list(csv.DictReader(stream)) == rows


def test_what_is_left_is_listed_and_can_be_left_out(raw: Path, tmp_path: Path) -> None:
    (raw / IMAGE).write_bytes(b"broken")
    assert mended(raw, tmp_path / "out") == {"wrong_magic"}
    rows = repair(read_dataset(raw), tmp_path / "less", RepairOptions(leave_out=True))
    assert ("left out", "case_03") in {(row["outcome"], row["case"]) for row in rows}
    assert "case_03" not in {case.id for case in read_dataset(tmp_path / "less").cases}
    assert json.loads((tmp_path / "less/dataset.json").read_text())["numTraining"] == 5


def test_remapping_is_written(raw: Path, tmp_path: Path) -> None:
    label = tiny.volumes(3)[1].astype(np.int16) * 100
    tiny.save(raw / LABEL, label)
    settings = DatasetSettings(name="own", path="x", remap={"100": 1, "200": 2})
    repair(read_dataset(raw, settings), tmp_path / "out")
    case = read_dataset(tmp_path / "out").case("case_03")
    np.testing.assert_array_equal(read_raw(case.label)[0], label // 100)
    assert audit(read_dataset(tmp_path / "out")).errors == 0


def test_never_in_place(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="is an input"):
        repair(read_dataset(raw), raw)
    assert main(["repair", str(raw), "--out", str(tmp_path / "out")]) == 0
    assert "0 repaired, 0 left" in capsys.readouterr().out
    assert main(["repair", str(raw), "--out", str(tmp_path / "out")]) == 0
    assert main(["repair", str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 2
    assert "out is an input" in capsys.readouterr().err
