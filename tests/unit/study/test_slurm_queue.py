"""The queue's answer for jobs that it has forgotten; SLURM's commands are played by scripts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from paths import ROOT
from snakemake_executor_plugin_slurm import Executor

from lunet.study.slurm_queue import ask_evenly, end_at_once, watch_queue

RUN = "lunet_0001"
SUBMIT = ["sbatch", "--parsable", "--job-name", RUN, "--wrap", "true"]
POLL = ["squeue", "--format=%i|%T", "--states=all", "--noheader", "--name", RUN]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the played commands; ``queue`` is what squeue prints, ``job`` what scontrol."""
    scripts = {
        "sbatch": f"echo 12 >> {tmp_path}/submitted; wc -l < {tmp_path}/submitted",
        "squeue": f"cat {tmp_path}/queue",
        "sacct": "echo '7|CANCELLED by 1000'; echo '8|COMPLETED'",
        "scontrol": f"cat {tmp_path}/job && exit 0; cat {tmp_path}/refusal >&2; exit 1",
    }
    binaries = tmp_path / "real"
    binaries.mkdir()
    for name, script in scripts.items():
        (binaries / name).write_text(f"#!/bin/sh\n{script}\n")
        (binaries / name).chmod(0o755)
    (tmp_path / "queue").write_text("")
    (tmp_path / "refusal").write_text("slurm_load_jobs error: Invalid job id specified\n")
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("LUNET_QUEUE", raising=False)
    monkeypatch.chdir(tmp_path)
    watch_queue(tmp_path / "store")
    monkeypatch.setenv("LUNET_QUEUE", os.environ["LUNET_QUEUE"])
    return tmp_path


def ask(*words: str) -> list[str]:
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[:-1]


def test_a_job_that_the_queue_forgot_is_unknown(slurm: Path) -> None:
    assert ask(*SUBMIT) == ["1"]
    assert ask(*SUBMIT) == ["2"]
    (slurm / "queue").write_text("1|RUNNING\n")
    assert sorted(ask(*POLL)) == ["1|RUNNING", "2|UNKNOWN"]
    (slurm / "queue").write_text("1|COMPLETED\n")
    assert sorted(ask(*POLL)) == ["1|COMPLETED", "2|UNKNOWN"]
    (slurm / "queue").write_text("")
    assert sorted(ask(*POLL)) == ["1|UNKNOWN", "2|UNKNOWN"]


def test_a_controller_that_is_away_forgets_nothing(slurm: Path) -> None:
    ask(*SUBMIT)
    (slurm / "refusal").write_text("Unable to contact slurm controller (connect failure)\n")
    assert ask(*POLL) == []


@pytest.mark.parametrize(("minutes", "state"), [(1, "COMPLETING"), (11, "UNKNOWN")])
def test_a_job_that_completes_for_ever_is_over(slurm: Path, minutes: int, state: str) -> None:
    ask(*SUBMIT)
    (slurm / "queue").write_text("1|COMPLETING\n")
    end = (datetime.now() - timedelta(minutes=minutes)).isoformat(timespec="seconds")
    (slurm / "job").write_text(f"JobId=1 JobState=COMPLETING EndTime={end} Node=a\n")
    assert ask(*POLL) == [f"1|{state}"]


def test_other_questions_are_handed_on(slurm: Path) -> None:
    ask(*SUBMIT)
    (slurm / "queue").write_text("99|PENDING\n")
    assert ask("squeue", "-h", "-u", "me") == ["99|PENDING"]
    assert ask("sacct", "-X", "--name", RUN) == ["7|CANCELLED", "8|COMPLETED"]
    assert ask("sacct", "-X") == ["7|CANCELLED by 1000", "8|COMPLETED"]


def test_a_refused_submission_keeps_its_exit_code_and_message(slurm: Path) -> None:
    (slurm / "real/sbatch").write_text("#!/bin/sh\necho 'error: invalid account' >&2\nexit 1\n")
    done = subprocess.run(SUBMIT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: invalid account\n"
    assert ask(*POLL) == []


def test_nothing_is_changed_without_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUNET_QUEUE", raising=False)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    watch_queue(tmp_path / "store")
    assert os.environ["PATH"] == str(Path(sys.executable).parent)
    assert not (tmp_path / "store").exists()


def test_the_plugin_asks_as_often_as_its_option_says(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "next_seconds_between_status_checks"
    monkeypatch.setattr(Executor, name, getattr(Executor, name))  # restored afterwards
    settings = SimpleNamespace(init_seconds_before_status_checks=20)
    executor = Executor.__new__(Executor)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.next_seconds_between_status_checks = 180
    assert executor.next_seconds_between_status_checks == 180
    ask_evenly()
    for wanted, found in ((20, 20), (30, 20), (180, 20), (5, 5)):
        executor.next_seconds_between_status_checks = wanted
        assert executor.next_seconds_between_status_checks == found


@pytest.mark.parametrize("is_waiting", [True, False])
def test_the_plugin_ends_without_waiting_for_another_interval(
    is_waiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Executor, "sleep", Executor.sleep)  # put back at the end
    end_at_once()
    executor = Executor.__new__(Executor)
    executor.wait, executor._next_seconds_between_status_checks = True, 3600
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        executor.wait = is_waiting and len(slept) < 5

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(executor.sleep())
    assert len(slept) == (5 if is_waiting else 1)
    assert max(slept) < 1
