"""After a crash of Snakemake: find its left-over jobs, remove its lock, list what resumes."""

from __future__ import annotations

import getpass
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lunet.errors import Busy, ConfigError, LunetError
from lunet.locks import living_owner
from lunet.study.profile import read_profile
from lunet.study.running import snakemakes
from lunet.study.slurm_queue import FAILED, ask, is_over, last_line
from lunet.training.kept_results import FOLDER, PREDICTED

_ROW = "%A|%j|%T|%Z|%k"
_LOOK_SECONDS = 2.0
_ENDED = FAILED | {"COMPLETED"}


@dataclass(frozen=True)
class Queue:
    """How a scheduler lists and cancels jobs.

    Attributes
    ----------
    listing
        Command that prints a line ``NUMBER|NAME|STATE|FOLDER|COMMENT`` for each job of this user.
    cancel
        Command that gets the numbers of jobs.
    prefix
        Beginning of the names of jobs that Snakemake submitted.
    """

    listing: tuple[str, ...]
    cancel: tuple[str, ...]
    prefix: str


@dataclass(frozen=True)
class ClusterJob:
    """One job of a scheduler's queue."""

    number: str
    name: str
    state: str
    comment: str


def recover(action: str, prefix: str | None, profile: str, work: str) -> int:
    """List, cancel or wait for the left-over jobs of this checkout, then unlock it.

    Parameters
    ----------
    action
        ``list``, ``cancel`` or ``wait``.
    prefix
        Job-name prefix; None takes that of the profile.
    profile
        Folder of the profile that started the jobs.
    work
        Folder of the resume states.

    Returns
    -------
    int
        0 if no job is left and the checkout is unlocked, 1 if jobs or other steps are left.

    Raises
    ------
    Busy
        If a Snakemake of this checkout is alive, on this host or another one.
    """
    alive = list(snakemakes())
    if alive:
        raise Busy(
            where=Path.cwd(),
            found=f"Snakemake is still running here ({', '.join(alive)})",
            expected="only one may run at a time",
            action="End it first",
        )
    queue = queue_of(profile, prefix)
    jobs = left_over(queue)
    for job in jobs:
        print(f"{action}: job {job.number} ({job.state}) {job.comment}")
    if jobs and action == "cancel":
        cancelled = ask(*queue.cancel, *(job.number for job in jobs))
        if cancelled.returncode:  # also if one of them has ended meanwhile
            print(f"{queue.cancel[0]}: {last_line(cancelled)}")
    if jobs and action in ("cancel", "wait"):
        _wait_for_end(queue, jobs)
    elif jobs:
        print(f"{len(jobs)} jobs are left; cancel them (--cancel) or wait for them (--wait)")
        return 1
    writers = list(_writers(Path(work)))
    for line in writers:
        print(f"still running: {line}")
    if writers:
        print(f"{len(writers)} steps still write; end them or wait, then try again")
        return 1
    _unlock()
    for line in resumable(Path(work)):
        print(line)
    print("no job is left; the next snakemake resumes the work")
    return 0


def _wait_for_end(queue: Queue, jobs: list[ClusterJob]) -> None:
    """Wait until no job is left over, with a line when what is left changes."""
    while left := left_over(queue):
        if left != jobs:
            states = Counter(job.state for job in left)
            print(", ".join(f"{number} {state}" for state, number in sorted(states.items())))
        jobs = left
        time.sleep(_LOOK_SECONDS)


def queue_of(profile: str, prefix: str | None = None) -> Queue:
    """The scheduler of a profile: SLURM, or a site's own with a script ``queue.sh``.

    Raises
    ------
    ConfigError
        If the profile has neither a job-name prefix nor commands of a site, or ``queue.sh`` is
        missing beside these.
    """
    settings = read_profile(profile)
    cancel = settings.get("cluster-generic-cancel-cmd")
    if cancel:
        words = shlex.split(str(cancel))
        script = Path(words[-1]).with_name("queue.sh")
        if not script.is_file():
            raise ConfigError(
                where=script,
                found="is missing",
                expected="it lists your jobs, so that left-over ones are found",
                action="profiles/generic/queue.sh is an example",
            )
        return Queue(("sh", str(script)), ("sh", *words), prefix or "lunet")
    found = prefix or settings.get("slurm-jobname-prefix")
    if not found:
        raise ConfigError(
            where=f"{profile}/config.yaml: slurm-jobname-prefix",
            found="missing",
            expected="needed to find the jobs",
            action="Add it, or give --prefix",
        )
    listing = ("squeue", "-h", "-u", getpass.getuser(), "-o", _ROW)
    return Queue(listing, ("scancel",), str(found))


def left_over(queue: Queue) -> list[ClusterJob]:
    """Jobs of this user that have not ended and were submitted from this folder.

    Raises
    ------
    LunetError
        If the scheduler does not answer.
    """
    name = queue.listing[0]
    if shutil.which(name) is None:
        print(f"{name} is not on this host: jobs of a cluster are not looked for")
        return []
    answer = ask(*queue.listing)
    if answer.returncode != 0:
        raise LunetError(
            where=" ".join(queue.listing[:2]) if name == "sh" else name,
            found=last_line(answer).removeprefix(f"{name}: "),
            expected="the queue is needed to find left-over jobs",
            action="Try again later, on a node where jobs can be submitted",
        )
    here = str(Path.cwd())
    rows = [line.split("|", 4) for line in answer.stdout.splitlines()]
    found = [
        ClusterJob(number, name, state, comment)
        for number, name, state, folder, comment in rows
        if name.startswith(f"{queue.prefix}_") and folder == here and state not in _ENDED
    ]
    return [job for job in found if job.state != "COMPLETING" or not is_over(job.number)]


def _writers(work: Path) -> Iterator[str]:
    """Each run that a living process writes, with that process; on a cluster or without one."""
    for runs in ("runs/*", "pruning/*/*"):
        for lock in sorted(work.glob(f"*/{runs}/fold-*/.seed-*.lock")):
            run = lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))
            owner = living_owner(run)
            if owner is not None:
                yield f"{run.relative_to(work)} ({owner.describe()})"


def resumable(work: Path) -> list[str]:
    """One line per training that has a saved state and will resume."""
    states = sorted(work.glob("*/runs/*/fold-*/seed-*"))
    begun = [folder for folder in states if _has_state(folder)]
    return [f"resumes: {folder.relative_to(work)}" for folder in begun]


def _has_state(folder: Path) -> bool:
    """Whether the folder holds more than kept results."""
    return any(path.name not in (FOLDER, PREDICTED) for path in folder.iterdir())


def _unlock() -> None:
    """Remove the lock that a killed Snakemake left in ``.snakemake/locks``."""
    locks = list(Path(".snakemake/locks").glob("*.lock"))
    for lock in locks:
        lock.unlink()
    if locks:
        print(f"unlocked: removed {len(locks)} locks of a Snakemake that has ended")
