"""A small real SLURM on this machine: munge, slurmctld and one slurmd per pretended node.

For continuous integration. Needs Debian's packages (installed if missing, as root); needs no
systemd, no cgroups and no GPU: nodes of the partition ``gpu`` have character devices that stand
for GPUs. Partitions: ``cpu`` (default), ``gpu``, and on the same GPU node ``urgent``, whose jobs
preempt (requeue) those of ``gpu``, and ``cheap``, whose jobs they cancel.

    python tests/workflow/slurm/cluster.py run -- COMMAND ...
    python tests/workflow/slurm/cluster.py up
    python tests/workflow/slurm/cluster.py down

A machine has one such cluster. ``run`` (and the tests) take turns: whoever comes second waits until
the first has stopped it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

STATE = Path(os.environ.get("LUNET_SLURM_STATE", "/var/lib/lunet-test-slurm"))
CONF = Path("/etc/slurm")
TURN = Path("/var/lock/lunet-test-slurm")
MARK = "# Written by lunet's test cluster; overwritten by every start."
PORT = 6817
# seconds that an ended job stays in the queue; 2 shows what happens when jobs are forgotten
MIN_JOB_AGE = int(os.environ.get("LUNET_SLURM_MIN_JOB_AGE", "300"))
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CPU_NODES, GPU_NODES, CPUS, MEMORY_MB, GPUS = ("c1",), ("g1",), 16, 200_000, 4

SLURM_CONF = """\
{mark}
ClusterName=lunettest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=slurm
SlurmdUser=root
AuthType=auth/munge
# a requeued job waits until its old credential is void: 2 minutes unless shortened
AuthInfo=cred_expire=15
CredType=cred/munge
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/spool/%n
SlurmctldPidFile={state}/run/slurmctld.pid
SlurmdPidFile={state}/run/slurmd.%n.pid
SlurmctldLogFile={state}/log/slurmctld.log
SlurmdLogFile={state}/log/slurmd.%n.log
MpiDefault=none
# no cgroups: process groups are tracked, memory is sampled and steps above their request end
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill,UsePss
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=10
JobRequeue=1
EnforcePartLimits=ALL
KillWait=30
MinJobAge={min_job_age}
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=cpu Nodes={cpu} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={gpu} MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=8
PartitionName=cheap Nodes={gpu} MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent Nodes={gpu} MaxTime=INFINITE State=UP PriorityTier=10
"""


class Unavailable(Exception):
    """The cluster cannot be had here; the text says why."""


def up() -> None:
    """Start the cluster and wait until its nodes are idle; harmless on a running one.

    Raises
    ------
    Unavailable
        No root, packages that can't be installed, or daemons that don't start (with their logs).
    """
    if os.geteuid() != 0:
        raise Unavailable("starting SLURM needs root")
    conf = CONF / "slurm.conf"
    if conf.exists() and MARK not in conf.read_text():
        raise Unavailable(f"{conf} belongs to another SLURM")
    _install()
    for name in ("run", "log", "ctld", *(f"spool/{node}" for node in CPU_NODES + GPU_NODES)):
        (STATE / name).mkdir(parents=True, exist_ok=True)
    for name in ("ctld", "run", "log"):
        shutil.chown(STATE / name, "slurm", "slurm")
    _start_munge()
    _write_configuration()
    _start("slurmctld", STATE / "run/slurmctld.pid", ["slurmctld"])
    _wait(60, lambda: _answers("scontrol", "ping"), "slurmctld does not answer")
    for node in CPU_NODES + GPU_NODES:
        start_node(node)
    _wait(120, _nodes_idle, "the nodes did not become idle")


@contextmanager
def running() -> Iterator[None]:
    """The cluster, for this process alone; one that was started by hand before stays up.

    Raises
    ------
    Unavailable
        See :func:`up`.
    """
    try:
        stream = TURN.open("w")
    except OSError as error:
        raise Unavailable(f"{TURN}: {error.strerror}") from None
    with stream:  # closed at exec, so that the daemons do not inherit the lock
        fcntl.flock(stream, fcntl.LOCK_EX)
        before = is_up()
        try:
            up()
            yield
        finally:
            if not before:
                down()


def is_up() -> bool:
    """Whether the controller of this cluster runs."""
    return _alive(STATE / "run/slurmctld.pid", "slurmctld")


def down(*, purge: bool = True) -> None:
    """Cancel what is left, stop exactly the daemons that were started here, remove traces."""
    if is_up():
        _call("scancel", "--state=PENDING")
        _call("scancel", "--user=root")
        end = time.monotonic() + 20
        while _call("squeue", "-h").stdout.strip() and time.monotonic() < end:
            time.sleep(0.3)
    for node in CPU_NODES + GPU_NODES:
        stop_node(node)
    _stop(STATE / "run/slurmctld.pid", "slurmctld")
    _stop(STATE / "run/munged.pid", "munged")
    for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
        path = CONF / name
        if path.exists() and MARK in path.read_text():
            path.unlink()  # a configuration without a controller delays every Snakemake by 9 s
    if purge:
        shutil.rmtree(STATE, ignore_errors=True)


def start_node(node: str) -> None:
    """Start the slurmd of a node."""
    _start("slurmd", STATE / f"run/slurmd.{node}.pid", ["slurmd", "-N", node])


def stop_node(node: str) -> None:
    """Stop the slurmd of a node; its jobs' processes go on, as on a node without network."""
    _stop(STATE / f"run/slurmd.{node}.pid", "slurmd")


@contextmanager
def controller_away() -> Iterator[None]:
    """Stop slurmctld for the block, then start it again on its saved state."""
    _stop(STATE / "run/slurmctld.pid", "slurmctld")
    try:
        yield
    finally:
        _start("slurmctld", STATE / "run/slurmctld.pid", ["slurmctld"])
        _wait(60, lambda: _answers("scontrol", "ping"), "slurmctld does not answer")


def _install() -> None:
    query = ["dpkg-query", "-W", "-f=${db:Status-Status}\n", *PACKAGES]
    if shutil.which("dpkg-query") is None:
        raise Unavailable("this is not a Debian system")
    states = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    if states == ["installed"] * len(PACKAGES):
        return
    policy = Path("/usr/sbin/policy-rc.d")  # keeps the packages from starting services
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
        ):
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False
            )
            if done.returncode != 0:
                raise Unavailable(f"{' '.join(command[:2])}: {done.stderr.strip()[-300:]}")
    finally:
        if made:
            policy.unlink()


def _start_munge() -> None:
    if _munge_answers():
        return
    key = Path("/etc/munge/munge.key")
    if not key.exists() or not key.stat().st_size:
        key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (key, key.parent):
            shutil.chown(path, "munge", "munge")
    run = Path("/run/munge")
    run.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.chown(run, "munge", "munge")
    user = ["setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups"]
    subprocess.run(
        [*user, "/usr/sbin/munged", "--pid-file=/run/munge/munged.pid", "--origin=127.0.0.1"],
        check=True,
    )
    _wait(30, _munge_answers, "munged does not answer")
    shutil.copy("/run/munge/munged.pid", STATE / "run/munged.pid")


def _munge_answers() -> bool:
    if shutil.which("munge") is None:
        return False
    done = subprocess.run("munge -n | unmunge", shell=True, capture_output=True, check=False)
    return done.returncode == 0


def _write_configuration() -> None:
    devices = [STATE / f"run/gpu{i}" for i in range(GPUS)]
    for device in devices:
        if not device.exists():
            os.mknod(device, 0o020666, os.makedev(1, 3))  # behaves like /dev/null
    lines = []
    for i, node in enumerate(CPU_NODES + GPU_NODES):
        gres = f" Gres=gpu:{GPUS}" if node in GPU_NODES else ""
        lines.append(
            f"NodeName={node} NodeHostname={socket.gethostname().split('.')[0]} "
            f"NodeAddr=127.0.0.1 Port={PORT + 101 + i} CPUs={CPUS} RealMemory={MEMORY_MB}{gres} "
            "State=UNKNOWN"
        )
    CONF.mkdir(exist_ok=True)
    (CONF / "slurm.conf").write_text(
        SLURM_CONF.format(
            mark=MARK,
            min_job_age=MIN_JOB_AGE,
            host=socket.gethostname().split(".")[0],
            port=PORT,
            state=STATE,
            nodes="\n".join(lines),
            cpu=",".join(CPU_NODES),
            gpu=",".join(GPU_NODES),
        )
    )
    files = ",".join(map(str, devices))
    rows = [f"NodeName={node} Name=gpu Count={GPUS} File={files}" for node in GPU_NODES]
    (CONF / "gres.conf").write_text("\n".join([MARK, "AutoDetect=off", *rows, ""]))
    version = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True).stdout
    # slurmd loads a cgroup plugin even if nothing uses it; old versions know no `disabled`
    plugin = "cgroup/v1" if version.split()[1] < "23.11" else "disabled"
    (CONF / "cgroup.conf").write_text(f"{MARK}\nCgroupPlugin={plugin}\n")


def _start(name: str, pid_file: Path, command: list[str]) -> None:
    if not _alive(pid_file, name):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unavailable(f"{name} does not start: {done.stderr.strip()}\n{_logs()}")


def _stop(pid_file: Path, name: str) -> None:
    if _alive(pid_file, name):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 20
        while _alive(pid_file, name):
            if time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
    pid_file.unlink(missing_ok=True)


def _alive(pid_file: Path, name: str) -> bool:
    """Whether the process of a PID file lives, is no zombie, and is the program of that name."""
    try:
        pid = int(pid_file.read_text())
        words = Path(f"/proc/{pid}/stat").read_text().split()
    except (FileNotFoundError, ValueError):
        return False
    return words[1] == f"({name})" and words[2] != "Z"


def _nodes_idle() -> bool:
    states = set(_call("sinfo", "-h", "-N", "-o", "%t").stdout.split())
    return bool(states) and states <= {"idle", "mix", "alloc", "comp"}


def _answers(*command: str) -> bool:
    return _call(*command).returncode == 0


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["timeout", "10", *command], capture_output=True, text=True, check=False)


def _wait(seconds: float, ready: Callable[[], bool], complaint: str) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise Unavailable(f"{complaint} within {seconds:g} s\n{_logs()}")
        time.sleep(0.2)


def _logs() -> str:
    tails = []
    for path in sorted((STATE / "log").glob("*.log")):
        tails += [f"==> {path}", *path.read_text(errors="replace").splitlines()[-15:]]
    return "\n".join(tails)


def main() -> int:
    """``run``, ``up`` or ``down``; exit code 77, as for skips, where there can be no cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "up", "down"))
    parser.add_argument("command", nargs="*", help="with run: what to run on the cluster")
    arguments = parser.parse_args()
    if arguments.what == "down":
        down()
        return 0
    try:
        if arguments.what == "run":
            with running():
                return subprocess.run(arguments.command, check=False).returncode
        up()
    except Unavailable as error:
        print(f"no SLURM here: {error}", file=sys.stderr)
        return 77
    print(_call("sinfo", "-N", "-o", "%N %P %t %c %m %G").stdout, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
