"""One writer per output, also on a network file system.

A lock is a folder of numbered files; the file with the highest number belongs to the owner. Files
are created exclusively, so only one of two processes gets a number, and a process that judged an
owner dead cannot displace a newer owner. A living owner renews the time of its file (its
heartbeat). An owner is dead if its process on this host or its SLURM job is gone, or if its
heartbeat has stopped. An owner that was replaced while its heartbeat had stopped (because it was
suspended, for example) exits at its next heartbeat. A second process is refused at once.

Where a second process should wait for the first, for example because both need a download, a plain
lock file is enough (:func:`exclusive`). It cannot replace the numbered files: it does not record
who holds it, and on a network file system the lock of a dead machine may remain.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lunet.errors import Busy, DataError
from lunet.reading import read_record

HEARTBEAT = 10.0
"""Seconds between two heartbeats of an owner."""
SILENCE = 90.0
"""Seconds without a heartbeat after which an owner on another host is considered dead."""
_LOOK = 2.0
_POLL = 0.2


@dataclass(frozen=True)
class Owner:
    """The process that holds, or held, an output."""

    token: str
    host: str
    pid: int
    process_start: str
    slurm_job: str

    def describe(self) -> str:
        """SLURM job (if any), process and host, for messages."""
        job = f"SLURM job {self.slurm_job}, " if self.slurm_job else ""
        return f"{job}process {self.pid} on {self.host.split()[0]}"


@dataclass(frozen=True)
class Held:
    """A lock that this process holds."""

    path: Path
    owner: Owner

    def confirm(self) -> None:
        """Check, before results are written, that no other process has taken over.

        Raises
        ------
        Busy
            If another owner judged this one dead (after a long suspension, for example).
        """
        newest = _newest(self.path.parent)
        if newest != self.path:
            owner = read_owner(newest) if newest is not None else None
            who = owner.describe() if owner else "another owner"
            raise Busy(
                where=self.path.parent,
                found=f"was taken over by {who}",
                expected="one writer at a time",
            )


@contextmanager
def owned(output: str | Path, *, heartbeat: float = HEARTBEAT) -> Iterator[Held]:
    """Hold the lock of an output file or folder during a ``with`` block.

    The lock is the hidden folder ``.<name>.lock`` next to ``output``.

    Raises
    ------
    Busy
        If a living owner holds the output.
    """
    target = Path(output)
    folder = target.parent / f".{target.name}.lock"
    held = acquire(folder)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(held.path, stop, heartbeat), daemon=True)
    beat.start()
    try:
        yield held
    finally:
        stop.set()
        beat.join()
        _release(held)


@contextmanager
def exclusive(
    path: str | Path, *, wait: float = 24 * 3600.0, log: Callable[[str], None] = print
) -> Iterator[None]:
    """Hold the lock file ``path`` (made if needed, kept afterwards); a second process waits.

    The operating system frees the lock of a dead process.

    Raises
    ------
    Busy
        If another living process holds it for longer than ``wait`` seconds.
    """
    from filelock import FileLock, Timeout  # most steps need no such lock

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log(f"another process works on this ({path}); waiting for it")
        try:
            lock.acquire(timeout=wait, poll_interval=_POLL)
        except Timeout as error:
            expected = f"waited {wait:g} s for it"
            raise Busy(
                where=path,
                found="is held by another process",
                expected=expected,
                action="Try later",
            ) from error
    try:
        yield
    finally:
        lock.release()


def acquire(folder: Path) -> Held:
    """Become the owner; take over from a dead owner.

    If only a missing heartbeat can show that the owner is dead, this waits up to ``SILENCE``
    seconds.

    Raises
    ------
    Busy
        If a living owner holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mine = myself()
    while True:
        newest = _newest(folder)
        if newest is not None and not _found_dead(newest):
            owner = read_owner(newest)
            who = owner.describe() if owner else "an owner that is just starting"
            raise Busy(
                where=folder.parent / folder.name.removeprefix(".").removesuffix(".lock"),
                found=f"is being written by {who}",
                expected="one writer at a time",
                action="Wait for it, or end it (`lunet recover` lists left-over jobs)",
            )
        number = int(newest.stem) + 1 if newest is not None else 1
        path = folder / f"{number:06d}.json"
        if _create(path, mine) and _follows(path, newest):
            for old in folder.glob("*.json"):
                if int(old.stem) < number:
                    old.unlink(missing_ok=True)
            return Held(path, mine)
        folder.mkdir(parents=True, exist_ok=True)


def read_owner(path: Path) -> Owner | None:
    """The owner that a lock file names; None while the file is being written."""
    try:
        return read_record(path, Owner)
    except DataError:
        return None


def is_alive(path: Path) -> bool:
    """Whether the owner of a lock file is alive."""
    owner = read_owner(path)
    if owner is None:
        return _silent_for(path) < SILENCE
    if owner.host == host_name():
        return process_start(owner.pid) == owner.process_start
    if owner.slurm_job and _slurm_says_gone(owner.slurm_job):
        return False
    return _silent_for(path) < SILENCE


def living_owner(output: str | Path) -> Owner | None:
    """The living process that holds the lock of ``output``, if it is known."""
    target = Path(output)
    newest = _newest(target.parent / f".{target.name}.lock")
    return read_owner(newest) if newest is not None and is_alive(newest) else None


def is_held(output: str | Path) -> bool:
    """Whether a living process seems to hold the lock of ``output``; for display only.

    This only reads: an owner on another host is taken for alive as long as its heartbeat is younger
    than ``SILENCE`` by the clock of this host.
    """
    target = Path(output)
    newest = _newest(target.parent / f".{target.name}.lock")
    owner = read_owner(newest) if newest is not None else None
    if newest is None or owner is None:
        return newest is not None
    if owner.host == host_name():
        return process_start(owner.pid) == owner.process_start
    return time.time() - _last_sign(newest) < SILENCE


def _found_dead(path: Path) -> bool:
    """Whether an owner is dead; for an owner on another host this waits for a heartbeat.

    If the time of its file lies in the future (the clock was wrong), only the time spent waiting
    here counts.
    """
    owner = read_owner(path)
    first, since = _last_sign(path), time.monotonic()
    while is_alive(path):
        if (owner and owner.host == host_name()) or _last_sign(path) != first:
            return False
        if time.monotonic() - since > SILENCE:
            print(
                f"warning: {path}: its time lies {-_silent_for(path):.0f} s in the future, and it "
                f"has had no heartbeat for {SILENCE:g} s: its owner is considered dead",
                flush=True,
            )
            return True
        time.sleep(_LOOK)
    return True


def _last_sign(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _newest(folder: Path) -> Path | None:
    return max(folder.glob("[0-9]*.json"), key=lambda path: int(path.stem), default=None)


def _follows(path: Path, dead: Path | None) -> bool:
    """Whether no other owner has appeared since ``dead`` was judged dead.

    A lock that was released and taken again restarts at 1; in that case we withdraw.
    """
    others = {other for other in path.parent.glob("[0-9]*.json") if other != path}
    if others <= ({dead} if dead is not None else set()):
        return True
    path.unlink(missing_ok=True)
    return False


def _create(path: Path, owner: Owner) -> bool:
    """Create a lock file with its content; False if the number is taken or the folder is gone.

    A hard link to a finished file is exclusive and complete at once, also on NFS; an exclusive open
    would show an empty file for a moment.
    """
    draft = path.with_name(f".{owner.token}")
    try:
        draft.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        os.link(draft, path)
    except (FileExistsError, FileNotFoundError):
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _release(held: Held) -> None:
    """Remove the lock; rename its folder first, so that no process takes a lock in it meanwhile."""
    folder = held.path.parent
    if _newest(folder) == held.path:
        grave = folder.with_name(f"{folder.name}-{held.owner.token}")
        folder.rename(grave)
        shutil.rmtree(grave)


def _beat(path: Path, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        try:
            os.utime(path)
        except FileNotFoundError:
            print(f"error: {path.parent}: another process has taken over; this process exits.")
            sys.stdout.flush()
            os._exit(Busy.exit_code)  # nothing may be written any more, not even by a clean-up
        except OSError as error:
            # the file system is unavailable or read-only; others notice the missing heartbeat
            print(f"warning: {path}: the lock could not be renewed ({error})", flush=True)


def _silent_for(path: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the file system."""
    probe = path.with_name(f".now-{uuid.uuid4().hex}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
    finally:
        probe.unlink(missing_ok=True)


def myself() -> Owner:
    """This process, as the owner of a lock."""
    pid = os.getpid()
    job = os.environ.get("SLURM_JOB_ID", "")
    return Owner(uuid.uuid4().hex, host_name(), pid, process_start(pid) or "", job)


def host_name() -> str:
    """Host name and process namespace, if there is one: process ids are unique only within both."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def process_start(pid: int) -> str | None:
    """When a process of this host started, which tells apart processes that reuse an id.

    None if there is no such process. The time is read from ``/proc``; on systems without it only
    the existence of the process is known.
    """
    if os.path.isdir("/proc/self"):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
                fields = stream.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, start = fields[0], fields[19]
        return None if state in "ZX" else start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "exists"
    return "exists"


def _slurm_says_gone(job: str) -> bool:
    """Whether SLURM knows for certain that a job no longer runs."""
    if shutil.which("squeue") is None:
        return False
    command = ["squeue", "-h", "-j", job, "-o", "%T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    if answer.returncode != 0:
        return "Invalid job id" in answer.stderr
    states = set(answer.stdout.split())
    return not states & {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "CONFIGURING"}
