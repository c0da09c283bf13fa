"""Networks of one phantom tested on another whose label is the union of the two parts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import save_run

import lunet
from lunet.cli import main
from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import PhantomSettings, PreprocessSettings
from lunet.errors import ConfigError
from lunet.reading import read_json
from lunet.reporting.result_files import Grid, from_grid
from lunet.reporting.tables.index import make_table
from lunet.settings import plain
from lunet.study.config import parse
from lunet.study.study import Study
from lunet.study.transfer import table_settings, target_files, target_settings
from lunet.task import Task
from lunet.training.weights import load_weights, save_weights

PARTS = Task(channels=("MRI",), labels={"Anterior": 1, "Posterior": 2})
WHOLE = {
    "name": "phantom",
    "labels": {"hippocampus": 1},
    "remap": {"2": 1},
    "phantom": {"kind": "hippocampus", "subjects": 2, "seed": 5, "scale": 0.5},
}
MAP = {"Anterior": "hippocampus", "Posterior": "hippocampus"}
BASE = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["tiny"],
    "variants": {"tiny": {"base": "lunet_small_1f"}},
    "folds": [0],
    "transfer": {"whole": {"dataset": WHOLE, "map": MAP}},
}


def study(**changes: Any) -> Study:
    return Study(parse(BASE | changes))


def target(dataset: dict[str, Any] = WHOLE, **names: str) -> dict[str, Any]:
    return {"transfer": {"whole": {"dataset": dataset, "map": names or MAP}}}


@pytest.fixture(scope="module")
def tested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Raw data of the other phantom, a network's run, and what the step wrote about both."""
    root = tmp_path_factory.mktemp("transfer")
    make_phantom(PhantomSettings(subjects=2, seed=5, scale=0.5), root / "raw")
    _save_run(root / "run")
    out = root / "transfer/runs/tiny/fold-0/seed-0"
    wildcards = SimpleNamespace(target="whole", preset="tiny")
    words = ["transfer", "--settings", target_settings(study(), "transfer")(wildcards)]
    words += ["--code", "c", "--raw", str(root / "raw"), "--weights", str(root / "run")]
    assert main([*words, "--out", str(out)]) == 0
    return root / "raw", root / "run", out


def _save_run(folder: Path) -> None:
    """A network that segments something: fresh ones say the same everywhere."""
    save_run(folder, PARTS, seed=5)
    path = folder / "weights.safetensors"
    state, about = load_weights(path)
    state |= {"project.weight": 60 * state["project.weight"], "project.bias": torch.zeros(3)}
    save_weights(path, state, about)


def test_each_case_is_scored_as_by_hand(tested: tuple[Path, Path, Path]) -> None:
    raw, run, out = tested
    rows = pd.read_csv(out / "metrics.csv")
    assert len(rows) == 4  # both sides of two subjects
    assert set(rows["label"]) == {"hippocampus"}
    assert rows["group"].nunique() == 2
    assert set(rows["preset"]) == {"tiny"}
    model = lunet.load_model(run)
    for row in rows.to_dict("records"):
        mask = lunet.predict(model, raw / "imagesTr" / f"{row['case']}.nii.gz") > 0
        truth = np.asarray(nib.load(raw / "labelsTr" / f"{row['case']}.nii.gz").dataobj)
        assert set(np.unique(truth)) == {0, 1, 2}
        expected = 2 * (mask & (truth > 0)).sum() / (mask.sum() + (truth > 0).sum())
        assert row["dice"] == pytest.approx(expected)
        assert 0 < expected < 1
        written = nib.load(out / "predictions" / f"{row['case']}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj) > 0, mask)
        assert set(np.unique(np.asarray(written.dataobj))) == {0, 1}


def test_the_record_says_what_was_tested_on_what(tested: tuple[Path, Path, Path]) -> None:
    record = read_json(tested[2] / "run.json")
    assert record["settings"]["transfer"]["map"] == MAP
    assert (record["preset"], record["code"]) == ("tiny", "c")
    assert len(record["weights"]["sha256"]) == 64


def test_tables_are_those_of_any_results(tested: tuple[Path, Path, Path]) -> None:
    results = tested[2].parents[3]
    sources = from_grid(Grid(results, ("tiny",), (0,), (0,)), ("metrics", "runs"))
    table = make_table("accuracy", sources, json.loads(table_settings(study())))
    assert [(row["preset"], row["label"], row["n"]) for row in table.records] == [
        ("tiny", "hippocampus", 4)
    ]


def test_labels_that_are_mapped_to_background_do_not_count(
    tested: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    raw, run, out = tested
    sections = json.loads(
        target_settings(
            study(**target(Anterior="hippocampus", Posterior="background")), "transfer"
        )(SimpleNamespace(target="whole", preset="tiny"))
    )
    words = ["transfer", "--settings", json.dumps(sections), "--raw", str(raw)]
    assert main([*words, "--weights", str(run), "--out", str(tmp_path)]) == 0
    for path in (out / "predictions").glob("*.nii.gz"):
        both = np.asarray(nib.load(path).dataobj)
        front = np.asarray(nib.load(tmp_path / "predictions" / path.name).dataobj)
        assert 0 < front.sum() < both.sum()


def test_volumes_larger_than_those_trained_on_are_segmented_whole(
    tested: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    raw, run, _ = tested
    state, about = load_weights(run / "weights.safetensors")
    small = plain(PreprocessSettings(size=(8, 8, 8)))
    save_weights(tmp_path / "run/weights.safetensors", state, about | {"preprocess": small})
    settings = target_settings(study(), "transfer")(SimpleNamespace(target="whole", preset="tiny"))
    words = ["transfer", "--settings", settings, "--raw", str(raw), "--out", str(tmp_path / "o")]
    assert main([*words, "--weights", str(tmp_path / "run")]) == 0
    for mask in (tmp_path / "o/predictions").glob("*.nii.gz"):
        found = np.argwhere(np.asarray(nib.load(mask).dataobj))
        assert (found.max(axis=0) - found.min(axis=0) >= 8).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (target(Anterior="hippocampus"), r"transfer.whole.map.Posterior: missing"),
        (target(**MAP, Head="hippocampus"), r"map.Head: is not a label of the trained"),
        (target(Anterior="hipocampus", Posterior="background"), "did you mean 'hippocampus'"),
        (target(Anterior="background", Posterior="background"), "everything is background"),
        (target(WHOLE | {"dimensions": 2}), r"transfer.whole.dataset.dimensions: 2"),
        (target(WHOLE | {"channels": ["T1", "T2"]}), r"transfer.whole.dataset.channels: 2"),
    ],
)
def test_targets_that_do_not_fit_are_refused_before_anything_runs(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        study(**change)


def test_the_workflow_asks_for_each_run_and_the_targets_own_data() -> None:
    s = study(folds=[0, 1], seeds=[0, 1])
    files = target_files(s, "whole", "metrics.csv")
    assert len(files) == 4
    assert files[0] == "results/s/transfer/whole/runs/tiny/fold-0/seed-0/metrics.csv"
    wanted = json.loads(target_settings(s, "download")(SimpleNamespace(target="whole")))
    assert wanted["dataset"]["phantom"]["seed"] == 5
    assert wanted["task"]["labels"] == {"hippocampus": 1}
    prior = {"reference": "atlas_prior", "pairs": [["tiny", "atlas_prior"]]}
    statistics = json.loads(table_settings(study(statistics=prior)))["statistics"]
    assert (statistics["reference"], statistics["pairs"]) == (None, [])
