"""The data doctor finds each planted corruption, names its file, and leaves clean data alone."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tiny_dataset as tiny

from lunet.cli import main
from lunet.data.audit.audit import audit, audit_lines, write_audit
from lunet.data.audit.findings import Finding
from lunet.data.audit.page import audit_page
from lunet.data.dataset import read_dataset
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import DatasetSettings, PhantomSettings
from lunet.study.study import study_of

DATA = os.environ.get("LUNET_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="LUNET_TEST_DATA names no folder")
IMAGE, LABEL = "imagesTr/case_03.nii.gz", "labelsTr/case_03.nii.gz"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("clean"))


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def alter(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change the values of one file."""

    def plant(root: Path) -> None:
        array, affine = load(root / name)
        tiny.save(root / name, change(array), affine)

    return plant


def move(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change the affine of one file."""

    def plant(root: Path) -> None:
        array, affine = load(root / name)
        image = nib.Nifti1Image(array, change(affine.copy()))
        image.set_sform(change(affine.copy()), 1)
        nib.save(image, root / name)

    return plant


def both(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Change the affine of image and label alike."""

    def plant(root: Path) -> None:
        move(IMAGE, change)(root)
        move(LABEL, change)(root)

    return plant


def header(name: str, change: Callable[[nib.Nifti1Header], None]) -> Callable[[Path], None]:
    """Change header fields and write the file as it is, without nibabel's corrections."""

    def plant(root: Path) -> None:
        image = nib.load(root / name)
        fields, array = image.header.copy(), np.asarray(image.dataobj)
        change(fields)
        raw = fields.binaryblock + b"\0\0\0\0" + array.astype(fields.get_data_dtype()).tobytes("F")
        (root / name).write_bytes(gzip.compress(raw))

    return plant


def added(vector: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    def change(affine: np.ndarray) -> np.ndarray:
        affine[:3, 3] += vector
        return affine

    return change


def scaled(*factors: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda affine: affine @ np.diag([*factors, 1.0])


def with_voxels(value: float, count: int = 5) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[:count] = value
        return array

    return change


def in_file(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes())) and None


def listing(change: Callable[[dict], None]) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        content = json.loads((root / "dataset.json").read_text())
        change(content)
        (root / "dataset.json").write_text(json.dumps(content))

    return plant


def sheared(affine: np.ndarray) -> np.ndarray:
    affine[0, 1] += 0.2
    return affine


def turned(affine: np.ndarray) -> np.ndarray:
    angle = np.deg2rad(10)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


def copy_over(source: str, target: str) -> Callable[[Path], None]:
    return lambda root: shutil.copyfile(root / source, root / target) and None


def no_codes(fields: nib.Nifti1Header) -> None:
    fields["qform_code"] = fields["sform_code"] = 0


def conflicting(fields: nib.Nifti1Header) -> None:
    fields["qoffset_x"] = 40


def odd_quaternion(fields: nib.Nifti1Header) -> None:
    fields["quatern_b"] = fields["quatern_c"] = 0.9


def zero_spacing(fields: nib.Nifti1Header) -> None:
    fields["pixdim"][1] = 0


def flat(fields: nib.Nifti1Header) -> None:
    fields["srow_z"] = 0


def roll(array: np.ndarray) -> np.ndarray:
    return np.roll(array, 9, axis=1)


def to_border(array: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(array)
    moved[4:, :, :] = array[:-4, :, :]
    moved[-3:, 8:10, 8] = 1
    return moved


def no_class_but_in_the_first(root: Path) -> None:
    for path in sorted((root / "labelsTr").glob("*.nii.gz"))[1:]:
        label = np.asarray(nib.load(path).dataobj)
        tiny.save(path, np.where(label == 2, 1, label).astype(np.uint8))


PLANTED = {
    # name: (planter, check, severity, part of file or field)
    "missing label": (lambda r: (r / LABEL).unlink(), "missing_file", "error", LABEL),
    "missing image": (lambda r: (r / IMAGE).unlink(), "missing_file", "error", IMAGE),
    "truncated gzip": (in_file(IMAGE, lambda b: b[: len(b) // 2]), "unreadable", "error", IMAGE),
    "truncated label": (in_file(LABEL, lambda b: b[:-20]), "unreadable", "error", LABEL),
    "empty file": (in_file(IMAGE, lambda b: b""), "empty_file", "error", IMAGE),
    "not gzip": (in_file(IMAGE, gzip.decompress), "wrong_compression", "error", IMAGE),
    "html page": (in_file(IMAGE, lambda b: b"<html>404</html>"), "wrong_magic", "error", IMAGE),
    "gzip of text": (
        in_file(LABEL, lambda b: gzip.compress(b"no image" * 99)), "unreadable", "error", LABEL
    ),
    "label shape": (alter(LABEL, lambda a: a[:, :, :9]), "shape_mismatch", "error", LABEL),
    "label spacing": (move(LABEL, scaled(1, 1, 2)), "spacing_mismatch", "error", LABEL),
    "label origin": (move(LABEL, added((0, 3, 0))), "origin_mismatch", "error", LABEL),
    "label direction": (move(LABEL, turned), "direction_mismatch", "error", LABEL),
    "label mirrored": (move(LABEL, scaled(-1, 1, 1)), "direction_mismatch", "error", LABEL),
    "jitter": (move(LABEL, added((0.02, 0, 0))), "cosmetic_jitter", "warning", LABEL),
    "qform conflict": (header(IMAGE, conflicting), "qform_sform_conflict", "warning", IMAGE),
    "bad quaternion": (header(IMAGE, odd_quaternion), "bad_qform", "warning", IMAGE),
    "no codes": (header(IMAGE, no_codes), "no_orientation", "warning", IMAGE),
    "zero spacing": (header(IMAGE, zero_spacing), "bad_spacing", "error", IMAGE),
    "metres": (both(scaled(0.001, 0.001, 0.001)), "odd_spacing", "warning", IMAGE),
    "sheared": (both(sheared), "not_orthonormal", "warning", IMAGE),
    "singular": (header(IMAGE, flat), "singular_affine", "error", IMAGE),
    "other handedness": (both(scaled(-1, 1, 1)), "mixed_orientation", "warning", IMAGE),
    "undeclared label": (alter(LABEL, with_voxels(7)), "undeclared_label", "error", LABEL),
    "negative label": (
        alter(LABEL, lambda a: with_voxels(-1)(a.astype(np.int16))),
        "undeclared_label", "error", LABEL,
    ),
    "float label": (alter(LABEL, lambda a: a.astype(np.float32)), "float_label", "warning", LABEL),
    "label drift": (
        alter(LABEL, lambda a: a * np.float32(0.9999999)), "label_drift", "warning", LABEL
    ),
    "label drift, too far": (
        alter(LABEL, lambda a: a * np.float32(0.998)), "fractional_label", "error", LABEL
    ),
    "class of one subject": (
        no_class_but_in_the_first, "class_in_one_subject", "warning", "case_01"
    ),
    "fractional label": (
        alter(LABEL, lambda a: with_voxels(0.5)(a.astype(np.float32))),
        "fractional_label", "error", LABEL,
    ),
    "label with NaN": (
        alter(LABEL, lambda a: with_voxels(np.nan)(a.astype(np.float32))),
        "label_not_finite", "error", LABEL,
    ),
    "empty label": (alter(LABEL, np.zeros_like), "empty_label", "warning", LABEL),
    "4D label": (
        alter(LABEL, lambda a: np.stack([a, a], -1)), "wrong_dimensions", "error", LABEL
    ),
    "singleton label": (alter(LABEL, lambda a: a[..., None]), "singleton_axis", "warning", LABEL),
    "label at border": (alter(LABEL, to_border), "label_at_border", "warning", LABEL),
    "misplaced label": (alter(LABEL, roll), "label_misplaced", "warning", LABEL),
    "swapped classes": (
        alter(LABEL, lambda a: np.array([0, 2, 1], np.uint8)[a]),
        "label_misplaced", "warning", LABEL,
    ),
    "tiny structure": (
        alter(LABEL, lambda a: a * (np.cumsum(a == 2).reshape(a.shape) < 9)),
        "foreign_volume", "warning", LABEL,
    ),
    "label is the image": (copy_over(IMAGE, LABEL), "label_is_image", "error", LABEL),
    "label of another": (copy_over("labelsTr/case_05.nii.gz", LABEL), "duplicate_label", "error",
                         "case_05"),
    "NaN": (alter(IMAGE, with_voxels(np.nan)), "not_finite", "error", IMAGE),
    "infinite": (alter(IMAGE, with_voxels(-np.inf)), "not_finite", "error", IMAGE),
    "constant": (alter(IMAGE, np.ones_like), "constant_image", "error", IMAGE),
    "saturated": (alter(IMAGE, lambda a: np.minimum(a, 110)), "saturated", "warning", IMAGE),
    "other scale": (alter(IMAGE, lambda a: a * 1e4), "foreign_scale", "warning", IMAGE),
    "two channels": (alter(IMAGE, lambda a: np.stack([a, a], -1)), "channel_count", "error", IMAGE),
    "5D": (
        alter(IMAGE, lambda a: np.zeros((*a.shape, 2, 2), a.dtype)),
        "wrong_dimensions", "error", IMAGE,
    ),
    "complex": (alter(IMAGE, lambda a: a.astype(np.complex64)), "odd_dtype", "error", IMAGE),
    "duplicate image": (
        copy_over("imagesTr/case_05.nii.gz", IMAGE), "duplicate_image", "error", "case_05"
    ),
    "same subject": (
        lambda r: tiny.save(
            r / IMAGE, load(r / "imagesTr/case_05.nii.gz")[0] * 1.1 + tiny.volumes(99)[0] * 1e-3
        ),
        "same_subject", "warning", "case_05",
    ),
    "other spacing": (both(scaled(1, 1, 5)), "foreign_spacing", "warning", IMAGE),
    "other anatomy": (
        lambda r: [
            tiny.save(r / name, array)
            for name, array in zip((IMAGE, LABEL), tiny.volumes(3, (50, 50, 16)), strict=True)
        ],
        "foreign_extent", "warning", IMAGE,
    ),
    "macOS file": (
        lambda r: (r / "imagesTr/._case_03.nii.gz").write_bytes(b"x"), "stray_file", "warning", "._"
    ),
    "DS_Store": (
        lambda r: (r / ".DS_Store").write_bytes(b"x"), "stray_file", "warning", "DS_Store"
    ),
    "stray text": (
        lambda r: (r / "labelsTr/notes.txt").write_text("x"), "stray_file", "warning", "notes.txt"
    ),
    "lonely image": (
        copy_over(IMAGE, "imagesTr/case_77.nii.gz"), "image_without_label", "warning", "case_77"
    ),
    "lonely label": (
        copy_over(LABEL, "labelsTr/case_77.nii.gz"), "label_without_image", "warning", "case_77"
    ),
    "entry without label": (
        listing(lambda c: c["training"][2].pop("label")), "image_without_label", "error", IMAGE
    ),
    "shifted lists": (
        listing(lambda c: c["training"][2].update(label="./labelsTr/case_04.nii.gz")),
        "name_mismatch", "error", "case_04",
    ),
    "wrong count": (listing(lambda c: c.update(numTraining=5)), "wrong_count", "warning",
                    "numTraining"),
    "unused label": (
        listing(lambda c: c["labels"].update({"3": "ghost"})), "unused_label", "warning", "ghost"
    ),
    "empty region": (
        listing(lambda c: c.update(
            labels={**c["labels"], "4": "ghost"}, regions={"all": [1, 2, 4], "ghost": [4]})),
        "empty_region", "error", "ghost (labels 4)",
    ),
    "gap in labels": (
        listing(lambda c: c["labels"].update({"9": "ghost"})),
        "non_consecutive_labels", "info", "[1, 2, 9]",
    ),
}  # fmt: skip


def test_clean_data_have_no_finding(clean: Path) -> None:
    (clean / ".snakemake_timestamp").touch()
    assert audit(read_dataset(clean)).findings == ()


@pytest.mark.parametrize("name", PLANTED)
def test_planted_corruption_is_found(name: str, clean: Path, tmp_path: Path) -> None:
    plant, check, severity, place = PLANTED[name]
    root = tmp_path / "raw"
    shutil.copytree(clean, root)
    plant(root)
    found = [f for f in audit(read_dataset(root)).findings if f.check == check]
    assert found, f"{check} not found"
    text = " ".join(f.line() for f in found)
    assert place in text
    assert {f.severity for f in found} == {severity}
    assert all(f.found and f.expected for f in found)
    if severity != "info":
        assert all(f.command for f in found)


def test_at_least_thirty_corruptions_are_planted() -> None:
    assert len({check for _, check, _, _ in PLANTED.values()}) >= 30


def test_leak_in_splits(clean: Path, tmp_path: Path) -> None:
    listed = read_dataset(clean, DatasetSettings(name="Task04_Hippocampus"))
    fold = {"train": ["case_01"], "validation": ["case_02"], "test": ["case_05", "nobody"]}
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"held_out": ["case_06"], "folds": [fold]}))
    found = {(f.check, f.case) for f in audit(listed, splits=path).findings}
    assert found >= {
        ("group_leakage", "case_02"), ("group_leakage", "case_06"), ("unknown_case", "nobody")
    }  # fmt: skip


def test_files_are_written_and_errors_end_in_one_line(
    clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "raw", tmp_path / "out"
    shutil.copytree(clean, root)
    assert main(["audit", str(root), "--out", str(out)]) == 0
    PLANTED["NaN"][0](root)
    assert main(["audit", str(root), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert IMAGE in error
    rows = list(csv.DictReader((out / "findings.csv").open()))
    assert rows[0]["check"] == "not_finite"
    assert json.loads((out / "summary.json").read_text())["findings"]["error"] == len(rows)
    html = (out / "audit.html").read_text()
    assert html.count("data:image/png;base64,") == 6
    assert "http" not in html.replace("http://www.w3.org", "")


CROPPED = (
    "dataset: {name: Tiny, path: RAW}\npreprocess: {size: [20, 12, 16], crop_labels: ALLOWED}\n"
)


@pytest.mark.parametrize(("allowed", "severity"), [("false", "error"), ("true", "warning")])
def test_what_the_crop_of_a_study_cuts_off_labels(
    clean: Path, tmp_path: Path, allowed: str, severity: str
) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "out"
    text = CROPPED.replace("RAW", str(clean)).replace("ALLOWED", allowed)
    config.write_text(f"study: s\npresets: [lunet_small_1f]\n{text}")
    words = ["audit", str(clean), "--config", str(config), "--out", str(out)]
    assert main(words) == (2 if severity == "error" else 0)
    rows = list(csv.DictReader((out / "findings.csv").open()))
    cut = [row for row in rows if row["check"] == "cropped_label"]
    assert len(cut) == 6
    assert {row["severity"] for row in cut} == {severity}
    assert "the crop to 20x12x16 voxels cuts " in cut[0]["found"]
    assert "cropped_label" in (out / "audit.html").read_text()
    config.write_text(config.read_text().replace("12", "24"))
    assert main(words) == 0
    assert "cropped_label" not in (out / "findings.csv").read_text()


def test_only_a_size_that_is_known_is_a_setting_of_the_audit() -> None:
    base = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["lunet_small_1f"]}
    sized = {"preprocess": {"size": [8, 8, 8]}}
    assert set(study_of(base).sections("audit")) == {"dataset", "task"}
    assert study_of(base | sized).sections("audit")["crop"]["size"] == [8, 8, 8]
    assert "crop" not in study_of(base | sized | {"plan": "auto"}).sections("audit")


def test_too_few_subjects_to_compare_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for subjects, few in ((5, True), (6, False)):
        raw = make_phantom(PhantomSettings(subjects=subjects, scale=0.5), tmp_path / str(subjects))
        main(["audit", str(raw), "--out", str(tmp_path / f"out-{subjects}")])
        text = capsys.readouterr().out
        assert ("5 labelled subjects are too few to compare" in text) is few
        assert ("smallest possible p is 0.062" in text) is few


def test_the_page_escapes_names(clean: Path) -> None:
    """Names of labels, channels and groups are the user's, and may hold anything."""
    hostile = '"><script>alert(1)</script>'
    dataset = read_dataset(clean)
    case = dataclasses.replace(audit(dataset).facts[0], id=hostile, group=hostile)
    task = dataclasses.replace(dataset.task, labels={hostile: 1}, channels=(hostile,))
    named = dataclasses.replace(dataset, name=hostile, task=task)
    finding = Finding("error", "check", hostile, hostile, hostile, hostile, hostile, hostile)
    page = audit_page(named, [finding], [case])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 13
    assert '<figure class="error">' in page


def test_no_cases(tmp_path: Path) -> None:
    tiny.write_listing(tmp_path, [])
    assert [f.check for f in audit(read_dataset(tmp_path)).findings if f.severity == "error"] == [
        "no_cases"
    ]


@needs_data
def test_real_hippocampus_has_no_error(tmp_path: Path) -> None:
    shutil.unpack_archive(Path(DATA) / "Task04_Hippocampus.tar", tmp_path, filter="data")
    root = tmp_path / "Task04_Hippocampus"
    result = audit(read_dataset(root, DatasetSettings(name="Task04_Hippocampus")))
    assert len(result.facts) == 197
    assert {f.severity for f in result.findings} == {"warning"}
    assert {f.check for f in result.findings} <= {
        "float_label", "mixed_scales", "label_unlike_others"
    }  # fmt: skip
    write_audit(result, tmp_path / "out")
    assert audit_lines(result)[-1] == "Hippocampus: 197 cases, 0 errors, 3 warnings, 0 infos"
