"""Snakemake's executor for SLURM, with what studies on a shared cluster need besides.

The plugin (2.8) waits for ever, and cancels nothing at Ctrl-C, once SLURM has not answered five
times; likewise for a job that ended and left the queue between two looks, that stays in COMPLETING
on a lost node, or that was preempted for good. It submits again what SLURM refuses, notices the end
of a job up to three minutes late, and says neither why SLURM refuses a job nor why one waits. So
this class looks at the queue, cancels and reports in its own way; it submits as the plugin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from lunet.errors import LunetError
from lunet.study.brief import job_name
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
REFUSED = "SLURM sbatch failed"
"""How the plugin begins its message about a job that could not be submitted."""
_WAITING = ("PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT")
_ORDINARY = ("None", "Priority", "Resources", "BeginTime", "Dependency")
"""Reasons for which jobs wait on any cluster."""


def use_this_executor() -> None:
    """Let Snakemake run its jobs with this class instead of the plugin's."""
    ExecutorPluginRegistry().get_plugin("slurm").executor = SlurmExecutor


class SlurmExecutor(Executor):
    """The plugin's executor; it does not wait for a job that has ended, and says why it waits."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._ends = threading.Event()
        self._submission = threading.local()
        self._reasons: set[str] = set()
        self._refusals: set[str] = set()
        self._numbers: set[str] = set()
        self._strangers: set[str] = set()
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
            if found.state == "UNKNOWN" and not job.aux["slurm_logfile"].exists():
                # it never started, so outputs in its place would be those of an earlier run
                self._failed(job, QueuedJob("CANCELLED", "it has not started"))
            elif found.state in ("COMPLETED", "UNKNOWN"):
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
        self._cancel_strangers(queue)
        return queue

    def _tell_why_jobs_wait(self, queue: Iterable[QueuedJob]) -> None:
        """A line for each reason that is neither ordinary nor known, with the number of jobs."""
        reasons = Counter(job.reason for job in queue if job.state in _WAITING)
        waiting = {reason for reason in reasons if reason not in _ORDINARY}
        for reason in sorted(waiting - self._reasons):
            self.logger.warning(f"waiting in SLURM's queue for {reason}: {reasons[reason]} job(s)")
        self._reasons = waiting

    def _cancel_strangers(self, queue: dict[str, QueuedJob]) -> None:
        """Cancel jobs of this run that Snakemake does not know of, once two looks have shown them.

        SLURM may accept a job and not be able to say so; the job is then submitted once more.
        """
        living = {number for number, job in queue.items() if job.state in ("RUNNING", *_WAITING)}
        strangers = {number for number in living if _plain(number) not in self._numbers}
        for number in sorted(strangers & self._strangers):
            self.logger.warning(f"SLURM job {number} was submitted twice; this one is cancelled")
            ask("scancel", number)
        self._strangers = strangers

    def _report_job_submission_threadsafe(self, job_info: SubmittedJobInfo) -> None:
        """What the plugin calls for a job that was submitted."""
        self._numbers.add(_plain(job_info.external_jobid))
        super()._report_job_submission_threadsafe(job_info)

    def _succeeded(self, job: SubmittedJobInfo, state: str) -> None:
        """Report a job as done; Snakemake then looks for its outputs."""
        self.report_job_success(job)
        if state == "COMPLETED" and not self.workflow.executor_settings.keep_successful_logs:
            with contextlib.suppress(OSError):
                job.aux["slurm_logfile"].unlink()

    def _failed(self, job: SubmittedJobInfo, found: QueuedJob) -> None:
        why = found.state.lower().replace("_", " ")
        why += f" ({found.reason})" if found.reason not in ("None", "") else ""
        if found.state == "NODE_FAIL":
            answer = ask("scontrol", "-o", "show", "job", job.external_jobid)
            self._failed_nodes.update(re.findall(r" NodeList=(\w\S*)", answer.stdout))
        log = os.path.relpath(job.aux["slurm_logfile"])
        message = f"SLURM job {job.external_jobid} ended: {why}, see {log}"
        self.report_job_error(job, msg=message, aux_logs=[log])

    def report_job_error(
        self, job_info: SubmittedJobInfo, msg: str | None = None, **others: Any
    ) -> None:
        """Report a job as failed, with a line in the terminal that says why."""
        if msg and msg.startswith(REFUSED):
            self.logger.debug(msg)
            self.logger.error(f"{_title(job_info.job)}: not submitted")
            # without Snakemake's message, which has lines from the logs of earlier attempts
            self.workflow.scheduler.error_callback(job_info.job)
            return
        if msg:
            self.logger.error(f"{_title(job_info.job)}: {msg}")
        super().report_job_error(job_info, msg=msg, **others)

    def run_job(self, job: Any) -> None:
        """Submit a job; wait while SLURM cannot accept any."""
        waits_for = ""
        while not self._ends.is_set():
            if self._refusals:
                return self.report_job_error(SubmittedJobInfo(job), msg=REFUSED)
            refusal = self._submit(job)
            if not refusal:
                return None
            if not waits_for:
                self.logger.warning(f"{_title(job)} waits to be submitted: {refusal}")
            waits_for = refusal
            self._ends.wait(_AGAIN_SECONDS)
        return None

    def _submit(self, job: Any) -> str:
        """Submit a job or report it as failed; the reason if SLURM cannot accept it now."""
        self._submission.refusal = ""
        try:
            super().run_job(job)
        except Exception as error:  # of a group the plugin cannot even report it
            why = error.__context__ or error
            self.report_job_error(SubmittedJobInfo(job), msg=f"could not be submitted ({why})")
        return str(self._submission.refusal)

    def get_account_arg(self, job: Any) -> Iterator[str]:
        """The option for the account, if the profile has one; ``sbatch`` judges it.

        The plugin asks for the user's accounts before each submission, and fails if SLURM does not
        answer then.
        """
        account = job.resources.get("slurm_account")
        if account:
            yield f" -A {shlex.quote(str(account))}"
        else:
            yield from super().get_account_arg(job)

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
    """SLURM's reason in the plugin's message about a submission.

    Empty if the message is about something else, or SLURM gave no reason (at Ctrl-C, for example).
    """
    if not message.startswith(REFUSED):
        return ""
    said = message.partition("error message was '")[2].partition("'.\n")[0]
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in said.splitlines()]
    told = [line for line in lines if line]
    return "; ".join(dict.fromkeys(told))


def _plain(number: str) -> str:
    """The number of a job without that of an array's task."""
    return re.split(r"[_+]", number)[0]


def _title(job: Any) -> str:
    """The rule and run of a job; of a group those of a member, and the number of the others."""
    members = list(job) if job.is_group() else [job]
    name = job_name(members[0].rule.name, members[0].wildcards_dict)
    return f"{name} and {len(members) - 1} more" if len(members) > 1 else name
