"""`lunet watch`: the state of each run, from the files that runs leave."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from lunet.cli import main
from lunet.files import write_json
from lunet.locks import owned
from lunet.study.watch import RunState, find_study, measurements, run_states, watch_lines

EPOCH = "epoch {}/40: lr 0.01, train_loss {}, {}8.5 samples/s, 0.6 GiB, {} s left\n"
CONFIG = (
    "study: s\ndataset: {name: own, path: ., channels: [MR], labels: {a: 1}}\n"
    "presets: [unet_small_2f, lunet_small_2f]\nfolds: [0, 1]\nseeds: [0]\n"
)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of results of a study with four runs, in a new working folder."""
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(CONFIG)
    results = Path("results/s")
    results.mkdir(parents=True)
    return results


def log(study: Path, run: str, text: str, *, age: float = 1000.0) -> None:
    path = study / "logs" / run / "train.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)


def states(name: str = "config.yaml") -> dict[str, RunState]:
    return {run.name.removeprefix("runs/"): run for run in run_states(find_study(name))}


def test_a_run_is_waiting_running_and_done(study: Path) -> None:
    run = "unet_small_2f/fold-0/seed-0"
    assert {state.state for state in states().values()} == {"waiting"}
    assert len(states()) == 4
    log(study, run, "", age=1)  # Python is starting
    assert states()[run].state == "running"
    text = EPOCH.format(9, 0.5, "val_loss 0.4, dice 0.81, ", 100)
    log(study, run, text + EPOCH.format(10, 0.25, "", 90), age=30)
    with owned(study / "runs" / run):
        found = states()[run]
    assert (found.state, found.epoch, found.epochs, found.loss) == ("running", 10, 40, 0.25)
    assert found.dice == 0.81  # of the last validation
    assert found.seconds_left == pytest.approx(60, abs=10)
    write_json(study / "runs" / run / "run.json", {})
    assert (states()[run].state, states()[run].seconds_left) == ("done", None)


def test_a_run_that_waits_for_the_other_folds_of_its_job_is_done(study: Path) -> None:
    run = "unet_small_2f/fold-0/seed-0"
    log(study, run, EPOCH.format(40, 0.5, "", 0))
    assert states()[run].state == "stopped"
    Path("work/s/runs", run, "finished").mkdir(parents=True)
    assert states()[run].state == "done"


def test_the_lock_of_a_run_by_hand_is_next_to_its_state(study: Path) -> None:
    run = "by-hand/runs/unet_small_2f/fold-0/seed-0"
    history = study / run / "history.csv"
    history.parent.mkdir(parents=True)
    history.write_text("epoch,lr,train_loss,val_loss,dice\n1,0.1,0.9,0.8,0.3\n2,0.1,0.7,,\n")
    with owned(Path("work/s", run)):
        found = states()[run]
    assert (found.state, found.epoch, found.epochs) == ("running", 2, None)
    assert (found.loss, found.dice) == (0.7, 0.3)


def test_a_killed_run_is_stopped_and_a_failed_one_says_why(study: Path) -> None:
    one, other, third = (f"unet_small_2f/fold-{fold}/seed-0" for fold in (0, 1, 2))
    log(study, one, EPOCH.format(9, 0.5, "", 100))
    log(study, other, "error: train.lr: found -1\nlunet ended: bad config.\n", age=0)
    log(study, third, "error: stopped\nlunet ended: time limit, resumable. Raise runtime.\n")
    assert states()[one].state == "stopped"
    assert "ended without saying why" in states()[one].message
    assert (states()[other].state, states()[other].message) == (
        "failed", "error: train.lr: found -1",
    )  # fmt: skip
    assert states()[third].state == "stopped"


def test_a_training_that_a_search_paused(study: Path) -> None:
    run = "unet_small_2f/fold-0/seed-0"
    path = study / "logs" / run / "pause.log"
    path.parent.mkdir(parents=True)
    path.write_text(EPOCH.format(10, 0.5, "dice 0.7, ", 90))
    assert states()[run].epoch == 10
    write_json(study / "smallest/paused" / f"{run}.json", {})
    assert (states()[run].state, states()[run].dice) == ("stopped", 0.7)
    assert "paused by the search" in states()[run].message


def test_the_table_is_printed_once_without_a_terminal(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(study, "unet_small_2f/fold-0/seed-0", "error: no\nlunet ended: bad data.\n")
    (study / "logs/audit.log").write_text("error: the image is empty\nlunet ended: bad data.\n")
    assert main(["watch", "config.yaml"]) == 0
    out = capsys.readouterr().out
    assert "results/s: 1 failed, 3 waiting" in out
    assert "runs/unet_small_2f/fold-0/seed-0: error: no" in out
    assert "results/s/logs/audit.log: error: the image is empty" in out
    assert main(["watch"]) == 0  # the study that was active last, whose grid is not known
    assert "results/s: 1 failed\n" in capsys.readouterr().out


def test_many_that_wait_are_counted(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(CONFIG.replace("[0]", "[0, 1, 2]"))
    assert main(["watch", "config.yaml"]) == 0
    out = capsys.readouterr().out
    assert "12 waiting" in out
    assert "... and 9 more that wait" in out


def test_the_protocol_names_the_runs_of_a_folder(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {"statistics": {}, "presets": ["a"], "folds": [0, 1], "seeds": [0]}
    content = {"stated": stated, "digest": "", "time": "", "settings": {}, "settings_digest": ""}
    write_json(study / "protocol.json", content)
    assert list(states("s")) == ["a/fold-0/seed-0", "a/fold-1/seed-0"]
    monkeypatch.chdir("results")
    assert list(states("s")) == ["a/fold-0/seed-0", "a/fold-1/seed-0"]


def test_rows_that_are_not_trained_are_not_watched(study: Path) -> None:
    write_json(study / "runs/theirs/fold-0/seed-0/run.json", {"external": {"role": "model"}})
    assert not any("theirs" in name for name in states())


def test_a_study_that_does_not_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["watch"]) == 2
    assert "no study has started here" in capsys.readouterr().err
    assert main(["watch", "quick"]) == 2
    assert "quick: does not exist" in capsys.readouterr().err


def test_a_measurement_shows_how_far_it_is(study: Path) -> None:
    path = study / "logs" / "unet_small_2f" / "efficiency.log"
    path.parent.mkdir(parents=True)
    path.write_text("measuring in 5 fresh process(es): at most about 2 min\n")
    (line,) = measurements(find_study("config.yaml"))
    assert line.startswith("measuring unet_small_2f: begun (at ")
    table = study / "logs" / "tables" / "efficiency.log"
    table.parent.mkdir()
    table.write_text("")  # the log of the table of costs measures nothing
    path.write_text("measured 1/6, 100 s left\nmeasured 2/6, 80 s left\n")
    (line,) = measurements(find_study("config.yaml"))
    assert line.startswith("measuring unet_small_2f: 2 of 6 processes, 0:01:20 left (at ")
    assert line in watch_lines(find_study("config.yaml"))
    write_json(study / "presets" / "unet_small_2f" / "efficiency.json", {})
    assert list(measurements(find_study("config.yaml"))) == []
