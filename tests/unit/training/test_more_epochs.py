"""Finished trainings that go on, snapshots, and which weights are the best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from tiny_training import EVERYTHING, TINY, job, prepare, results

from lunet.reading import read_json
from lunet.study.config import parse
from lunet.study.study import Study
from lunet.training.recipe import EarlyStopping, Ema, Recipe, Schedule
from lunet.training.run import run_training
from lunet.training.weights import load_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared")


def grown_and_whole(data: Path, place: Path, recipe: Recipe, first: int, second: int) -> list[dict]:
    """Results of a training that was given more epochs, and of one that had them."""
    for epochs in (first, second):
        run_training(job(data, place / "grown", replace(recipe, epochs=epochs, keep_state=True)))
    run_training(job(data, place / "whole", replace(recipe, epochs=second)))
    return [results(place / name) for name in ("grown", "whole")]


@pytest.mark.parametrize(
    ("recipe", "first", "second"),
    [
        (replace(TINY, ema=Ema(decay=0.8)), 1, 3),
        (replace(EVERYTHING, validate_every=2), 4, 6),
        (replace(TINY, schedule=Schedule("step", step_epochs=2)), 2, 5),
        (replace(TINY, early_stopping=EarlyStopping(patience=1, metric="loss", min_delta=9)), 4, 6),
    ],
    ids=["constant", "plateau", "step", "stopped early"],
)
def test_a_grown_training_equals_a_longer_one(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: Recipe,
    first: int,
    second: int,
) -> None:
    grown, whole = grown_and_whole(data, tmp_path, recipe, first, second)
    assert grown == whole
    told = capsys.readouterr().err
    assert f"resumes at epoch {first + 1}" in told or recipe.early_stopping.patience
    assert "start from the beginning" not in told


@pytest.mark.parametrize(
    ("recipe", "first", "reason"),
    [
        (replace(TINY, schedule=Schedule("cosine")), 2, "the rates of the cosine schedule"),
        (replace(TINY, validate_every=2), 3, "3 epochs are not a multiple of validate_every"),
    ],
)
def test_what_cannot_go_on_says_so_and_starts_anew(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: Recipe,
    first: int,
    reason: str,
) -> None:
    grown, whole = grown_and_whole(data, tmp_path, recipe, first, 4)
    assert grown == whole
    told = capsys.readouterr().err
    assert f"more epochs will start from the beginning: {reason}" in told
    assert "made with other settings" in told
    assert "resumes" not in told


def test_the_state_stays_only_where_it_is_asked_for(data: Path, tmp_path: Path) -> None:
    run_training(job(data, tmp_path / "a", replace(TINY, epochs=1)))
    assert not (tmp_path / "a" / "work").exists()
    run_training(job(data, tmp_path / "b", replace(TINY, epochs=1, keep_state=True)))
    assert (tmp_path / "b" / "work" / "state.pt").exists()


@pytest.mark.parametrize("metric", ["dice", "dice_core", "loss"])
def test_the_named_metric_chooses_the_best_weights_and_the_last_stay(
    data: Path, tmp_path: Path, metric: str
) -> None:
    recipe = replace(TINY, epochs=5, monitor=metric, save_every=1)
    run_training(job(data, tmp_path, recipe))
    out = tmp_path / "out"
    history = pd.read_csv(out / "history.csv").set_index("epoch")
    expected = history["val_loss"].idxmin() if metric == "loss" else history[metric].idxmax()
    assert read_json(out / "run.json")["best_epoch"] == expected
    for name, epoch in (("weights", expected), ("last", 5)):
        state, about = load_weights(out / f"{name}.safetensors")
        kept, _ = load_weights(out / "snapshots" / f"epoch-{epoch:05d}.safetensors")
        assert about["epoch"] == epoch
        assert all(torch.equal(state[key], kept[key]) for key in state)


def test_results_and_work_have_roots_of_their_own() -> None:
    roots = {"results": "/scratch/results", "work": "/fast/states"}
    study = Study(parse({"study": "s", "dataset": {"name": "phantom"}, "roots": roots}))
    assert study.run("unet_small_1f", 0, 1).startswith("/scratch/results/s/runs/unet_small_1f/")
    assert study.work == "/fast/states/s"
