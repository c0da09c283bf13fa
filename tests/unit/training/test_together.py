"""Several runs in one job: each as if alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from patience import patient, wait_for
from test_train_command import words
from tiny_training import prepare

from lunet.cli import main
from lunet.errors import Interrupted, TrainingError
from lunet.file_list import read_list
from lunet.files import write_json
from lunet.reading import read_json
from lunet.training.parallel import ParallelRun, run_together

FILES = ("weights.safetensors", "last.safetensors", "history.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared")


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    program = "import sys; from lunet.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", program, *arguments], start_new_session=True)


def test_each_run_equals_the_run_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    several = tmp_path / "several"
    assert main(words(data, several, "--seed", "0", "1", "--at-once", "2")) == 0
    assert capsys.readouterr().err.count("done") == 2
    for seed in (0, 1):
        alone, run = tmp_path / f"{seed}", several / "out" / "fold-0" / f"seed-{seed}"
        assert main(words(data, alone, "--seed", str(seed))) == 0
        assert contents(run) == contents(alone / "out")
        assert read_json(run / "run.json")["seed"] == seed
        assert "epoch 6/6" in (run / "train.log").read_text()
    assert contents(several / "out/fold-0/seed-0") != contents(several / "out/fold-0/seed-1")


@pytest.mark.slow
def test_a_signal_is_handed_on_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    long: dict[str, Any] = {"epochs": 100}
    command = words(data, tmp_path, "--seed", "0", "1", recipe=long)
    state = tmp_path / "work/fold-0/seed-0/state.pt"
    process = start(command)
    wait_for("a state", state.exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(patient(8)) == Interrupted.exit_code
    run = tmp_path / "out/fold-0/seed-0"
    assert "stopped by SIGTERM, state saved at epoch" in (run / "train.log").read_text()
    assert not (tmp_path / "out/fold-0/seed-1").exists()  # it was not begun any more
    assert main(command) == 0
    assert "resumes at epoch" in (run / "train.log").read_text()
    assert main(words(data, tmp_path / "alone", recipe=long)) == 0
    assert contents(run) == contents(tmp_path / "alone" / "out")


def test_a_run_that_fails_leaves_the_others(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words(data, tmp_path, "--fold", "7", "0", "--at-once", "2")
    assert main(command) == 3
    told = capsys.readouterr().err
    assert "fold 7, seed 0: error: --fold: found 7" in told
    assert "1 of 2 runs failed" in told
    assert (tmp_path / "out/fold-0/seed-0/run.json").exists()
    assert not (tmp_path / "out/fold-7/seed-0/run.json").exists()


def test_a_run_that_ends_before_its_log_begins_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs/fold-0/seed-1/train.log").mkdir(parents=True)
    more = ("--seed", "0", "1", "--at-once", "2", "--logs", f"{tmp_path}/logs")
    assert main(words(data, tmp_path, *more)) == 3
    assert "fold 0, seed 1: ended with exit code 1 before its log" in capsys.readouterr().err
    assert (tmp_path / "out/fold-0/seed-0/run.json").exists()


def test_a_run_that_cannot_be_started_stops_the_others(data: Path, tmp_path: Path) -> None:
    (tmp_path / "logs/fold-0").mkdir(parents=True)
    (tmp_path / "logs/fold-0/seed-1").touch()  # no folder
    more = ("--seed", "0", "1", "--at-once", "2", "--logs", f"{tmp_path}/logs")
    assert main(words(data, tmp_path, *more, recipe={"epochs": 1000})) != 0
    assert multiprocessing.active_children() == []
    assert not (tmp_path / "out/fold-0/seed-0/run.json").exists()


def test_the_reason_of_an_earlier_attempt_is_not_told_again(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("error: of yesterday\n")
    with pytest.raises(TrainingError, match="a: ended with exit code 9, see"):
        run_together([ParallelRun("a", log, 9)], os._exit, at_once=1)


def test_nothing_outlives_the_command(data: Path, tmp_path: Path) -> None:
    process = start(words(data, tmp_path, "--seed", "0", "1"))
    assert process.wait(patient(60)) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_retry_trains_only_the_run_that_failed(data: Path, tmp_path: Path) -> None:
    splits = read_json(data / "splits.json")
    mended = tmp_path / "splits.json"
    more = ("--fold", "0", "1", "--keep-results", "--logs", f"{tmp_path}/logs")
    command = words(data, tmp_path, *more)
    first, second = (tmp_path / "out" / f"fold-{fold}/seed-0" for fold in (0, 1))
    assert main(command) == 3  # there is one fold
    assert not (first / "run.json").exists()  # it waits for the other
    assert "error: --fold: found 1" in (tmp_path / "logs/fold-1/seed-0/train.log").read_text()
    write_json(mended, splits | {"folds": splits["folds"] * 2})
    command[command.index("--splits") + 1] = str(mended)
    assert main(command) == 0
    log = (tmp_path / "logs/fold-0/seed-0/train.log").read_text()
    assert log.count("epoch 6/6") == log.count("finished in an earlier attempt") == 1
    assert main(words(data, tmp_path / "alone")) == 0
    assert contents(first) == contents(tmp_path / "alone" / "out")
    assert read_json(second / "run.json")["fold"] == 1
    # what is in its place is known as the step's own, so that training again may replace it
    assert set(read_list(first)) >= {*FILES, "run.json"}


@pytest.mark.slow
def test_runs_that_wait_survive_a_signal(data: Path, tmp_path: Path) -> None:
    long: dict[str, Any] = {"epochs": 100}
    command = words(data, tmp_path, "--seed", "0", "1", "--keep-results", recipe=long)
    process = start(command)
    wait_for("the second run's state", (tmp_path / "work/fold-0/seed-1/state.pt").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(patient(8)) == Interrupted.exit_code
    assert list((tmp_path / "out").rglob("weights.safetensors")) == []
    assert main(command) == 0
    for seed in (0, 1):
        alone, run = tmp_path / f"{seed}", tmp_path / "out" / "fold-0" / f"seed-{seed}"
        assert main(words(data, alone, "--seed", str(seed), recipe=long)) == 0
        assert contents(run) == contents(alone / "out")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--seed", "1", "1"), "--seed: found [1, 1]"),
        (("--seed", "0", "1", "--resume", "x.pt"), "--resume: given with several runs"),
    ],
)
def test_impossible_wishes(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
) -> None:
    assert main(words(data, tmp_path, *more)) == 2
    assert message in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_no_runs_at_once_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words(data, tmp_path, "--seed", "0", "1", "--at-once", "0"))
    assert "--at-once: found '0', a whole number from 1" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
