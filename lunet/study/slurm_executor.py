"""Snakemake's executor for SLURM, with what studies on a shared cluster need besides.

The plugin (2.8) waits for ever, and cancels nothing at Ctrl-C, once SLURM has not answered five
times; likewise for a job that ended and left the queue between two looks, that stays in COMPLETING
on a lost node, or that was preempted for good. It submits again what SLURM refuses, notices the end
of a job up to three minutes late, and says neither why SLURM refuses a job nor why one waits. So
this class looks at the queue, cancels and reports in its own way; it submits as the plugin does.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from lunet.errors import LunetError
from lunet.study.brief import REFUSED, job_name
from lunet.study.slurm_queue import (
    FAILED,
    QueuedJob,
    ask,
    is_over,
    is_passing,
    jobs_named,
    last_line,
)

_LOOK_SECONDS = 0.2
_AGAIN_SECONDS = 30.0
"""Seconds until a submission is tried again that SLURM could not accept at the moment."""
_ORDINARY = ("None", "Priority", "Resources", "BeginTime", "Dependency")
"""Reasons for which jobs wait on any cluster."""


def use_this_executor() -> None:
    """Let Snakemake run its jobs with this class instead of the plugin's."""
    ExecutorPluginRegistry().get_plugin("slurm").executor = SlurmExecutor


class SlurmExecutor(Executor):
    """The plugin's executor, which never waits for a job that has ended, nor without a word."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._ends = threading.Event()
        self._submission = threading.local()
        self._reasons: set[str] = set()
        self._refusals: set[str] = set()
        self._is_away = False
        super().__init__(workflow, logger)  # starts the thread that looks at the queue

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncIterator[SubmittedJobInfo]:
        """Report the jobs that have ended, and yield the others."""
        queue = await asyncio.to_thread(self._look) if active_jobs else None
        for job in active_jobs:
            number = job.external_jobid
            found = QueuedJob("RUNNING", "") if queue is None else queue.get(number)
            if found is None or found.state == "COMPLETING":
                is_gone = await asyncio.to_thread(is_over, number)
                found = QueuedJob("UNKNOWN" if is_gone else "COMPLETING", "")
            if found.state in ("COMPLETED", "UNKNOWN"):
                self._succeeded(job, found.state)
            elif found.state in FAILED:
                self._failed(job, found)
            else:
                yield job

    def _look(self) -> dict[str, QueuedJob] | None:
        """The jobs of this run; None, and a line, if SLURM does not answer."""
        try:
            queue = jobs_named(self.run_uuid)
        except LunetError as error:
            if not self._is_away:
                self.logger.warning(f"{error} The jobs run on; waiting for SLURM to answer")
            self._is_away = True
            return None
        if self._is_away:
            self.logger.warning("SLURM answers again")
        self._is_away = False
        self._tell_why_jobs_wait(queue.values())
        return queue

    def _tell_why_jobs_wait(self, queue: Iterable[QueuedJob]) -> None:
        """A line for each reason that is neither ordinary nor known, with the number of jobs."""
        reasons = Counter(job.reason for job in queue if job.state == "PENDING")
        waiting = {reason for reason in reasons if reason not in _ORDINARY}
        for reason in sorted(waiting - self._reasons):
            self.logger.warning(f"{reasons[reason]} of the queued jobs wait: SLURM says {reason}")
        self._reasons = waiting

    def _succeeded(self, job: SubmittedJobInfo, state: str) -> None:
        """Report a job as done; Snakemake then looks for its outputs."""
        self.report_job_success(job)
        if state == "COMPLETED" and not self.workflow.executor_settings.keep_successful_logs:
            job.aux["slurm_logfile"].unlink(missing_ok=True)

    def _failed(self, job: SubmittedJobInfo, found: QueuedJob) -> None:
        why = found.state.lower().replace("_", " ")
        why += f" ({found.reason})" if found.reason not in ("None", "") else ""
        if found.state == "NODE_FAIL":
            answer = ask("scontrol", "-o", "show", "job", job.external_jobid)
            self._failed_nodes.update(re.findall(r" NodeList=(\w\S*)", answer.stdout))
        log = job.aux.get("slurm_logfile")
        message = f"SLURM job {job.external_jobid} ended: {why}, see {log}"
        self.report_job_error(job, msg=message, aux_logs=[str(log)])

    def report_job_error(
        self, job_info: SubmittedJobInfo, msg: str | None = None, **others: Any
    ) -> None:
        """Report a job as failed, with a line in the terminal that says why."""
        if msg and not msg.startswith(REFUSED):
            self.logger.error(f"{_title(job_info.job)}: {msg}")
        super().report_job_error(job_info, msg=msg, **others)

    def run_job(self, job: Any) -> None:
        """Submit a job; wait while SLURM cannot accept any."""
        is_told = False
        while True:
            self._submission.refusal = ""
            super().run_job(job)
            refusal = self._submission.refusal
            if not refusal or self._ends.is_set():
                return
            if not is_told:
                self.logger.warning(f"{_title(job)} waits to be submitted: {refusal}")
                is_told = True
            self._ends.wait(_AGAIN_SECONDS)

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        """What the plugin calls for a job that could not be submitted."""
        refusal = refusal_in(msg)
        if is_passing(refusal) and not self._ends.is_set():
            self._submission.refusal = refusal
            return
        if refusal and not is_passing(refusal):
            self._end_run(job_info.job, refusal)
        super()._report_job_error_threadsafe(job_info, msg)

    def _end_run(self, job: Any, refusal: str) -> None:
        """End the run when its running jobs have ended: what SLURM refuses, it refuses again."""
        if refusal not in self._refusals:
            self.logger.error(
                f"SLURM refuses {_title(job)}: {refusal}\n"
                "         Nothing more is submitted; edit the profile and start again"
            )
        self._refusals.add(refusal)
        self.workflow.scheduler.keepgoing = False
        for member in job if job.is_group() else [job]:
            member.rule.restart_times = 0

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel all jobs of this run, also those that the plugin does not count as active.

        It counts none while it looks at the queue, and still submits those that wait for it.
        """
        self._ends.set()
        self._job_submission_executor.shutdown(wait=True, cancel_futures=True)
        command = ["scancel", "--name", self.run_uuid]
        command += ["--clusters=all"] if self._submitted_job_clusters else []
        answer = ask(*command)
        if answer.returncode:
            self.logger.error(
                f"the jobs could not be cancelled ({last_line(answer)}); "
                "`lunet recover --cancel` does it"
            )

    def shutdown(self) -> None:
        """End, without waiting for a submission that SLURM does not accept."""
        self._ends.set()
        super().shutdown()

    async def sleep(self) -> None:
        """Wait for the interval of the profile; end with the last job and not an interval later."""
        interval = self.workflow.executor_settings.init_seconds_before_status_checks
        end = time.monotonic() + interval
        while self.wait and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK_SECONDS))


def refusal_in(message: str) -> str:
    """SLURM's reason in the plugin's message about a submission; empty if it is about another."""
    if not message.startswith(REFUSED):
        return ""
    said = message.partition("error message was '")[2].partition("'.\n")[0]
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in said.splitlines()]
    told = [line for line in lines if line]
    return "; ".join(dict.fromkeys(told)) or "without a reason"


def _title(job: Any) -> str:
    """The rule and run of a job; of a group those of a member, and the number of the others."""
    members = list(job) if job.is_group() else [job]
    name = job_name(members[0].rule.name, members[0].wildcards_dict)
    return f"{name} and {len(members) - 1} more" if len(members) > 1 else name
