from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_training import TASK, TINY, prepare

from lunet.cli import main
from lunet.reading import read_json
from lunet.settings import plain

MODEL = {"preset": "tiny", "module": "unet", "name": "UNet", "arguments": {"widths": [2, 2]}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return prepare(tmp_path / "prepared")


def words(data: Path, place: Path, *more: str, recipe: dict[str, Any] | None = None) -> list[str]:
    """The words of a rule."""
    settings = {"task": TASK.as_dict(), "model": MODEL, "recipe": plain(TINY) | (recipe or {})}
    return [
        "train", "--settings", json.dumps(settings), "--code", "abc",
        "--manifest", f"{data}/manifest.json", "--splits", f"{data}/splits.json",
        "--work", f"{place}/work", "--out", f"{place}/out", *more,
    ]  # fmt: skip


def test_as_a_rule_calls_it(data: Path, tmp_path: Path) -> None:
    assert main(words(data, tmp_path, "--fold", "0", "--seed", "3", "--curves")) == 0
    record = read_json(tmp_path / "out" / "run.json")
    assert (record["code"], record["seed"], record["epochs"]) == ("abc", 3, 6)
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_as_a_person_calls_it(data: Path, tmp_path: Path) -> None:
    code = main(
        [
            "train", "--preset", "lunet_small_2f", "--set", "train.batch_size=3",
            "--set", "train.engine.precision=fp32", "--loss", "bce", "--epochs", "2",
            "--device", "cpu", "--manifest", str(data / "manifest.json"),
            "--splits", str(data / "splits.json"),
            "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"),
        ]
    )  # fmt: skip
    assert code == 0
    record = read_json(tmp_path / "out" / "run.json")
    assert record["settings"]["recipe"]["loss"] == {"bce": 1.0}
    assert record["settings"]["recipe"]["epochs"] == record["epochs"] == 2
    assert record["settings"]["task"] == TASK.as_dict()
    assert record["code"]


STUDY = (
    "study: s\ndataset: {name: own, path: ., channels: [MR], labels: {shell: 1, core: 2}}\n"
    "presets: [lunet_small_1f]\ntrain: {epochs: 2, batch_size: 3, engine: {device: cpu}}\n"
    "statistics: {reference: lunet_small_1f}\n"
)


def by_hand(data: Path, *more: str) -> list[str]:
    """The words of a person who trains a run of the study without naming a folder."""
    given = ["--manifest", f"{data}/manifest.json", "--splits", f"{data}/splits.json"]
    return ["train", "--config", "config.yaml", "--preset", "lunet_small_1f", *given, *more]


def test_by_hand_is_the_studys_own_folder_and_a_finished_run_stays(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(STUDY)
    assert main(by_hand(data)) == 0
    record = Path("results/s/by-hand/runs/lunet_small_1f/fold-0/seed-0/run.json")
    before = record.read_bytes()
    assert main(by_hand(data)) == 0
    assert "it is not trained again" in capsys.readouterr().out
    assert main(by_hand(data, "--epochs", "3", "--set", "train.clip_norm=1")) == 2
    error = capsys.readouterr().err
    assert "holds the finished run of other settings" in error
    assert "train.clip_norm is " in error
    assert "train.epochs is 2, not 3" in error
    assert record.read_bytes() == before
    Path("config.yaml").write_text(STUDY.replace("study: s", "study: t"))
    assert main(by_hand(data)) == 0  # the same run of another study
    assert record.read_bytes() == before
    assert Path("results/t/by-hand/runs/lunet_small_1f/fold-0/seed-0/run.json").is_file()


def test_by_hand_more_epochs_of_a_kept_state_go_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = "train: {keep_state: true, schedule: {name: constant}, "
    Path("config.yaml").write_text(STUDY.replace("train: {", kept))
    assert main(by_hand(data)) == 0
    assert main(by_hand(data, "--epochs", "3")) == 0
    record = read_json("results/s/by-hand/runs/lunet_small_1f/fold-0/seed-0/run.json")
    assert record["epochs"] == 3


def test_a_preset_outside_the_study_is_trained_as_the_study_trains(
    data: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "study: s\ndataset: {name: own, path: ., channels: [MR], labels: {shell: 1, core: 2}}\n"
        "presets: [unet_small_2f]\noverrides: {unet_small_2f: {batch_size: 3}}\n"
        "statistics: {reference: unet_small_2f}\ntrain: {epochs: 2, batch_size: 4}\n"
    )
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    given = ["--manifest", f"{data}/manifest.json", "--splits", f"{data}/splits.json"]
    asked = ["--config", str(config), "--preset", "lunet_small_1f", "--device", "cpu"]
    assert main(["train", *asked, *given, *places]) == 0
    record = read_json(tmp_path / "out" / "run.json")
    assert record["settings"]["model"]["preset"] == "lunet_small_1f"
    assert record["settings"]["recipe"]["batch_size"] == 4


@pytest.mark.parametrize(
    ("recipe", "more", "code", "message"),
    [
        ({"monitor": "dyce"}, (), 2, "train.monitor: found 'dyce'"),
        ({"optimizer": {}}, (), 2, "train.optimizer: unknown key, did you mean 'optimiser'"),
        ({"loss": {"dise": 1.0}}, (), 2, "did you mean 'dice'"),
        ({"batch_size": 16}, (), 3, "train.batch_size: 16"),
        ({}, ("--fold", "5"), 2, "--fold: found 5"),
        ({}, ("--init", "nothing.safetensors"), 2, "nothing.safetensors: the file is missing"),
        ({}, ("--resume", "nothing.pt"), 3, "nothing.pt"),
        ({}, ("--epochs", "0"), 2, "train.epochs: found 0"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: dict[str, Any],
    more: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    assert main(words(data, tmp_path, *more, recipe=recipe)) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tensorboard_shows_the_history(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert main(words(data, tmp_path, "--tensorboard")) == 0
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    history = pd.read_csv(tmp_path / "out" / "history.csv")
    for column in ("train_loss", "dice", "lr"):
        shown = events.Scalars(column)
        assert [point.step for point in shown] == history["epoch"].tolist()
        assert [point.value for point in shown] == pytest.approx(history[column].tolist(), rel=1e-6)


def test_a_missing_tensorboard_is_told_before_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lunet.study.shown.find_spec", lambda name: None)
    assert main(words(data, tmp_path, "--tensorboard")) == 2
    assert "pip install 'lunet[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_workflow_asks_for_what_is_shown_and_it_changes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNET_SHOWN", '{"tiny": {"curves": true, "tensorboard": true}}')
    assert main(words(data, tmp_path / "shown")) == 0
    shown, plain_run = tmp_path / "shown" / "out", tmp_path / "plain" / "out"
    assert (shown / "curves.png").is_file()
    assert list((shown / "tensorboard").iterdir())
    monkeypatch.setenv("LUNET_SHOWN", '{"other": {"curves": true, "tensorboard": true}}')
    assert main(words(data, tmp_path / "plain")) == 0
    assert not (plain_run / "curves.png").exists()
    assert not (plain_run / "tensorboard").exists()
    for name in ("weights.safetensors", "last.safetensors", "history.csv"):
        assert (shown / name).read_bytes() == (plain_run / name).read_bytes()
    records = [read_json(folder / "run.json")["settings"] for folder in (shown, plain_run)]
    assert records[0] == records[1]


def test_the_curves_of_a_resumed_training_are_whole(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lunet.training import callbacks

    drawn: list[list[float]] = []
    monkeypatch.setattr(
        callbacks, "draw_curves", lambda path, rows: drawn.append([row["epoch"] for row in rows])
    )
    history = tmp_path / "history.csv"
    history.write_text("epoch,lr,train_loss,dice\n1,0.1,0.9,\n2,0.1,0.8,0.3\n3,0.1,0.7,\n")
    observe = callbacks.live_curves(tmp_path / "curves.png", seconds=0)
    observe({"epoch": 3, "train_loss": 0.75, "dice": None})
    observe({"epoch": 4, "train_loss": 0.7, "dice": 0.4})
    assert drawn == [[1, 2, 3], [1, 2, 3, 4]]


def test_a_paused_training_resumes_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert main(words(data, whole)) == 0
    pause = ("--pause-after", "2", "--pause-file", str(halves / "paused.json"))
    assert main(words(data, halves, *pause)) == 0
    assert not (halves / "out" / "run.json").exists()
    paused = read_json(halves / "paused.json")
    assert (paused["epoch"], [row["epoch"] for row in paused["history"]]) == (2, [1, 2])
    assert paused["device_seconds"] > 0
    history = pd.read_csv(whole / "out" / "history.csv")
    assert [row["train_loss"] for row in paused["history"]] == history["train_loss"][:2].tolist()
    # again: nothing is trained, the same is written
    assert main(words(data, halves, *pause)) == 0
    assert read_json(halves / "paused.json") == paused
    assert main(words(data, halves)) == 0
    for name in ("history.csv", "weights.safetensors", "last.safetensors"):
        assert (halves / "out" / name).read_bytes() == (whole / "out" / name).read_bytes()


def test_a_pause_needs_both_of_its_options(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(data, tmp_path, "--pause-after", "2")) == 2
    assert "--pause-after, --pause-file: found one of them" in capsys.readouterr().err
