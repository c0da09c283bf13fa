"""Phantoms: reproducible bytes, promised layouts, a task that is neither trivial nor lost."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lunet.cli import main
from lunet.data.catalog_table import CATALOG, HEART_CODES
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import PhantomSettings
from lunet.errors import ConfigError
from lunet.file_list import MARKER

KINDS = [
    "hippocampus", "harp", "spleen", "lung", "brats2021", "brats2023", "heart_ct", "heart_mr",
]  # fmt: skip


def read(path: Path) -> NDArray[np.generic]:
    return np.asarray(nib.load(path).dataobj)


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    settings = PhantomSettings(kind=request.param, subjects=2, scale=0.6)
    return request.param, make_phantom(settings, tmp_path_factory.mktemp("made") / request.param)


def test_layout_and_headers(made: tuple[str, Path]) -> None:
    _, root = made
    listing = json.loads((root / "dataset.json").read_text())
    declared = {int(index) for index in listing["labels"]}
    assert listing["training"]
    for entry in listing["training"]:
        files = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
        assert len(files) == len(listing["modality"])
        label = nib.load(root / entry["label"])
        values = read(root / entry["label"])
        assert values.dtype == np.uint8
        assert {int(value) for value in np.unique(values)} == declared
        for file in files:
            image = nib.load(root / file)
            assert image.shape == label.shape
            assert np.array_equal(image.affine, label.affine)
            assert np.array_equal(image.get_qform(), image.get_sform())
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
            assert np.isfinite(read(root / file)).all()
    assert len({entry["group"] for entry in listing["training"]}) == 2


def test_same_seed_same_bytes_other_seed_other_bytes(
    made: tuple[str, Path], tmp_path: Path
) -> None:
    kind, root = made
    again = PhantomSettings(kind=kind, subjects=1, scale=0.6)  # type: ignore[arg-type]
    first = digests(make_phantom(again, tmp_path / "again"))
    kept = {name: digest for name, digest in first.items() if name != "dataset.json"}
    assert kept.items() <= digests(root).items()
    other = PhantomSettings(kind=kind, subjects=1, scale=0.6, seed=1)  # type: ignore[arg-type]
    assert not set(kept.values()) & set(digests(make_phantom(other, tmp_path / "other")).values())


@pytest.fixture(scope="module")
def hippocampi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "hippocampi"
    return make_phantom(PhantomSettings(subjects=12), root)


def centred(volume: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    lost = [n - m for n, m in zip(shape, volume.shape, strict=True)]
    assert min(lost) >= 0
    return np.pad(volume, [(gap // 2, gap - gap // 2) for gap in lost])


def test_demo_volumes_fit_and_labels_keep_a_margin(hippocampi: Path) -> None:
    for path in sorted((hippocampi / "labelsTr").iterdir()):
        label = read(path)
        centred(label.astype(np.uint8), (32, 48, 32))
        for axis in range(3):
            slices = np.moveaxis(label, axis, 0)
            assert not slices[0].any()
            assert not slices[-1].any()
        assert ndimage.label(label > 0)[1] == 1


def test_full_size_has_the_extent_of_real_crops(tmp_path: Path) -> None:
    root = make_phantom(PhantomSettings(subjects=6, scale=1.0), tmp_path / "full")
    shapes = np.array([read(path).shape for path in (root / "labelsTr").iterdir()])
    assert (shapes >= [31, 40, 24]).all()
    assert (shapes <= [43, 59, 47]).all()
    assert len(np.unique(shapes, axis=0)) > 6
    share = np.mean([(read(path) > 0).mean() for path in (root / "labelsTr").iterdir()])
    assert 0.04 < share < 0.08


def test_atlas_prior_is_a_floor_well_below_the_ceiling(hippocampi: Path) -> None:
    """Mean of the other subjects' labels, after centring: between half right and two thirds."""
    listing = json.loads((hippocampi / "dataset.json").read_text())["training"]
    groups = np.array([entry["group"] for entry in listing])
    labels = np.stack([centred(read(hippocampi / e["label"]), (32, 48, 32)) for e in listing])
    scores = []
    for index, label in enumerate(labels):
        others = labels[groups != groups[index]]
        prior = np.stack([(others == value).mean(axis=0) for value in range(3)]).argmax(axis=0)
        for value in (1, 2):
            both = ((prior == value) & (label == value)).sum()
            scores.append(2 * both / ((prior == value).sum() + (label == value).sum()))
    assert 0.5 < np.mean(scores) < 0.68


def test_intensity_alone_does_not_tell_the_structure(hippocampi: Path) -> None:
    """The best threshold window on the image overlaps far too much of the look-alikes."""
    image = read(hippocampi / "imagesTr" / "hippocampus_001.nii.gz").astype(float)
    label = read(hippocampi / "labelsTr" / "hippocampus_001.nii.gz") > 0
    best = 0.0
    levels = np.percentile(image, range(2, 99, 4))
    for low in levels:
        for high in levels[levels > low]:
            chosen = (image >= low) & (image <= high)
            best = max(best, 2 * (chosen & label).sum() / (chosen.sum() + label.sum()))
    assert best < 0.45


def test_intensity_scales_are_mixed_and_shared_by_the_sides_of_a_subject(hippocampi: Path) -> None:
    scale = {}
    for number in range(1, 25):
        image = read(hippocampi / "imagesTr" / f"hippocampus_{number:03d}.nii.gz")
        scale[number] = (image.dtype, round(float(np.log10(image.mean()))))
    assert len(set(scale.values())) >= 2
    assert all(scale[2 * k - 1][0] == scale[2 * k][0] for k in range(1, 13))


def test_nodules_are_tiny_and_ct_is_in_hounsfield_units(tmp_path: Path) -> None:
    root = make_phantom(PhantomSettings(kind="lung", subjects=6, scale=0.6), tmp_path / "lung")
    shares: list[float] = []
    for path in (root / "labelsTr").iterdir():
        label, file = read(path), root / "imagesTr" / path.name
        image, (x, _, z) = read(file), nib.load(file).header.get_zooms()
        present = label.any(axis=(0, 1))
        shares += list(label[..., present].mean(axis=(0, 1)))
        assert image.dtype == np.int16
        assert image.min() >= -1024
        assert np.median(image[0]) < -950  # air
        assert -150 < np.percentile(image[label > 0], 90) < 150  # soft tissue, blurred
        assert z > 1.5 * x
    assert 0.002 < np.mean(shares) < 0.008


def test_brats_as_published(tmp_path: Path) -> None:
    for kind, stem, suffixes, codes in (
        ("brats2021", "BraTS2021_00001/BraTS2021_00001_", "flair t1 t1ce t2 seg", {0, 1, 2, 4}),
        (
            "brats2023",
            "BraTS-GLI-00001-000/BraTS-GLI-00001-000-",
            "t2f t1n t1c t2w seg",
            {0, 1, 2, 3},
        ),
    ):
        settings = PhantomSettings(kind=kind, subjects=1, scale=0.6, layout="published")  # type: ignore[arg-type]
        root = make_phantom(settings, tmp_path / kind)
        assert set(digests(root)) == {f"{stem}{suffix}.nii.gz" for suffix in suffixes.split()}
        label = read(root / f"{stem}seg.nii.gz")
        assert set(np.unique(label).tolist()) == codes
        brain = read(root / f"{stem}{suffixes.split()[0]}.nii.gz") > 0
        assert brain[label > 0].all()


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_whole_heart_as_published(tmp_path: Path, modality: str) -> None:
    kind = f"heart_{modality}"
    settings = PhantomSettings(kind=kind, subjects=2, scale=0.6, layout="published")  # type: ignore[arg-type]
    root = make_phantom(settings, tmp_path / kind)
    folder = f"{modality}_train"
    assert set(digests(root)) == {
        f"{folder}/{folder}_{number}_{what}.nii.gz"
        for number in (1001, 1002)
        for what in ("image", "label")
    }
    values = np.unique(read(root / folder / f"{folder}_1001_label.nii.gz"))
    assert set(values.tolist()) == {0, *HEART_CODES}


def test_published_layout_agrees_with_the_project_s(tmp_path: Path) -> None:
    for kind, name in (("brats2021", "BraTS2021"), ("heart_ct", "MM-WHS_CT")):
        both = []
        for layout in ("project", "published"):
            settings = PhantomSettings(kind=kind, subjects=1, scale=0.6, layout=layout)  # type: ignore[arg-type]
            root = make_phantom(settings, tmp_path / kind / layout)
            where = "labelsTr/*" if layout == "project" else "*/*[ls][ae][bg]*"
            (path,) = root.glob(where)
            both.append(read(path).astype(int))
        ours, codes = both
        for code, index in CATALOG[name].remap.items():
            codes[codes == code] = index
        assert np.array_equal(ours, codes)


def test_command_and_its_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "made"
    words = ["phantom", "--subjects", "1", "--scale", "0.6", "--out", str(out)]
    assert main(words) == 0
    assert len(list((out / "imagesTr").iterdir())) == 2
    first = digests(out)
    assert main(words) == 0
    assert digests(out) == first
    (out / "notes.txt").write_text("mine")
    assert main(words) == 2
    assert "notes.txt exists and was not written" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "--subjects", "0", "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match="harp, brats and heart"):
        make_phantom(PhantomSettings(kind="lung", layout="published"), tmp_path / "lung")
    assert {path.name for path in tmp_path.iterdir()} == {"made"}
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        make_phantom(PhantomSettings(subjects=1), tmp_path / "file")
