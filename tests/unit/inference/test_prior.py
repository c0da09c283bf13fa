"""The atlas prior: a mean of training labels that never sees an image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from prepared_cases import AFFINE, label_of, make_prepared
from tiny_training import resave

from lunet.cli import main
from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError, DataError
from lunet.inference.prior import THRESHOLDS, Prior, fit_prior, predict_prior
from lunet.reading import read_json
from lunet.task import Task

TASK = Task(channels=("MRI",), labels={"inner": 1, "outer": 2})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_prepared(folder)
    return folder


def test_identical_training_labels_come_back_exactly(study: Path) -> None:
    cases = read_manifest(study / "prepared").cases
    prior = fit_prior(TASK, [cases["case_00"]] * 3, [])
    np.testing.assert_array_equal(prior.segment(cases["case_00"].shape), cases["case_00"].label())


def test_frequency_is_the_mean_of_the_labels(study: Path) -> None:
    cases = list(read_manifest(study / "prepared").cases.values())[:3]
    prior = fit_prior(TASK, cases, [])
    expected = np.mean([[case.label() == 1, case.label() == 2] for case in cases], axis=0)
    np.testing.assert_allclose(prior.frequency, expected, atol=1e-6)


def test_the_threshold_is_the_best_of_its_grid_on_the_selection_cases(study: Path) -> None:
    cases = list(read_manifest(study / "prepared").cases.values())
    prior = fit_prior(TASK, cases[:5], cases[5:])

    def dice(threshold: float) -> float:
        mask = Prior(prior.indices, prior.frequency, threshold).segment(cases[5].shape) > 0
        truth = np.asarray(cases[5].label()) > 0
        return 2 * (mask & truth).sum() / (mask.sum() + truth.sum())

    assert dice(prior.threshold) == max(map(dice, THRESHOLDS))
    assert dice(prior.threshold) > dice(0.9)


def test_volumes_of_other_sizes_are_aligned_at_their_centres() -> None:
    frequency = np.zeros((1, 5, 5, 5), np.float32)
    frequency[0, 2, 2, 2] = 1
    prior = Prior((4,), frequency)
    for size in (3, 5, 9):
        mask = prior.segment((size,) * 3)
        assert np.argwhere(mask).tolist() == [[size // 2] * 3]
        assert mask.max() == 4


def test_predictions_do_not_depend_on_images(study: Path, tmp_path: Path) -> None:
    words = ["--fold", "0", "--splits", f"{study}/splits.json"]

    def run(folder: Path, out: str) -> None:
        manifest = f"{folder}/prepared/manifest.json"
        command = ["predict", "--prior", "--manifest", manifest, *words, "--out", out]
        assert main(command) == 0

    run(study, f"{tmp_path}/a")
    shutil.copytree(study / "prepared", tmp_path / "other" / "prepared")
    for path in (tmp_path / "other" / "prepared" / "images").iterdir():
        resave(path, np.zeros_like(np.load(path)))
    run(tmp_path / "other", f"{tmp_path}/b")
    assert [e["case"] for e in read_json(tmp_path / "a" / "predictions.json")["cases"]] == [
        "case_04",
        "case_05",
    ]
    for name in ("case_04.nii.gz", "case_05.nii.gz", "predictions.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    image = nib.load(tmp_path / "a" / "case_04.nii.gz")
    np.testing.assert_allclose(image.affine, AFFINE)
    mask, truth = np.asanyarray(image.dataobj), label_of(4)
    assert mask.shape == truth.shape
    overlap = 2 * ((mask > 0) & (truth > 0)).sum() / ((mask > 0).sum() + (truth > 0).sum())
    assert overlap > 0.7


def test_masks_of_others_and_of_another_fold_stay(study: Path, tmp_path: Path) -> None:
    (tmp_path / "case_99.nii.gz").write_bytes(b"by an expert")
    splits = json.loads((study / "splits.json").read_text())
    fold = splits["folds"][0]
    splits["folds"].append(fold | {"train": fold["test"], "test": fold["train"]})
    (tmp_path / "two.json").write_text(json.dumps(splits))
    out = tmp_path / "masks"
    for number in (0, 1, 0):
        predict_prior(study / "prepared", tmp_path / "two.json", fold=number, out=out)
    cases = sorted([*fold["test"], *fold["train"]])
    assert sorted(p.name for p in out.glob("*.nii.gz")) == [f"{case}.nii.gz" for case in cases]
    assert [e["case"] for e in read_json(out / "predictions.json")["cases"]] == cases
    (out / f"{fold['test'][0]}.nii.gz").write_bytes(b"corrected by an expert")
    with pytest.raises(ConfigError, match="was changed after `lunet predict` wrote it"):
        predict_prior(study / "prepared", tmp_path / "two.json", fold=0, out=out)
    assert (out / f"{fold['test'][0]}.nii.gz").read_bytes() == b"corrected by an expert"


def test_impossible_folds(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folds 0 to 0"):
        predict_prior(study / "prepared", study / "splits.json", fold=5, out=tmp_path)
    with pytest.raises(DataError, match="no training cases"):
        fit_prior(TASK, [], [])
