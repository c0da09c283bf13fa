"""After a crash of Snakemake: find its left-over SLURM jobs, remove its lock, list what resumes."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lunet.errors import Busy, ConfigError, LunetError
from lunet.reading_yaml import read_yaml


@dataclass(frozen=True)
class ClusterJob:
    """One job of SLURM's queue."""

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
        Job-name prefix; None takes ``slurm-jobname-prefix`` of the profile.
    profile
        Folder of the profile that started the jobs.
    work
        Folder of the resume states.

    Returns
    -------
    int
        0 if no job is left and the checkout is unlocked, 1 if jobs are left.

    Raises
    ------
    Busy
        If a Snakemake of this checkout is alive on this host.
    """
    alive = list(_snakemakes())
    if alive:
        raise Busy(
            where=Path.cwd(),
            found=f"Snakemake is still running here (process {', '.join(map(str, alive))})",
            expected="only one may run at a time",
            action="End it first",
        )
    jobs = left_over(prefix or _prefix(profile))
    for job in jobs:
        print(f"{action}: job {job.number} ({job.state}) {job.comment}")
    if jobs and action == "cancel":
        subprocess.run(["scancel", *(job.number for job in jobs)], check=True)
    if jobs and action in ("cancel", "wait"):
        _await({job.number for job in jobs})
    elif jobs:
        print(f"{len(jobs)} jobs are left; cancel them (--cancel) or wait for them (--wait)")
        return 1
    _unlock()
    for line in resumable(Path(work)):
        print(line)
    print("no job is left; the next snakemake resumes the work")
    return 0


def left_over(prefix: str) -> list[ClusterJob]:
    """Jobs of this user in the queue that were submitted from this folder under the prefix."""
    if shutil.which("squeue") is None:
        return []
    command = ["squeue", "-h", "-u", getpass.getuser(), "-o", "%A|%j|%T|%Z|%k"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise LunetError(
            where="squeue",
            found=lines[-1].removeprefix("squeue: "),
            expected="SLURM's queue is needed to find left-over jobs",
            action="Try again later, on a node where sbatch works",
        )
    here = str(Path.cwd())
    rows = [line.split("|", 4) for line in answer.stdout.splitlines()]
    return [
        ClusterJob(number, name, state, comment)
        for number, name, state, folder, comment in rows
        if name.startswith(f"{prefix}_") and folder == here
    ]


def resumable(work: Path) -> list[str]:
    """One line per training that has a saved state and will resume."""
    states = sorted(work.glob("*/runs/*/fold-*/seed-*"))
    return [f"resumes: {folder.relative_to(work)}" for folder in states if any(folder.iterdir())]


def _prefix(profile: str) -> str:
    path = Path(profile, "config.yaml")
    settings = read_yaml(path)
    prefix = settings.get("slurm-jobname-prefix")
    if not prefix:
        raise ConfigError(
            where=f"{path}: slurm-jobname-prefix",
            found="missing",
            expected="needed to find the jobs",
            action="Add it, or give --prefix",
        )
    return str(prefix)


def _await(numbers: set[str]) -> None:
    while True:
        answer = subprocess.run(
            ["squeue", "-h", "-j", ",".join(sorted(numbers)), "-o", "%A %T"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        # a job that squeue does not list, or whose state has ended, is no longer running
        states = dict(line.split() for line in answer.stdout.splitlines())
        ended = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"}
        ended |= {"PREEMPTED", "BOOT_FAIL", "DEADLINE"}
        if not {number for number, state in states.items() if state not in ended}:
            return
        time.sleep(2)


def _snakemakes() -> Iterator[int]:
    """Processes of this host that run Snakemake in this folder (found on Linux only)."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            folder = os.readlink(entry / "cwd")
        except OSError:
            continue  # ended meanwhile, or another user's
        program = [word for word in words[:3] if word.endswith((b"/snakemake", b"snakemake"))]
        # jobs of a run are Snakemake processes, too; they have --mode
        if program and b"--mode" not in words and folder == str(Path.cwd()):
            yield int(entry.name)


def _unlock() -> None:
    """Remove the lock that a killed Snakemake left in ``.snakemake/locks``."""
    locks = list(Path(".snakemake/locks").glob("*.lock"))
    for lock in locks:
        lock.unlink()
    if locks:
        print(f"unlocked: removed {len(locks)} locks of a Snakemake that has ended")
