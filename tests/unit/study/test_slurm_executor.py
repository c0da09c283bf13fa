"""The executor for SLURM: jobs that have ended, refusals, Ctrl-C; SLURM is played by functions."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from lunet.errors import LunetError
from lunet.study import slurm_executor
from lunet.study.slurm_executor import SlurmExecutor, refusal_in, use_this_executor
from lunet.study.slurm_queue import QueuedJob

INVALID = "sbatch: error: Batch job submission failed: Invalid qos specification"
AWAY = "sbatch: error: Batch job submission failed: Unable to contact slurm controller"


def message(said: str) -> str:
    return (
        f"SLURM sbatch failed. The error message was '{said}'.\n    sbatch call:\n   sbatch -p x\n"
    )


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.warning = self.error = self.info = self.debug = self.told.append


class Job:
    """A job of Snakemake."""

    def __init__(self, name: str) -> None:
        self.rule = SimpleNamespace(name=name, restart_times=3)
        self.wildcards_dict = {"preset": "p", "fold": "0"}
        self.resources: dict[str, str] = {}

    def is_group(self) -> bool:
        return False


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> SlurmExecutor:
    """An executor whose plugin neither starts threads nor reports to a scheduler."""
    logger = Lines()
    settings = SimpleNamespace(keep_successful_logs=False, init_seconds_before_status_checks=20)
    ended: list[tuple[Any, str]] = []
    scheduler = SimpleNamespace(keepgoing=True, ended=ended)
    scheduler.error_callback = lambda job: ended.append((job, "error_callback"))

    def begin(self: Any, workflow: Any, logger: Any) -> None:
        self.workflow, self.logger, self.wait = workflow, logger, True
        self.run_uuid, self._failed_nodes = "lunet_7", set()

    monkeypatch.setattr(Executor, "__init__", begin)
    for name in ("report_job_success", "report_job_error", "_report_job_submission_threadsafe"):
        monkeypatch.setattr(
            Executor,
            name,
            lambda self, info, *_, name=name, **__: ended.append((info.external_jobid, name)),
        )
    workflow = SimpleNamespace(executor_settings=settings, scheduler=scheduler)
    return SlurmExecutor(workflow, logger)


def look(executor: SlurmExecutor, *numbers: str, folder: Path = Path()) -> list[str]:
    """Numbers of the jobs that still run after a look at the queue."""
    jobs = [
        SubmittedJobInfo(Job("train"), external_jobid=n, aux={"slurm_logfile": folder / f"{n}.log"})
        for n in numbers
    ]

    async def collect() -> list[str]:
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(collect())


def test_each_job_is_reported_by_its_state(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    states = {
        "1": QueuedJob("COMPLETED", "None"),
        "2": QueuedJob("TIMEOUT", "TimeLimit"),
        "3": QueuedJob("RUNNING", "None"),
        "4": QueuedJob("PENDING", "Priority"),
        "5": QueuedJob("COMPLETING", "None"),
        "6": QueuedJob("PREEMPTED", "None"),
        "8": QueuedJob("CANCELLED", "None"),
    }
    for number in (1, 7):
        (tmp_path / f"{number}.log").touch()
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: states)
    monkeypatch.setattr(slurm_executor, "is_over", lambda number: number == "7")
    assert look(executor, *"123456789", folder=tmp_path) == ["3", "4", "5", "9"]
    done, failed = "report_job_success", "report_job_error"
    ended = dict(executor.workflow.scheduler.ended)
    assert ended == {"1": done, "2": failed, "6": failed, "7": done, "8": failed}
    assert not (tmp_path / "1.log").exists()
    told = "\n".join(executor.logger.told)
    log = os.path.relpath(tmp_path / "2.log")
    assert f"train p fold 0: SLURM job 2 ended: timeout (TimeLimit), see {log}" in told
    assert "SLURM job 8 ended: cancelled, see" in told


def test_a_job_that_left_the_queue_without_having_started_has_made_nothing(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its outputs may be there all the same, from an earlier run with other settings."""
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: {})
    monkeypatch.setattr(slurm_executor, "is_over", lambda _: True)
    assert look(executor, "1", folder=tmp_path) == []
    assert executor.workflow.scheduler.ended == [("1", "report_job_error")]
    assert "cancelled (it has not started)" in executor.logger.told[0]


def test_a_job_that_was_submitted_twice_is_cancelled_once_it_is_sure(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {n: QueuedJob("RUNNING", "None") for n in ("1", "2", "3_4")}
    states["9"] = QueuedJob("CANCELLED", "None")
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: states)
    monkeypatch.setattr(slurm_executor, "ask", lambda *command: asked.append(command))
    for number in ("1", "3_0"):
        executor._report_job_submission_threadsafe(
            SubmittedJobInfo(Job("train"), external_jobid=number)
        )
    look(executor, "1")
    assert asked == []
    look(executor, "1")
    assert asked == [("scancel", "2")]


def test_no_job_is_forgotten_while_slurm_does_not_answer(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> dict[str, QueuedJob]:
        raise LunetError(where="squeue", found="Unable to contact slurm controller", expected="")

    monkeypatch.setattr(slurm_executor, "jobs_named", away)
    for _ in range(7):
        assert look(executor, "1", "2") == ["1", "2"]
    assert len(executor.logger.told) == 1
    assert "Unable to contact slurm controller" in executor.logger.told[0]
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: {"1": QueuedJob("RUNNING", "")})
    monkeypatch.setattr(slurm_executor, "is_over", lambda _: True)
    executor._numbers.update("12")
    assert look(executor, "1", "2") == ["1"]
    assert executor.logger.told[1] == "SLURM answers again"


def test_why_jobs_wait_is_told_once(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {n: QueuedJob("PENDING", "QOSMaxJobsPerUserLimit") for n in "123"}
    states |= {"4": QueuedJob("PENDING", "JobHeldUser"), "5": QueuedJob("PENDING", "Resources")}
    executor._numbers.update("12345")
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: states)
    for _ in range(3):
        assert look(executor, *"12345") == [*"12345"]
    assert executor.logger.told == [
        "waiting in SLURM's queue for JobHeldUser: 1 job(s)",
        "waiting in SLURM's queue for QOSMaxJobsPerUserLimit: 3 job(s)",
    ]


def submits(monkeypatch: pytest.MonkeyPatch, *answers: str | Exception) -> list[Job]:
    """Play the plugin's submission, with these answers of ``sbatch``; the submitted jobs."""
    waiting, submitted = list(answers), []

    def submit(self: SlurmExecutor, job: Job) -> None:
        submitted.append(job)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self._report_job_error_threadsafe(SubmittedJobInfo(job), answer)

    monkeypatch.setattr(Executor, "run_job", submit)
    monkeypatch.setattr(slurm_executor, "_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(
        Executor,
        "_report_job_error_threadsafe",
        lambda self, info, msg: self.report_job_error(info, msg),
    )
    return submitted


def test_a_refused_job_is_not_submitted_again_and_no_other_is(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submits(monkeypatch, message(INVALID))
    jobs = [Job("train"), Job("train"), Job("prune")]
    for job in jobs:
        executor.run_job(job)
    assert submitted == jobs[:1]
    assert jobs[0].rule.restart_times == 0
    assert not executor.workflow.scheduler.keepgoing
    assert executor.workflow.scheduler.ended == [(job, "error_callback") for job in jobs]
    assert "SLURM refuses train p fold 0: Batch job submission failed: Invalid qos" in "".join(
        executor.logger.told
    )
    assert executor.logger.told[-1] == "prune p fold 0: not submitted"


def test_a_group_that_the_plugin_cannot_submit_is_reported(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin looks for the rule of a group, and nobody would ever hear of the job again."""
    submits(monkeypatch, AttributeError("'GroupJob' object has no attribute 'rule'"))
    executor.run_job(Job("train"))
    assert executor.workflow.scheduler.ended == [(None, "report_job_error")]
    assert "train p fold 0: could not be submitted" in executor.logger.told[0]


def test_a_submission_waits_until_slurm_accepts_it(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submits(monkeypatch, message(AWAY), message(AWAY), "")
    job = Job("train")
    executor.run_job(job)
    assert submitted == [job] * 3
    assert not executor.workflow.scheduler.ended
    assert job.rule.restart_times == 3
    (told,) = executor.logger.told
    assert told.startswith("train p fold 0 waits to be submitted: Batch job submission failed")


@pytest.mark.parametrize("said", ["Job submission failed with x", message("")])
def test_another_error_is_an_ordinary_failure(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    submits(monkeypatch, said)
    job = Job("train")
    executor.run_job(job)
    assert job.rule.restart_times == 3
    assert executor.workflow.scheduler.keepgoing
    assert len(executor.workflow.scheduler.ended) == 1


def test_ctrl_c_cancels_by_name_what_is_submitted_and_drops_what_waits(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def cancel(*command: str) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, len(asked) - 1, "", "away")

    monkeypatch.setattr(slurm_executor, "ask", cancel)
    executor._submitted_job_clusters = set()
    executor._job_submission_executor = SimpleNamespace(
        shutdown=lambda **how: asked.append(("pool", how))
    )
    executor.cancel_jobs([])
    submitted = submits(monkeypatch)
    executor.run_job(Job("train"))
    assert submitted == []
    assert asked == [
        ("pool", {"wait": True, "cancel_futures": True}),
        ("scancel", "--name", "lunet_7"),
    ]
    assert "`lunet recover --cancel`" in executor.logger.told[0]


@pytest.mark.parametrize("is_waiting", [True, False])
def test_it_looks_each_interval_and_ends_at_once(
    executor: SlurmExecutor, is_waiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        executor.wait = is_waiting and len(slept) < 5

    monkeypatch.setattr(asyncio, "sleep", sleep)
    asyncio.run(executor.sleep())
    assert len(slept) == (5 if is_waiting else 1)
    assert max(slept) < 1


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (message(INVALID), "Batch job submission failed: Invalid qos specification"),
        (
            message(f"{INVALID}\n{INVALID}"),
            "Batch job submission failed: Invalid qos specification",
        ),
        (message("sbatch: error: MaxSubmit\nsbatch: error: no"), "MaxSubmit; no"),
        (message(""), ""),
        ("SLURM-job 7 failed", ""),
    ],
)
def test_the_reason_in_the_plugin_s_message(said: str, refusal: str) -> None:
    assert refusal_in(said) == refusal


def test_the_account_is_left_to_sbatch(executor: SlurmExecutor) -> None:
    job = Job("train")
    job.resources["slurm_account"] = "my lab"
    assert list(executor.get_account_arg(job)) == [" -A 'my lab'"]


def test_snakemake_is_given_this_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ExecutorPluginRegistry().get_plugin("slurm")
    monkeypatch.setattr(plugin, "executor", plugin.executor)  # put back at the end
    use_this_executor()
    assert ExecutorPluginRegistry().get_plugin("slurm").executor is SlurmExecutor
