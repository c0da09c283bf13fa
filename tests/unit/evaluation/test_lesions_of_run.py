"""Lesion-wise results of a run's files, its maps, and the table and figure made of them."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from froc import froc_curve
from prepared_cases import AFFINE, make_prepared

from lunet.cli import main
from lunet.data.ground_truth import read_reference
from lunet.errors import DataError
from lunet.evaluation.lesions import LEVELS, lesions_of_run
from lunet.evaluation.pairs import EvaluatedRun
from lunet.inference.probability_maps import FOLDER, read_map, to_steps, write_map
from lunet.metrics.settings import LesionSettings, StatisticsSettings
from lunet.metrics.thresholds import FROC_THRESHOLDS
from lunet.reporting.figures.froc import froc
from lunet.reporting.figures.style import save, style
from lunet.reporting.result_files import from_inputs, read_lesions
from lunet.reporting.tables.lesions import froc_points, lesions
from lunet.task import Task

BINARY = Task(("CT",), {"tumour": 1})
CLASSES = Task(("MRI",), {"inner": 1, "outer": 2})


def test_steps_select_what_the_threshold_selects() -> None:
    rng = np.random.default_rng(0)
    exact = FROC_THRESHOLDS.astype(np.float32)
    near = np.nextafter(exact, np.float32(0))
    sure = 1 - 10 ** rng.uniform(-8, -2, 5_000)
    values = np.concatenate([rng.random(20_000), sure, exact, near, [0, 0.5, 1]])
    values = values.astype(np.float32)
    steps = to_steps(values)
    for step, threshold in enumerate(FROC_THRESHOLDS, start=1):
        np.testing.assert_array_equal(steps >= step, values.astype(np.float64) >= threshold)


@pytest.mark.parametrize("task", [BINARY, CLASSES])
@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4)])
def test_maps_come_back(task: Task, shape: tuple[int, ...], tmp_path: Path) -> None:
    channels = np.random.default_rng(0).random((task.out_channels, *shape)).astype(np.float32)
    write_map(tmp_path, "a", channels, task=task, affine=AFFINE)
    found = read_map(tmp_path, "a", task=task)
    first = 1 if task is CLASSES else 0
    expected = np.stack([to_steps(c).reshape(5, 4, -1) for c in channels[first:]], axis=-1)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(DataError, match=r"b\.nii\.gz: the probabilities are missing"):
        read_map(tmp_path, "b", task=task)
    other = Task(("CT",), {"a": 1, "b": 2, "c": 3})
    with pytest.raises(DataError, match="3 structures"):
        read_map(tmp_path, "a", task=other)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks and maps of two test cases: the first found with a false positive, the second not."""
    folder = tmp_path_factory.mktemp("run")
    manifest = make_prepared(folder)
    for name, strength in (("case_04", 0.9), ("case_05", 0.3)):
        label, affine = read_reference(manifest, name)
        inner, outer = (label == 1) * strength, (label == 2) * strength
        outer[0:2, 0:2, 0:2] = 0.6
        channels = np.stack([1 - inner - outer, inner, outer]).astype(np.float32)
        write_map(folder / "p" / FOLDER, name, channels, task=manifest.task, affine=affine)
        mask = (channels[1] > 0.5) + 2 * (channels[2] > 0.5)
        (folder / "p").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), folder / "p" / f"{name}.nii.gz")
    return folder


def counted(run: Path, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    out = [run / f"runs/net/fold-0/seed-{seed}" / name for name in ("lesions.csv", "froc.csv")]
    lesions_of_run(
        run / "prepared/manifest.json", run / "splits.json", run / "p",
        run=EvaluatedRun("net", 0, seed),
        settings=LesionSettings(), out=out[0], froc=out[1], log=lambda _: None,
    )  # fmt: skip
    sources = from_inputs([str(run / "runs")])
    assert out[0] in sources.lesions
    assert not sources.metrics
    return read_lesions(sources.lesions), read_lesions(sources.froc)


def test_counts_and_curve_of_a_run(run: Path) -> None:
    counts, curve = counted(run)
    rows = counts.set_index(["case", "label"])
    outer = [tuple(rows.loc[(case, "outer"), ["found", "false_positives"]]) for case in
             ("case_04", "case_05")]  # fmt: skip
    assert outer == [(1, 1), (0, 1)]
    assert rows.loc[("case_04", "inner"), "found"] == 1
    assert (rows["lesions"] == 1).all()
    assert (rows["pixel_accuracy_of_nothing"] > 0.5).all()
    points = froc_points(curve, ["preset", "label"]).set_index(["label", "threshold"])

    def at(label: str, probability: float) -> tuple[float, float]:
        """Sensitivity and false positives per image at the first threshold above a probability."""
        part = points.loc[label]
        row = part[part.index > probability].iloc[-1]
        return row["sensitivity"], row["false_positives_per_image"]

    assert at("outer", 0.25) == (1, 1)
    assert at("outer", 0.30) == (0.5, 1)
    assert at("outer", 0.50) == (0.5, 1)
    assert at("outer", 0.60) == (0.5, 0)
    assert at("inner", 0.90) == (0, 0)
    assert len(curve) == 2 * 2 * len(LEVELS)


def test_the_curve_is_that_of_the_full_maps(run: Path) -> None:
    _, curve = counted(run)
    manifest = make_prepared(run / "again")
    truths = [read_reference(manifest, name)[0] == 2 for name in ("case_04", "case_05")]
    full = [np.where(truth, p, 0.0) for truth, p in zip(truths, (0.9, 0.3), strict=True)]
    for values in full:
        values[0:2, 0:2, 0:2] = 0.6
    thresholds = FROC_THRESHOLDS[LEVELS - 1]
    expected = froc_curve(truths, full, thresholds=thresholds)
    found = froc_points(curve, ["preset", "label"])
    found = found[found["label"] == "outer"].reset_index(drop=True)
    for column in ("threshold", "sensitivity", "false_positives_per_image"):
        np.testing.assert_allclose(found[column], expected[column])


def test_a_missing_mask_finds_nothing(run: Path, tmp_path: Path) -> None:
    mask = run / "p/case_05.nii.gz"
    mask.rename(tmp_path / "kept")
    try:
        counts, _ = counted(run, seed=0)
    finally:
        (tmp_path / "kept").rename(mask)
    row = counts.set_index(["case", "label"]).loc[("case_05", "outer")]
    assert (row["lesions"], row["found"], row["false_positives"]) == (1, 0, 0)


def test_table_and_figure(run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        counts, curve = counted(run, seed)
    table = lesions(counts, curve, StatisticsSettings(resamples=100))
    records = {record["label"]: record for record in table.records}
    assert (records["outer"]["patients"], records["outer"]["lesions"]) == (2, 2)
    assert (records["outer"]["sensitivity"], records["outer"]["false_positives"]) == (0.5, 1.0)
    # no rate below one false positive per patient is reached before 0.62: half, then both lesions
    assert records["outer"]["froc_score"] == pytest.approx((0.5 * 3 + 1.0 * 4) / 7)
    assert "uninformative" in " ".join(column.title for column in table.columns)
    with style():
        paths = save(froc(curve), tmp_path / "froc")
    assert all(path.stat().st_size for path in paths)
    with open(paths[-1], newline="") as stream:
        assert {row["seed"] for row in csv.DictReader(stream)} == {"all", "0", "1"}


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lesions", "--manifest", str(run / "prepared"), "--splits", str(run / "splits.json")]
    words += ["--predictions", str(run / "p"), "--preset", "net", "--out", str(tmp_path / "l.csv")]
    assert main([*words, "--froc", str(tmp_path / "f.csv")]) == 0
    assert "1 of 1 lesions, 1 false positives; pixel accuracy 0." in capsys.readouterr().out
