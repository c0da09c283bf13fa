"""The executor for SLURM: jobs that have ended, refusals, Ctrl-C; SLURM is played by functions."""

from __future__ import annotations

import asyncio
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

    def is_group(self) -> bool:
        return False


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> SlurmExecutor:
    """An executor whose plugin neither starts threads nor reports to a scheduler."""
    logger = Lines()
    settings = SimpleNamespace(keep_successful_logs=False, init_seconds_before_status_checks=20)
    scheduler = SimpleNamespace(keepgoing=True, ended=[])

    def begin(self: Any, workflow: Any, logger: Any) -> None:
        self.workflow, self.logger, self.wait = workflow, logger, True
        self.run_uuid, self._failed_nodes = "lunet_7", set()

    monkeypatch.setattr(Executor, "__init__", begin)
    for name in ("report_job_success", "report_job_error", "_report_job_error_threadsafe"):
        monkeypatch.setattr(
            Executor,
            name,
            lambda self, info, *_, name=name, **__: scheduler.ended.append(
                (info.external_jobid, name)
            ),
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
    (tmp_path / "1.log").touch()
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: states)
    monkeypatch.setattr(slurm_executor, "is_over", lambda number: number == "7")
    assert look(executor, *"123456789", folder=tmp_path) == ["3", "4", "5", "9"]
    done, failed = "report_job_success", "report_job_error"
    ended = dict(executor.workflow.scheduler.ended)
    assert ended == {"1": done, "2": failed, "6": failed, "7": done, "8": failed}
    assert not (tmp_path / "1.log").exists()
    told = "\n".join(executor.logger.told)
    assert f"train p fold 0: SLURM job 2 ended: timeout (TimeLimit), see {tmp_path}/2.log" in told
    assert "SLURM job 8 ended: cancelled, see" in told


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
    assert look(executor, "1", "2") == ["1"]
    assert executor.logger.told[1:] == ["SLURM answers again"]


def test_why_jobs_wait_is_told_once(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {n: QueuedJob("PENDING", "QOSMaxJobsPerUserLimit") for n in "123"}
    states |= {"4": QueuedJob("PENDING", "JobHeldUser"), "5": QueuedJob("PENDING", "Resources")}
    monkeypatch.setattr(slurm_executor, "jobs_named", lambda _: states)
    for _ in range(3):
        assert look(executor, *"12345") == [*"12345"]
    assert executor.logger.told == [
        "1 of the queued jobs wait: SLURM says JobHeldUser",
        "3 of the queued jobs wait: SLURM says QOSMaxJobsPerUserLimit",
    ]


def test_a_refused_job_is_not_submitted_again_and_ends_the_run(executor: SlurmExecutor) -> None:
    jobs = [Job("train"), Job("train"), Job("prune")]
    for job in jobs:
        executor._report_job_error_threadsafe(SubmittedJobInfo(job), message(INVALID))
    assert [job.rule.restart_times for job in jobs] == [0, 0, 0]
    assert not executor.workflow.scheduler.keepgoing
    assert len(executor.workflow.scheduler.ended) == 3
    (told,) = executor.logger.told
    assert told.startswith("SLURM refuses train p fold 0: Batch job submission failed: Invalid qos")


def test_a_submission_waits_until_slurm_accepts_it(
    executor: SlurmExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [message(AWAY), message(AWAY), ""]

    def submit(self: SlurmExecutor, job: Job) -> None:
        if answer := answers.pop(0):
            self._report_job_error_threadsafe(SubmittedJobInfo(job), answer)

    monkeypatch.setattr(Executor, "run_job", submit)
    monkeypatch.setattr(slurm_executor, "_AGAIN_SECONDS", 0.01)
    job = Job("train")
    executor.run_job(job)
    assert not answers
    assert not executor.workflow.scheduler.ended
    assert job.rule.restart_times == 3
    (told,) = executor.logger.told
    assert told.startswith("train p fold 0 waits to be submitted: Batch job submission failed")


def test_an_error_before_sbatch_is_left_to_the_plugin(executor: SlurmExecutor) -> None:
    job = Job("train")
    executor._report_job_error_threadsafe(SubmittedJobInfo(job), "Job submission failed with x")
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
        (message(""), "without a reason"),
        ("SLURM-job 7 failed", ""),
    ],
)
def test_the_reason_in_the_plugin_s_message(said: str, refusal: str) -> None:
    assert refusal_in(said) == refusal


def test_snakemake_is_given_this_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = ExecutorPluginRegistry().get_plugin("slurm")
    monkeypatch.setattr(plugin, "executor", plugin.executor)  # put back at the end
    use_this_executor()
    assert ExecutorPluginRegistry().get_plugin("slurm").executor is SlurmExecutor
