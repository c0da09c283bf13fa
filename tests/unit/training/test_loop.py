from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_training import EVERYTHING, TASK, TINY, job, prepare, resave, results
from torch import nn

from lunet.data.folds import read_splits
from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError, DataError, LunetError, TrainingError
from lunet.files import write_json
from lunet.reading import read_json
from lunet.task import Task
from lunet.training import loop
from lunet.training import volumes as feeding
from lunet.training.compute.device import device_facts
from lunet.training.history import Row
from lunet.training.job import TrainingJob
from lunet.training.recipe import EarlyStopping, Ema, Optimiser, Recipe, Schedule
from lunet.training.run import run_training
from lunet.training.setup import build_training
from lunet.training.state import TrainingState
from lunet.training.weights import load_weights

BINARY = Task(channels=("MR",), labels={"ball": 1})
REGIONS = Task(channels=("MR",), labels={"a": 1, "b": 2}, regions={"all": (1, 2), "in": (2,)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "d")


def history(place: Path) -> list[dict[str, str]]:
    with open(place / "out" / "history.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def assembled(task: TrainingJob) -> TrainingState:
    fold = read_splits(task.splits).folds[0]
    return build_training(task, read_manifest(task.manifest), fold, None)


def test_a_training_learns_and_leaves_its_files(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=40, optimiser=Optimiser(lr=3e-2), loss={"dice_ce": 1.0})
    run_training(job(data, tmp_path, recipe))
    rows = history(tmp_path)
    assert list(rows[0]) == [
        "epoch", "lr", "train_loss", "val_loss", "dice", "dice_shell", "dice_core",
    ]  # fmt: skip
    assert [int(row["epoch"]) for row in rows] == list(range(1, 41))
    assert float(rows[-1]["train_loss"]) < 0.6 * float(rows[0]["train_loss"])
    best = max(rows, key=lambda row: float(row["dice"]))
    assert float(best["dice"]) > 0.7
    state, metadata = load_weights(tmp_path / "out" / "weights.safetensors")
    assert metadata["epoch"] == int(best["epoch"])
    assert metadata["task"] == TASK.as_dict()
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    record = read_json(tmp_path / "out" / "run.json")
    assert record["best_epoch"] == metadata["epoch"]
    assert record["engine"]["precision"] == "fp32"
    assert record["samples_per_second"] > 0
    assert record["hardware"] == device_facts(torch.device("cpu"))
    assert not (tmp_path / "work").exists()


def test_the_history_grows_while_the_training_runs(data: Path, tmp_path: Path) -> None:
    seen = []

    def look(_: Row) -> None:
        seen.append(len(history(tmp_path)) if (tmp_path / "out" / "history.csv").is_file() else 0)

    run_training(job(data, tmp_path, observers=(look,)))
    assert seen[:2] == [0, 1]  # before and after the first epoch is written
    assert len(history(tmp_path)) == TINY.epochs


def test_the_seed_decides_everything(data: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        run_training(job(data, tmp_path / name, replace(EVERYTHING, epochs=3), seed=seed))
    assert results(tmp_path / "one") == results(tmp_path / "again")
    assert results(tmp_path / "one") != results(tmp_path / "two")


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (BINARY, {}),
        (REGIONS, {"loss": {"dice": 1.0, "bce": 0.5}}),
        (replace(TASK, dimensions=2), {"batch_size": 20, "sampler": "balanced"}),
        (replace(TASK, dimensions=2), {"batch_size": 20, "patch": (8, 10)}),
    ],
)
def test_every_kind_of_task(task: Task, changes: dict[str, Any], tmp_path: Path) -> None:
    data = prepare(tmp_path / "d", task=task)
    if task is BINARY:
        for path in (data / "labels").iterdir():
            resave(path, np.minimum(np.load(path), 1))
    recipe = replace(TINY, epochs=4, **changes)
    run_training(job(data, tmp_path, recipe, task=task))
    rows = history(tmp_path)
    assert [f"dice_{name}" for name in task.names] == list(rows[0])[5:]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


class Linear(nn.Module):
    """One convolution: no normalisation, so that samples do not see each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv3d(1, 3, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 3), (2, 4), (1, 5)])
def test_accumulated_gradients_are_those_of_the_large_batch(
    data: Path, tmp_path: Path, batch_size: int, accumulate: int
) -> None:
    recipe = replace(
        TINY,
        loss={"ce": 1.0},
        batch_size=batch_size,
        grad_accumulation=accumulate,
        optimiser=Optimiser("sgd", lr=0.1, momentum=0.0, nesterov=False),
    )
    training = assembled(job(data, tmp_path, recipe))
    expected = Linear()
    training.model = training.forward = Linear()
    training.optimiser = torch.optim.SGD(training.model.parameters(), lr=0.1)
    optimiser = torch.optim.SGD(expected.parameters(), lr=0.1)
    steps = training.sampler.steps
    for first in range(0, steps, accumulate):
        batches = [
            training.sampler.batch(1, s) for s in range(first, min(steps, first + accumulate))
        ]
        image = torch.cat([batch.image for batch in batches])
        label = torch.cat([batch.label for batch in batches])
        optimiser.zero_grad()
        training.objective(expected(image), label).backward()
        optimiser.step()
    for _ in range(steps):
        loop.train_step(training)
    for one, two in zip(training.model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped(data: Path, tmp_path: Path) -> None:
    recipe = replace(
        TINY,
        clip_norm=1e-3,
        optimiser=Optimiser("sgd", lr=1.0, momentum=0.0, nesterov=False),
    )
    training = assembled(job(data, tmp_path, recipe))
    before = [parameter.detach().clone() for parameter in training.model.parameters()]
    training.model.train()
    loop.train_step(training)
    moved = sum(
        float((old - new.detach()).square().sum())
        for old, new in zip(before, training.model.parameters(), strict=True)
    )
    assert moved**0.5 == pytest.approx(1e-3, rel=1e-2)


def test_the_average_is_what_is_validated_and_saved(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, ema=Ema(decay=0.5), keep_state=True)
    run_training(job(data, tmp_path, recipe))
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)["state"]
    last, _ = load_weights(tmp_path / "out" / "last.safetensors")
    assert all(torch.equal(last[n], tensor) for n, tensor in state["ema"]["average"].items())
    raw = state["model"]
    assert any(not torch.equal(last[name], raw[name]) for name in raw)


def test_early_stopping_and_plateau(data: Path, tmp_path: Path) -> None:
    recipe = replace(
        TINY,
        epochs=50,
        optimiser=Optimiser(lr=1e-12),  # nothing is learnt
        schedule=Schedule("plateau", patience=1, factor=0.5),
        early_stopping=EarlyStopping(patience=7, metric="dice_core", min_delta=0.01),
    )
    run_training(job(data, tmp_path, recipe))
    rows = history(tmp_path)
    assert len(rows) == 8
    assert float(rows[-1]["lr"]) < float(rows[0]["lr"])
    assert read_json(tmp_path / "out" / "run.json")["stopped_early"] is True


def test_only_strict_improvement_replaces_the_best(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, optimiser=Optimiser("sgd", lr=1e-30, momentum=0.0, nesterov=False))
    training = assembled(job(data, tmp_path, recipe))
    row = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 0.5, "dice": 0.5}
    loop.keep_best(training, row, training.model)
    training.progress.epoch = 2
    loop.keep_best(training, row, training.model)
    assert training.progress.best_epoch == 1
    loop.keep_best(training, row | {"dice": None}, training.model)
    assert training.progress.best_epoch == 1
    loop.keep_best(training, row | {"dice": 0.51}, training.model)
    assert training.progress.best_epoch == 2


def test_validation_every_few_epochs_and_at_the_end(data: Path, tmp_path: Path) -> None:
    run_training(job(data, tmp_path, replace(TINY, epochs=5, validate_every=2, save_every=2)))
    assert [bool(row["dice"]) for row in history(tmp_path)] == [False, True, False, True, True]
    kept = sorted(path.name for path in (tmp_path / "out" / "snapshots").iterdir())
    assert kept == ["epoch-00002.safetensors", "epoch-00004.safetensors"]


def test_more_epochs_go_on_from_a_kept_state(data: Path, tmp_path: Path) -> None:
    recipe = replace(EVERYTHING, epochs=3, keep_state=True)
    run_training(job(data, tmp_path / "grown", recipe))
    run_training(job(data, tmp_path / "grown", replace(recipe, epochs=6)))
    run_training(job(data, tmp_path / "whole", replace(recipe, epochs=6)))
    assert results(tmp_path / "grown") == results(tmp_path / "whole")


def test_more_epochs_of_a_cosine_start_anew(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(TINY, epochs=3, schedule=Schedule("cosine"), keep_state=True)
    run_training(job(data, tmp_path / "grown", recipe))
    run_training(job(data, tmp_path / "grown", replace(recipe, epochs=6)))
    run_training(job(data, tmp_path / "whole", replace(recipe, epochs=6)))
    assert "other settings" in capsys.readouterr().err
    assert results(tmp_path / "grown") == results(tmp_path / "whole")


def test_resume_from_a_named_file(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, keep_state=True)
    run_training(job(data, tmp_path / "a", replace(recipe, epochs=2)))
    state = tmp_path / "a" / "work" / "state.pt"
    run_training(job(data, tmp_path / "b", recipe, resume=state))
    run_training(job(data, tmp_path / "c", recipe))
    assert results(tmp_path / "b") == results(tmp_path / "c")
    with pytest.raises(TrainingError, match="other settings"):
        run_training(job(data, tmp_path / "d", recipe, resume=state, seed=9))


def test_fine_tuning_starts_from_weights(data: Path, tmp_path: Path) -> None:
    run_training(job(data, tmp_path / "first", replace(TINY, epochs=25)))
    weights = tmp_path / "first" / "out" / "last.safetensors"
    run_training(job(data, tmp_path / "tuned", replace(TINY, epochs=1), init=weights))
    first, tuned = (history(tmp_path / name)[0] for name in ("first", "tuned"))
    assert float(tuned["train_loss"]) < 0.9 * float(first["train_loss"])


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (
            replace(TINY, monitor="dice_cor"),
            ConfigError,
            "train.monitor: found 'dice_cor'.*did you mean 'dice_core'",
        ),
        (
            replace(TINY, early_stopping=EarlyStopping(metric="dcie")),
            ConfigError,
            "train.early_stopping.metric: found 'dcie'.*did you mean 'dice'",
        ),
        (replace(TINY, batch_size=16), TrainingError, "train.batch_size: 16.*has 6 samples"),
        (
            replace(TINY, optimiser=Optimiser(lr=1e20)),
            TrainingError,
            r"epoch 1, step 2 of 2: the loss is NaN, .*case_.*train.optimiser.lr \(now 1e\+20\)",
        ),
        (
            replace(TINY, optimiser=Optimiser(lr=1e39)),  # no float32
            TrainingError,
            r"epoch 1, step 2 of 2: the loss is NaN, .*train.optimiser.lr \(now 1e\+39\)",
        ),
    ],
)
def test_faults_are_told_and_leave_no_results(
    data: Path, tmp_path: Path, recipe: Recipe, error: type[LunetError], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_training(job(data, tmp_path, recipe))
    assert not (tmp_path / "out").exists()


def test_nan_in_a_memory_mapped_volume_names_epoch_and_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = prepare(tmp_path / "d")
    image = np.load(data / "images/case_4.npy")
    image[0, 5, 5, 5] = np.nan
    resave(data / "images/case_4.npy", image)
    monkeypatch.setattr(feeding, "available_memory", lambda device: 0)
    message = r"epoch 1, step \d of 2: the loss is NaN, values .* in the image of case_4; cases"
    with pytest.raises(TrainingError, match=message):
        run_training(job(data, tmp_path))


def test_the_saved_state_stays_the_last_good_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = loop.train_step, [0]

    def broken(training: TrainingState) -> None:
        step(training)
        calls[0] += 1
        if calls[0] == 6:  # the second of two steps of epoch 3
            training.progress.losses[training.progress.step - 1] = torch.inf

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(TrainingError, match="epoch 3, step 2 of 2: the loss is infinite"):
        run_training(job(data, tmp_path))
    monkeypatch.undo()
    state = torch.load(tmp_path / "work" / "state.pt", weights_only=True)["state"]
    assert state["progress"]["epoch"] == 3
    run_training(job(data, tmp_path))
    run_training(job(data, tmp_path / "undisturbed"))
    assert results(tmp_path) == results(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2684354560"
                     " bytes. Error code 12"),
    ],
)  # fmt: skip
def test_out_of_memory_says_what_was_needed_and_what_to_change(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def full(training: TrainingState) -> None:
        raise error

    monkeypatch.setattr(loop, "train_step", full)
    with pytest.raises(TrainingError, match=r"2.50 GiB more.*GiB are free.*train.batch_size"):
        run_training(job(data, tmp_path))


def test_a_swapped_label_is_pointed_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepare(tmp_path / "d", shapes=((12, 12, 12),) * 11)
    wrong = np.roll(np.load(data / "labels/case_3.npy"), 6, axis=(0, 1, 2))
    resave(data / "labels/case_3.npy", wrong)
    recipe = replace(TINY, epochs=40, optimiser=Optimiser(lr=3e-2), loss={"dice_ce": 1.0})
    run_training(job(data, tmp_path, recipe))
    assert [found["case"] for found in read_json(tmp_path / "out" / "run.json")["suspects"]] == [
        "case_3"
    ]
    assert "case case_3 (train) has Dice" in capsys.readouterr().err


def test_a_training_that_learns_nothing_is_warned_of(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_training(job(data, tmp_path, replace(TINY, epochs=12, optimiser=Optimiser(lr=1e10))))
    assert capsys.readouterr().err.count("warning: nothing was learnt") == 2
    assert "train.optimiser.lr" in read_json(tmp_path / "out" / "run.json")["warning"]


def test_other_runtime_errors_stay_bugs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(training: TrainingState) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(loop, "train_step", bug)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run_training(job(data, tmp_path))


def _without(part: str) -> Callable[[dict[str, Any]], None]:
    def change(splits: dict[str, Any]) -> None:
        splits["folds"][0][part] = []

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_without("train"), TrainingError, "no case for train"),
        (_without("validation"), TrainingError, "no case for validation"),
        (lambda s: s["folds"].clear(), ConfigError, "--fold"),
        (lambda s: s["folds"][0]["train"].append("nobody"), DataError, "no case 'nobody'"),
    ],
)
def test_unusable_folds(
    data: Path,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], None],
    error: type[LunetError],
    message: str,
) -> None:
    splits = json.loads((data / "splits.json").read_text())
    change(splits)
    write_json(tmp_path / "splits.json", splits)
    with pytest.raises(error, match=message):
        run_training(job(data, tmp_path, splits=tmp_path / "splits.json"))


def test_signal_handlers_are_given_back(data: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    run_training(job(data, tmp_path, replace(TINY, epochs=1)))
    assert before == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
