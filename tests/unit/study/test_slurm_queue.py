"""What SLURM says of the jobs of a run; its commands are played by scripts."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lunet.errors import LunetError
from lunet.study import slurm_queue
from lunet.study.slurm_queue import QueuedJob, ask, is_over, is_passing, jobs_named

AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the played commands; ``queue`` is what squeue prints, ``job`` what scontrol."""
    scripts = {
        "squeue": f"echo $* > {tmp_path}/asked; cat {tmp_path}/queue",
        "scontrol": f"cat {tmp_path}/job && exit 0; cat {tmp_path}/refusal >&2; exit 1",
    }
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "refusal").write_text("slurm_load_jobs error: Invalid job id specified\n")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_jobs_of_a_run_with_state_and_reason(slurm: Path) -> None:
    (slurm / "queue").write_text("1|RUNNING|None\n2|PENDING|QOSMaxJobs|PerUser\n\n")
    assert jobs_named("lunet_7") == {
        "1": QueuedJob("RUNNING", "None"),
        "2": QueuedJob("PENDING", "QOSMaxJobs|PerUser"),
    }
    assert (slurm / "asked").read_text().split()[-2:] == ["--name", "lunet_7"]


def test_a_queue_that_does_not_answer_is_no_empty_queue(slurm: Path) -> None:
    (slurm / "squeue").write_text(f"#!/bin/sh\necho '{AWAY}' >&2; exit 1\n")
    with pytest.raises(LunetError, match="Unable to contact"):
        jobs_named("lunet_7")


def test_a_command_that_takes_too_long_or_is_missing_has_failed(slurm: Path) -> None:
    (slurm / "squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    late = ask("squeue", seconds=0.2)
    assert late.returncode == slurm_queue.TIMED_OUT
    assert is_passing(late.stderr)
    assert ask("no-such-command-of-slurm").returncode != 0


def test_a_job_that_slurm_forgot_is_over_unless_it_does_not_answer(slurm: Path) -> None:
    assert is_over("1")
    (slurm / "refusal").write_text(f"{AWAY}\n")
    assert not is_over("1")


@pytest.mark.parametrize(("minutes", "over"), [(1, False), (11, True)])
def test_a_job_that_completes_for_ever_is_over(slurm: Path, minutes: int, over: bool) -> None:
    end = (datetime.now() - timedelta(minutes=minutes)).isoformat(timespec="seconds")
    (slurm / "job").write_text(f"JobId=1 JobState=COMPLETING EndTime={end} Node=a\n")
    assert is_over("1") == over


def test_a_running_job_is_not_over(slurm: Path) -> None:
    (slurm / "job").write_text("JobId=1 JobState=RUNNING EndTime=Unknown Node=a\n")
    assert not is_over("1")


@pytest.mark.parametrize(
    ("refusal", "passing"),
    [
        (AWAY, True),
        ("Batch job submission failed: Socket timed out on send/recv operation", True),
        ("QOSMaxSubmitJobPerUserLimit; Batch job submission failed: Job violates", True),
        ("Batch job submission failed: Invalid account or account/partition", False),
        ("Batch job submission failed: Requested node configuration is not available", False),
        ("", False),
    ],
)
def test_what_is_worth_another_try(refusal: str, passing: bool) -> None:
    assert is_passing(refusal) == passing
