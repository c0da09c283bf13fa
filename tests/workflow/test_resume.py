"""A training that is killed at any moment and started again equals one that was left alone."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from kill_training import MOMENTS, finish, kill_after, log_of, start
from tiny_training import EVERYTHING, TINY, job, prepare, results

from lunet.errors import Interrupted
from lunet.training.job import TrainingJob

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Folder of a training that was left alone, and the seconds that it took."""
    place = tmp_path_factory.mktemp("undisturbed")
    finish(start(job(data, place / "first", TINY)))  # the server starts: not counted
    begin = time.perf_counter()
    assert finish(start(job(data, place, EVERYTHING))) == 0
    return place, time.perf_counter() - begin


def kill_until_done(task: TrainingJob, seconds: float, rng: random.Random) -> int:
    """Start a training again and again, killing it after a random while; returns the kills."""
    kills = 0
    while kill_after(start(task), rng.uniform(0.02, seconds)) == -signal.SIGKILL:
        kills += 1
        assert kills < 60, log_of(task)
    return kills


def test_random_kills(data: Path, undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    reference, seconds = undisturbed
    rng, kills, trial = random.Random(1), 0, 0
    while kills < 24:
        trial += 1
        place = tmp_path / str(trial)
        kills += kill_until_done(job(data, place, EVERYTHING), 0.7 * seconds, rng)
        assert results(place) == results(reference)


@pytest.mark.parametrize("moment", MOMENTS)
def test_kill_at(moment: str, data: Path, undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    task = job(data, tmp_path, EVERYTHING)
    count = 1 if moment in (MOMENTS[0], MOMENTS[-1]) else 5
    assert finish(start(task, moment, count)) == -signal.SIGKILL
    assert not (tmp_path / "out" / "run.json").exists()
    assert finish(start(task)) == 0, log_of(task)
    assert results(tmp_path) == results(undisturbed[0])
    assert not task.work.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_asked_to_leave(
    number: signal.Signals, data: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    task = job(data, tmp_path, EVERYTHING, save_interval=1e9)
    process = start(task)
    while not (task.work / "state.pt").exists() and process.is_alive():
        time.sleep(0.01)
    begin = time.perf_counter()
    code = kill_after(process, 0.1, number)
    assert time.perf_counter() - begin < 5
    assert code == Interrupted.exit_code, log_of(task)
    assert number.name in log_of(task)
    assert finish(start(task)) == 0, log_of(task)
    assert results(tmp_path) == results(undisturbed[0])


def test_damaged_states_are_told_and_not_used(
    data: Path, undisturbed: tuple[Path, float], tmp_path: Path
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
    data: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    task = job(data, tmp_path, EVERYTHING)
    assert finish(start(task, "between epochs", 6)) == -signal.SIGKILL
    for name in ("state.pt", "previous.pt"):
        (task.work / name).write_bytes(b"nothing")
    assert finish(start(task)) == 0
    assert "resumes" not in log_of(task)
    assert results(tmp_path) == results(undisturbed[0])
