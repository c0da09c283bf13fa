"""Check before anything is submitted whether a profile fits this SLURM cluster.

With a wrong partition, account or GPU request every submission fails. ``sbatch --test-only`` checks
a whole request in milliseconds and gives SLURM's own reason.
"""

from __future__ import annotations

import contextlib
import getpass
import itertools
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError
from lunet.study.forecast import LONGEST_VARIABLE, longest_minutes
from lunet.study.profile import is_dry_run, profile_of, read_profile
from lunet.study.slurm_queue import TIMED_OUT, ask, is_passing, last_line

PROFILE = Path("profiles/slurm")
GPU_RULES = frozenset(
    (
        "plan",
        "measure",
        "engine",
        "train",
        "train_together",
        "train_preset",
        "pause",
        "predict",
        "transfer",
        "prune",
        "prune_control",
        "prune_predict",
        "rival_train",
        "rival_cost",
    )
)
"""Rules of the workflow that ask for a GPU."""
_JOB_SECONDS = 120
_CHANGES = ("--default-res", "--set-res", "--slurm-qos", "--slurm-reservation")
"""Options of Snakemake that change what is requested."""


@dataclass(frozen=True)
class Finding:
    """One line of the check-up: ``state`` is ``ok``, ``note`` or ``problem``."""

    state: str
    subject: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Request:
    """What some rules of a profile request from SLURM; ``default`` stands for all other rules.

    ``options`` are further options of ``sbatch``: the number and kind of GPUs, quality of service,
    features of a node.
    """

    rules: tuple[str, ...]
    partition: str
    account: str
    gpu: bool
    options: tuple[str, ...]


def requests_of(profile: dict[str, Any]) -> list[Request]:
    """The distinct requests of a profile, the default one first.

    A rule whose partition depends on its wildcards appears with each of its partitions.
    """
    default = profile.get("default-resources") or {}
    account = str(default.get("slurm_account", ""))
    sections = {rule: {} for rule in sorted(GPU_RULES)} | (profile.get("set-resources") or {})
    asked: dict[tuple[str, bool, tuple[str, ...]], list[str]] = {}
    for rule, own in ({"default": default} | sections).items():
        resources, gpu = default | own, rule in GPU_RULES
        for partition in _names(resources.get("slurm_partition")):
            asked.setdefault((partition, gpu, _options(resources, gpu)), []).append(rule)
    return [
        Request(tuple(rules), partition, account, gpu, options)
        for (partition, gpu, options), rules in asked.items()
    ]


def _options(resources: dict[str, Any], gpu: bool) -> tuple[str, ...]:
    """Further options, as the plugin writes them, of values that are not expressions."""
    known = {
        key: text.strip("'\"")
        for key in ("qos", "constraint", "gpu_model")
        if (text := str(resources.get(key) or "")) and not re.search(r"[ ()]", text)
    }
    model = f"{known['gpu_model']}:" if "gpu_model" in known else ""
    gpus = ("--gpus", f"{model}1") if gpu else ()
    given = [(f"--{key}", known[key]) for key in ("qos", "constraint") if key in known]
    return (*gpus, *itertools.chain.from_iterable(given))


def _names(partition: Any) -> list[str]:
    """Partition names in a profile's value: a single name, or the quoted names of an expression."""
    text = str(partition or "")
    quoted = re.findall(r"'([^']+)' (?:if|$)|else '([^']+)'", text)
    return [one or other for one, other in quoted] or [text]


def refusal(request: Request) -> str:
    """SLURM's reason to refuse a request, or an empty text; nothing is submitted."""
    command = ["sbatch", "--test-only", "-t", "10", "--mem", "500", "-n", "1"]
    command += ["-p", request.partition] if request.partition else []
    command += ["-A", request.account] if request.account else []
    done = ask(*command, *request.options, "--wrap", "true")
    if done.returncode == 0:
        return ""
    found = re.findall(r"(?:error|failure): (?!.*(?:error|failure): )(.+)", done.stderr)
    return str(found[-1]).strip() if found else ""


def prepare_cluster(words: Sequence[str]) -> None:
    """When Snakemake starts: check the profile, and have jobs for SLURM run by LUNet's executor."""
    check_at_start(words)
    with contextlib.suppress(ImportError):  # Snakemake says which plugin is missing
        from lunet.study.slurm_executor import use_this_executor

        use_this_executor()


def check_at_start(words: Sequence[str]) -> None:
    """Refuse to start if SLURM would refuse the requests; ``words`` are Snakemake's arguments.

    Nothing is checked in a dry run, with another executor, while SLURM's controller does not
    answer, or if the command line changes what the profile requests.

    Raises
    ------
    ConfigError
        If SLURM refuses a request; the message has the profile, the partition and SLURM's reason.
    """
    profile = profile_of(words)
    if profile is None or is_dry_run(words) or any(word.startswith(_CHANGES) for word in words):
        return
    settings = read_profile(profile)
    if settings.get("executor") != "slurm" or shutil.which("sbatch") is None:
        return
    for request in requests_of(settings):
        reason = refusal(request)
        if reason and not is_passing(reason):
            raise ConfigError(
                where=Path(profile) / "config.yaml",
                found=f"SLURM refuses the jobs of {_some(request.rules)} on partition "
                f"{request.partition!r} with account {request.account!r}: {reason}",
                action="Edit the first lines of the profile or set LUNET_*; "
                f"`lunet doctor --profile {profile}` shows what the cluster has",
            )


def check_up(profile: str | Path, *, job: bool = True) -> Iterator[Finding]:
    """All findings about a profile on this cluster.

    Parameters
    ----------
    profile
        Folder of the profile.
    job
        Whether to run one job of a few seconds, which checks Python and the file system of a node.
    """
    settings = read_profile(profile)
    where = Path(profile) / "config.yaml"
    missing = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if missing:
        found = f"not on PATH: {', '.join(missing)}"
        yield Finding("problem", "SLURM", found, "Log in to a node that can submit jobs")
        return
    ping = ask("scontrol", "ping")
    if ping.returncode:
        yield Finding("problem", "controller", last_line(ping), "Try again later")
        return
    yield Finding("ok", "controller", f"answers ({last_line(ask('sbatch', '--version'))})")
    yield from _partitions(settings)
    for request in requests_of(settings):
        kind = "a GPU" if request.gpu else "no GPU"
        subject = f"jobs of {_some(request.rules)}"
        asked = f"partition {request.partition}, account {request.account}, {kind}"
        reason = refusal(request)
        if reason:
            advice = f"Edit the first lines of {where}, or set LUNET_*"
            yield Finding("problem", subject, f"{asked}: {reason}", advice)
        else:
            yield Finding("ok", subject, f"{asked}: accepted")
    yield from _accounts()
    yield from _memory_of_the_queue(settings)
    if job:
        yield from _trial(settings)


def _partitions(settings: dict[str, Any]) -> Iterator[Finding]:
    rows = ask("sinfo", "-h", "-o", "%R|%a|%l|%D|%G").stdout.split("\n")
    training = {one.partition for one in requests_of(settings) if "train" in one.rules}
    for row in sorted({row for row in rows if row.count("|") == 4}):
        name, state, limit, nodes, devices = row.split("|")
        gpus = "no GPU" if devices == "(null)" else devices
        found, longest = f"{state}, limit {limit}, {nodes} nodes, {gpus}", minutes_of(limit)
        if name in training and longest < longest_minutes():
            found += f"; a training may request up to {longest_minutes()} min and would never start"
            advice = f"export {LONGEST_VARIABLE}={longest:g}"
            yield Finding("problem", f"partition {name}", found, advice)
        else:
            yield Finding("note", f"partition {name}", found)


def minutes_of(limit: str) -> float:
    """Minutes of a time as SLURM writes it: ``D-HH:MM:SS``, ``HH:MM:SS``, ``MM:SS``, ``infinite``.

    Infinity for a text that is none of them.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    days, hours, minutes, seconds = (
        (int(part or 0) for part in found.groups()) if found else 4 * [0]
    )
    return (days * 24 + hours) * 60 + minutes + seconds // 60 if found else math.inf


def _accounts() -> Iterator[Finding]:
    if shutil.which("sacctmgr") is None:
        return
    words = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}"]
    answer = ask(*words, "format=account")
    names = sorted(set(answer.stdout.split()))
    if answer.returncode == 0 and names:
        yield Finding("note", "your accounts", ", ".join(names))
    else:
        yield Finding("note", "accounting", "SLURM has none here, so accounts are not checked")


def _memory_of_the_queue(settings: dict[str, Any]) -> Iterator[Finding]:
    text = ask("scontrol", "show", "config").stdout
    config = dict(re.findall(r"^(\w+)\s*= (.*)$", text, flags=re.MULTILINE))
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    interval = int(settings.get("slurm-init-seconds-before-status-checks", 40))
    if age:
        found = f"ended jobs stay in squeue for {age[0]} s, Snakemake asks every {interval} s"
        if int(age[0]) < 3 * interval:
            found += "; jobs that leave squeue in between are judged by their outputs"
        yield Finding("ok", "queue", found)
    kill = re.match(r"\d+", config.get("KillWait", ""))
    if kill and int(kill[0]) < 10:
        found = f"a job has {kill[0]} s to save its state when SLURM ends it"
        advice = "States are also saved regularly, which takes 1 % of the time"
        yield Finding("note", "KillWait", found, advice)


def _trial(settings: dict[str, Any]) -> Iterator[Finding]:
    """Run one job: which Python does a node run, and how long until its file is visible here?"""
    request = requests_of(settings)[0]
    mark = Path.cwd() / f".lunet-doctor-{os.getpid()}"
    code = "import sys, pathlib, lunet; print(sys.executable, sys.version.split()[0]); "
    code += f"pathlib.Path({str(mark)!r}).write_text('seen')"
    command = ["srun", "-Q", "-n", "1", "-t", "2", "--mem", "500"]
    command += ["-p", request.partition] if request.partition else []
    command += ["-A", request.account] if request.account else []
    try:
        mark.exists()  # as Snakemake does before a job: a file system may remember that it is not
        done = ask(*command, sys.executable, "-c", code, seconds=_JOB_SECONDS)
        ended = time.monotonic()
        if done.returncode == TIMED_OUT:
            found = f"did not finish within {_JOB_SECONDS} s, probably because the queue is full"
            yield Finding(
                "note", "a job on a node", found, "Run this again later, or with --no-job"
            )
            return
        if done.returncode:
            advice = f"The checkout and {sys.executable} must be on a file system of all nodes"
            yield Finding("problem", "a job on a node", last_line(done), advice)
            return
        yield Finding("ok", "Python on a node", done.stdout.strip())
        limit = int(settings.get("latency-wait", 5))
        while not mark.exists() and time.monotonic() - ended < 3 * limit:
            time.sleep(0.1)
        seconds = time.monotonic() - ended
        if not mark.exists():
            found = f"a file written by a node was not visible here within {3 * limit} s"
            advice = "The checkout must be on a file system that all nodes share"
            yield Finding("problem", "file system", found, advice)
        elif 2 * seconds > limit:
            found = f"a file written by a node is visible after {seconds:.0f} s"
            found += f", but latency-wait is {limit} s"
            advice = f"Set latency-wait: {max(60, round(4 * seconds))}"
            yield Finding("problem", "file system", found, advice)
        else:
            found = f"a file written by a node is visible after {seconds:.1f} s"
            found += f" (latency-wait: {limit} s)"
            yield Finding("ok", "file system", found)
    finally:
        mark.unlink(missing_ok=True)


def _some(rules: Sequence[str]) -> str:
    if "default" in rules:
        return "most rules"
    return ", ".join(rules[:4]) + (", ..." if len(rules) > 4 else "")
