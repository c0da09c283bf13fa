"""Autocast changes the speed of a study, not its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from tiny_training import TINY, job, prepare

from lunet.data.folds import read_splits
from lunet.data.prepared import read_manifest
from lunet.training.loop import train_step
from lunet.training.recipe import Engine, Optimiser, Recipe
from lunet.training.run import run_training
from lunet.training.setup import build_training

SEEDS = (0, 1, 2)
BASE = replace(TINY, epochs=40, optimiser=Optimiser(lr=2e-2), loss={"dice_ce": 1.0})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "d", shapes=((16, 16, 16),) * 12, validation=6)


def recipe(precision: str) -> Recipe:
    return replace(BASE, engine=Engine(device="cpu", precision=precision, compile="off", threads=1))


def best_dice(data: Path, place: Path, precision: str, seed: int) -> float:
    """Dice of the selected weights on the validation cases."""
    run_training(job(data, place, recipe(precision), seed=seed))
    rows = (place / "out" / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("dice")
    return max(float(row.split(",")[column]) for row in rows[1:])


@pytest.mark.slow
def test_bf16_differs_from_fp32_less_than_seeds_do(data: Path, tmp_path: Path) -> None:
    found = {
        precision: [best_dice(data, tmp_path / f"{precision}{s}", precision, s) for s in SEEDS]
        for precision in ("fp32", "bf16")
    }
    spread = max(found["fp32"]) - min(found["fp32"])
    assert min(found["fp32"]) > 0.85  # something was learnt
    assert found["bf16"] != found["fp32"]  # autocast was on
    assert abs(mean(found["bf16"]) - mean(found["fp32"])) <= spread
    assert min(found["bf16"]) >= min(found["fp32"]) - spread


def test_loss_gradients_and_weights_stay_in_float32(data: Path, tmp_path: Path) -> None:
    task = job(data, tmp_path, recipe("bf16"))
    training = build_training(
        task, read_manifest(task.manifest), read_splits(task.splits).folds[0], None
    )
    seen = []
    training.model.get_submodule("project").register_forward_hook(
        lambda _, __, logits: seen.append(str(logits.dtype))
    )
    train_step(training)
    assert seen == ["torch.bfloat16"]
    state = training.state()
    assert str(state["progress"]["losses"].dtype) == "torch.float32"
    tensors = [*state["model"].values(), *state["optimiser"]["state"][0].values()]
    assert {str(t.dtype) for t in tensors} <= {"torch.float32", "torch.int64"}
