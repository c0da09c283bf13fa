"""Slices as PNG files for other tools: the same arrays come back, but for the grey levels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lunet.cli import main
from lunet.data.dataset import read_dataset
from lunet.data.io.images import read_image, read_label
from lunet.data.layouts.open import open_dataset
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import DatasetSettings, PhantomSettings

WINDOW = (-1350.0, 150.0)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "lung"
    return make_phantom(PhantomSettings(kind="lung", subjects=2, scale=0.5), folder)


def export(raw: Path, out: Path, *words: str) -> list[dict[str, str]]:
    window = [f"{value:g}" for value in WINDOW]
    assert main(["export-slices", str(raw), "--window", *window, "--out", str(out), *words]) == 0
    with open(out / "slices.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_same_arrays_come_back(raw: Path, tmp_path: Path) -> None:
    rows = export(raw, tmp_path / "out")
    source = read_dataset(raw)
    settings = DatasetSettings(name="slices", path="x", labels={"cancer": 1})
    dataset = open_dataset(tmp_path / "out", settings)
    assert dataset.task.dimensions == 2
    assert len(dataset.cases) == len(rows)
    for row in rows[::9]:
        original = source.case(row["case"])
        index, case = int(row["slice"]), dataset.case(row["file"].removesuffix(".png"))
        scan = read_image(original.images)
        shares = (np.clip(scan.array[..., index], *WINDOW) - WINDOW[0]) / 1500
        found = read_image(case.images).array
        assert np.abs(found / 255 - shares).max() <= 0.5 / 255 + 1e-6
        label = read_label(original.label)[0][..., index]
        np.testing.assert_array_equal(read_label(case.label, dataset.rule)[0], label)
        assert int(row["labelled"]) == label.sum()
        steps = np.diag(scan.affine)[:2]
        np.testing.assert_allclose([float(row["column_mm"]), float(row["row_mm"])], steps)


def test_an_import_knows_the_pixel_size_of_exported_slices(raw: Path, tmp_path: Path) -> None:
    rows = export(raw, tmp_path / "out")
    settings = DatasetSettings(name="slices", path="x", labels={"cancer": 1})
    dataset = open_dataset(tmp_path / "out", settings)
    assert dataset.pixel_mm == (float(rows[0]["column_mm"]), float(rows[0]["row_mm"]))
    assert dataset.unit == "mm"
    rows[0]["row_mm"] = "0.123"  # one size no longer fits all
    with open(tmp_path / "out/slices.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert open_dataset(tmp_path / "out", settings).unit == "px"


def test_empty_slices_may_be_thinned_out_and_labels_be_white(raw: Path, tmp_path: Path) -> None:
    every = export(raw, tmp_path / "all")
    none = export(raw, tmp_path / "none", "--empty", "0", "--white")
    some = export(raw, tmp_path / "some", "--empty", "0.3")
    labelled = [row["file"] for row in every if int(row["labelled"])]
    assert [row["file"] for row in none] == labelled
    assert len(labelled) < len(some) < len(every)
    assert some == export(raw, tmp_path / "again", "--empty", "0.3")
    mask = read_image([tmp_path / "none/labels" / labelled[0]]).array
    assert np.unique(mask).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "1", "1"], "LOW below HIGH"),
        (["--window", "0", "1", "--empty", "2"], "share from 0 to 1"),
        (["--window", "0", "1", "--axis", "3"], "--axis: found '3', a whole number from 0 to 2"),
        (["--window", "0", "1", "--channel", "1"], "images have 1"),
    ],
)
def test_wrong_arguments_write_nothing(
    raw: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["export-slices", str(raw), "--out", str(tmp_path / "out"), *words])
    except SystemExit as stop:  # the parser's own refusal
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
