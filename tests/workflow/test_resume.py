"""A training that is killed at any moment and started again equals one that was left alone."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest
from kill_training import ANYWHERE, MOMENTS, count_events, finish, log_of, start
from patience import wait_for
from tiny_training import EVERYTHING, job, prepare, results

from lunet.errors import Interrupted
from lunet.training.job import TrainingJob

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Folder of a training that was left alone, and the number of its events."""
    place = tmp_path_factory.mktemp("undisturbed")
    return place, count_events(job(data, place, EVERYTHING))


def kill_until_done(task: TrainingJob, events: int, rng: random.Random) -> int:
    """Start a training again and again, killed after a random event; returns the kills.

    Each start may get a tenth of the events further than the one before, so that the training
    ends even if no start ever saves a state.
    """
    kills = 0
    while code := finish(start(task, ANYWHERE, rng.randint(1, events) + kills * events // 10)):
        kills += 1
        assert code == -signal.SIGKILL, log_of(task)
        assert kills < 20, log_of(task)
    return kills


def test_random_kills(data: Path, undisturbed: tuple[Path, int], tmp_path: Path) -> None:
    reference, events = undisturbed
    rng, kills, trial = random.Random(1), 0, 0
    while kills < 24:
        trial += 1
        place = tmp_path / str(trial)
        kills += kill_until_done(job(data, place, EVERYTHING), events, rng)
        assert results(place) == results(reference)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_at(moment: str, data: Path, undisturbed: tuple[Path, int], tmp_path: Path) -> None:
    task = job(data, tmp_path, EVERYTHING)
    count = 1 if moment in (MOMENTS[0], MOMENTS[-1]) else 5
    assert finish(start(task, moment, count)) == -signal.SIGKILL
    assert not (tmp_path / "out" / "run.json").exists()
    assert finish(start(task)) == 0, log_of(task)
    assert results(tmp_path) == results(undisturbed[0])
    assert not task.work.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_asked_to_leave(
    number: signal.Signals, data: Path, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    task = job(data, tmp_path, EVERYTHING, save_interval=1e9)
    process = start(task)
    wait_for("a state", (task.work / "state.pt").exists)
    os.kill(process.pid, number)
    code = finish(process)
    assert code == Interrupted.exit_code, log_of(task)
    assert number.name in log_of(task)
    assert finish(start(task)) == 0, log_of(task)
    assert results(tmp_path) == results(undisturbed[0])


def test_damaged_states_are_told_and_not_used(
    data: Path, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    task = job(data, tmp_path, EVERYTHING)
    assert finish(start(task, "between epochs", 6)) == -signal.SIGKILL
    state = task.work / "state.pt"
    content = state.read_bytes()
    cut = len(content) // 3
    state.write_bytes(content[:cut] + bytes(cut) + content[2 * cut :])
    assert finish(start(task)) == 0
    assert "state.pt: damaged" in log_of(task)
    assert "resumes at epoch 5" in log_of(task)
    assert results(tmp_path) == results(undisturbed[0])


def test_without_any_readable_state_it_starts_anew(
    data: Path, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    task = job(data, tmp_path, EVERYTHING)
    assert finish(start(task, "between epochs", 6)) == -signal.SIGKILL
    for name in ("state.pt", "previous.pt"):
        (task.work / name).write_bytes(b"nothing")
    assert finish(start(task)) == 0
    assert "resumes" not in log_of(task)
    assert results(tmp_path) == results(undisturbed[0])
