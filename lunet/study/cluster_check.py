"""Whether a profile fits this SLURM cluster: asked before anything is submitted.

A wrong partition, account or GPU request fails at each submission of each rule, four attempts each.
``sbatch --test-only`` answers for the whole request in milliseconds, in SLURM's own words.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
import yte

from lunet.errors import ConfigError
from lunet.study.slurm_queue import watch_queue

PROFILE = Path("profiles/slurm")
GPU_RULES = frozenset(
    ("plan", "measure", "train", "predict", "transfer", "prune", "prune_control", "prune_predict")
)
"""Rules of the workflow that ask for a GPU."""
_JOB_SECONDS = 120


@dataclass(frozen=True)
class Finding:
    """One line of the check-up: ``state`` is ``ok``, ``note`` or ``problem``."""

    state: str
    subject: str
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Request:
    """What some rules of a profile ask SLURM for; ``rules`` is ``default`` for all the others."""

    rules: tuple[str, ...]
    partition: str
    account: str
    gpu: bool


def read_profile(profile: str | Path) -> dict[str, Any]:
    """The settings of a profile, its embedded expressions evaluated.

    Raises
    ------
    ConfigError
        If there is no such file, or it cannot be evaluated.
    """
    path = Path(profile) / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        found = yte.process_yaml(text, require_use_yte=True)
    except OSError as error:
        raise ConfigError(
            where=path, found=error.strerror or str(error), expected="a profile is needed"
        ) from None
    except (yaml.YAMLError, yte.exceptions.YteError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            where=path, found=f"cannot be read ({first})", expected="a profile is needed"
        ) from None
    if not isinstance(found, dict):
        raise ConfigError(where=path, found="is no mapping", expected="a profile is needed")
    return found


def requests_of(profile: dict[str, Any]) -> list[Request]:
    """The different requests of a profile, those of the default first.

    A rule whose partition depends on its wildcards counts with each of its partitions.
    """
    default = profile.get("default-resources") or {}
    account = str(default.get("slurm_account", ""))
    sections = {rule: {} for rule in sorted(GPU_RULES)} | (profile.get("set-resources") or {})
    asked: dict[tuple[str, bool], list[str]] = {}
    for rule, resources in ({"default": default} | sections).items():
        for partition in _names(resources.get("slurm_partition", default.get("slurm_partition"))):
            asked.setdefault((partition, rule in GPU_RULES), []).append(rule)
    return [
        Request(tuple(rules), partition, account, gpu) for (partition, gpu), rules in asked.items()
    ]


def _names(partition: Any) -> list[str]:
    """Partition names in a value of a profile: one word, or the quoted words of an expression."""
    text = str(partition or "")
    quoted = re.findall(r"'([^']+)' (?:if|$)|else '([^']+)'", text)
    return [one or other for one, other in quoted] or [text]


def refusal(request: Request) -> str:
    """SLURM's reason to refuse a request, or nothing; it is tested, not submitted."""
    command = ["sbatch", "--test-only", "-t", "10", "--mem", "500", "-n", "1"]
    command += ["-p", request.partition] if request.partition else []
    command += ["-A", request.account] if request.account else []
    command += ["--gpus", "1"] if request.gpu else []
    done = _ask(*command, "--wrap", "true")
    if done.returncode == 0:
        return ""
    found = re.findall(r"(?:error|failure): (?!.*(?:error|failure): )(.+)", done.stderr)
    return str(found[-1]).strip() if found else ""


def prepare_cluster(words: Sequence[str]) -> None:
    """At a start of Snakemake: :func:`check_at_start`, then watch the queue, where there is one."""
    check_at_start(words)
    watch_queue()


def check_at_start(words: Sequence[str]) -> None:
    """Refuse a start whose requests SLURM would refuse; ``words`` are Snakemake's arguments.

    Nothing is asked in a dry run, for another executor, or where SLURM's controller is away.

    Raises
    ------
    ConfigError
        The profile, the partition and SLURM's own words.
    """
    profile = _profile_of(words)
    if profile is None or {"-n", "--dry-run", "--dryrun"} & set(words):
        return
    settings = read_profile(profile)
    if settings.get("executor") != "slurm" or shutil.which("sbatch") is None:
        return
    for request in requests_of(settings):
        reason = refusal(request)
        if reason and not _is_passing(reason):
            raise ConfigError(
                where=Path(profile) / "config.yaml",
                found=f"SLURM refuses the jobs of {_some(request.rules)} on partition "
                f"{request.partition!r} with account {request.account!r}: {reason}",
                expected="",
                action="Edit the profile's first lines or set LUNET_*; `lunet doctor --profile "
                f"{profile}`"
                " shows what the cluster has",
            )


def _profile_of(words: Sequence[str]) -> str | None:
    for i, word in enumerate(words):
        if word in ("--profile", "--workflow-profile") and i + 1 < len(words):
            return words[i + 1] if Path(words[i + 1], "config.yaml").exists() else None
        if word.startswith(("--profile=", "--workflow-profile=")):
            return word.split("=", 1)[1]
    return None


def _is_passing(reason: str) -> bool:
    """Whether a refusal says nothing of the request: the controller does not answer now."""
    return bool(re.search("[Uu]nable to contact|timed out|Socket|connect", reason))


def check_up(profile: str | Path, *, job: bool = True) -> Iterator[Finding]:
    """All findings about a profile on this cluster, in the order of a reader's questions.

    Parameters
    ----------
    profile
        Folder of the profile.
    job
        Whether to run one job of a few seconds, which sees the file system and Python of a node.
    """
    settings = read_profile(profile)
    where = Path(profile) / "config.yaml"
    missing = [name for name in ("sbatch", "squeue", "scontrol") if shutil.which(name) is None]
    if missing:
        found = f"not on PATH: {', '.join(missing)}"
        yield Finding("problem", "SLURM", found, "Log in where jobs are submitted")
        return
    ping = _ask("scontrol", "ping")
    if ping.returncode:
        yield Finding("problem", "controller", _last(ping), "Try again later")
        return
    yield Finding("ok", "controller", f"answers ({_last(_ask('sbatch', '--version'))})")
    yield from _partitions()
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


def _partitions() -> Iterator[Finding]:
    rows = _ask("sinfo", "-h", "-o", "%R|%a|%l|%D|%G").stdout.split("\n")
    for row in sorted({row for row in rows if row.count("|") == 4}):
        name, state, limit, nodes, devices = row.split("|")
        gpus = "no GPU" if devices == "(null)" else devices
        yield Finding("note", f"partition {name}", f"{state}, limit {limit}, {nodes} nodes, {gpus}")


def _accounts() -> Iterator[Finding]:
    if shutil.which("sacctmgr") is None:
        return
    words = ["sacctmgr", "-n", "-P", "show", "assoc", f"user={getpass.getuser()}"]
    answer = _ask(*words, "format=account")
    names = sorted(set(answer.stdout.split()))
    if answer.returncode == 0 and names:
        yield Finding("note", "your accounts", ", ".join(names))
    else:
        yield Finding("note", "accounting", "SLURM keeps none here, so accounts are not checked")


def _memory_of_the_queue(settings: dict[str, Any]) -> Iterator[Finding]:
    text = _ask("scontrol", "show", "config").stdout
    config = dict(re.findall(r"^(\w+)\s*= (.*)$", text, flags=re.MULTILINE))
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    interval = int(settings.get("slurm-init-seconds-before-status-checks", 40))
    if age:
        found = f"ended jobs stay in squeue for {age[0]} s, Snakemake asks every {interval} s"
        if int(age[0]) < 3 * interval:
            found += "; jobs that are forgotten in between are found by their outputs"
        yield Finding("ok", "queue", found)
    kill = re.match(r"\d+", config.get("KillWait", ""))
    if kill and int(kill[0]) < 10:
        found = f"a job has {kill[0]} s to save its state when SLURM ends it"
        yield Finding("note", "KillWait", found, "States are saved before, too, at 1 % of the time")


def _trial(settings: dict[str, Any]) -> Iterator[Finding]:
    """One job: which Python a node runs, and after how many seconds its file is seen here."""
    request = requests_of(settings)[0]
    mark = Path.cwd() / f".lunet-doctor-{os.getpid()}"
    code = "import sys, pathlib, lunet; print(sys.executable, sys.version.split()[0]); "
    code += f"pathlib.Path({str(mark)!r}).write_text('seen')"
    command = ["srun", "-Q", "-n", "1", "-t", "2", "--mem", "500"]
    command += ["-p", request.partition] if request.partition else []
    command += ["-A", request.account] if request.account else []
    try:
        done = _ask(*command, sys.executable, "-c", code, seconds=_JOB_SECONDS)
        ended = time.monotonic()
        if done.returncode:
            advice = f"The checkout and {sys.executable} must be on a file system of all nodes"
            yield Finding("problem", "a job on a node", _last(done), advice)
            return
        yield Finding("ok", "Python on a node", done.stdout.strip())
        limit = int(settings.get("latency-wait", 5))
        while not mark.exists() and time.monotonic() - ended < 3 * limit:
            time.sleep(0.1)
        seconds = time.monotonic() - ended
        if not mark.exists():
            found = f"a node's file was not seen here within {3 * limit} s"
            advice = "The checkout must lie on a file system that all nodes share"
            yield Finding("problem", "file system", found, advice)
        elif 2 * seconds > limit:
            found = f"a node's file is seen here after {seconds:.0f} s, latency-wait is {limit} s"
            advice = f"Set latency-wait: {max(60, round(4 * seconds))}"
            yield Finding("problem", "file system", found, advice)
        else:
            found = f"a node's file is seen here after {seconds:.1f} s (latency-wait: {limit} s)"
            yield Finding("ok", "file system", found)
    except subprocess.TimeoutExpired:
        found = f"did not start and end within {_JOB_SECONDS} s: the queue is full"
        yield Finding("note", "a job on a node", found, "Run this again later, or with --no-job")
    finally:
        mark.unlink(missing_ok=True)


def _ask(*command: str, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {done.returncode}"


def _some(rules: Sequence[str]) -> str:
    if "default" in rules:
        return "most rules"
    return ", ".join(rules[:4]) + (", ..." if len(rules) > 4 else "")
