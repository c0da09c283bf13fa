"""One writer per output: living owners are respected, dead ones replaced, by one only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from patience import patient, wait_for

from lunet import locks as lock
from lunet.errors import Busy
from lunet.locks import Owner, owned, read_owner

HOLD = """
import sys, time
from lunet.locks import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""
RACE = """
import sys, time
from lunet.errors import Busy
from lunet.locks import owned
time.sleep(max(float(sys.argv[2]) - time.time(), 0))
try:
    with owned(sys.argv[1]):
        print("won", flush=True)
        sys.stdin.read()
except Busy:
    print("lost", flush=True)
"""


def start(code, *words):
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    process = start(HOLD, str(tmp_path / "out"))
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_living_owner_is_respected(tmp_path, holder):
    with pytest.raises(Busy, match=f"process {holder.pid}"), owned(tmp_path / "out"):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_dead_owner_is_replaced(tmp_path, holder, how):
    holder.send_signal(how)
    holder.wait()
    with owned(tmp_path / "out"):
        pass


def test_a_suspended_owner_is_alive(tmp_path, holder):
    holder.send_signal(signal.SIGSTOP)
    with pytest.raises(Busy), owned(tmp_path / "out"):
        pass


def test_of_many_starters_one_wins(tmp_path, holder):
    holder.kill()
    holder.wait()
    begin = str(time.time() + 1.0)
    starters = [start(RACE, str(tmp_path / "out"), begin) for _ in range(6)]
    words = [process.stdout.readline().strip() for process in starters]
    for process in starters:
        process.communicate()  # closes the input that the winner waits for
    assert words.count("won") == 1, words
    assert words.count("lost") == 5, words


def test_a_released_lock_is_free(tmp_path):
    for _ in range(3):
        with owned(tmp_path / "out"):
            pass
    assert not list(tmp_path.iterdir())


def foreign(folder, silent, job=""):
    """A lock file of an owner on another host that was last heard of so many seconds ago."""
    folder.mkdir()
    path = folder / "000007.json"
    owner = Owner("t", "elsewhere", 1, "1", job)
    path.write_text(json.dumps(owner.__dict__))
    moment = time.time() - silent
    os.utime(path, (moment, moment))
    return path


def test_an_owner_elsewhere_is_awaited_until_its_silence_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SILENCE", 1.0)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    foreign(tmp_path / ".a.lock", silent=0.5)
    with owned(tmp_path / "a") as held:
        assert held.path.name == "000008.json"


def test_a_lock_from_the_future_is_told_and_ends(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lock, "SILENCE", 0.5)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    foreign(tmp_path / ".a.lock", silent=-86400.0)
    with owned(tmp_path / "a") as held:
        assert held.path.name == "000008.json"
    assert "s in the future" in capsys.readouterr().out


def test_a_sign_of_life_from_elsewhere_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SILENCE", 5.0)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    path = foreign(tmp_path / ".a.lock", silent=0.5)
    threading.Timer(0.3, os.utime, [path]).start()
    with pytest.raises(Busy, match="elsewhere"), owned(tmp_path / "a"):
        pass


def test_a_file_system_that_is_away_ends_nobody(tmp_path, monkeypatch, capsys):
    failed = threading.Event()

    def fail(_path):
        failed.set()
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(lock.os, "utime", fail)
    with owned(tmp_path / "out", heartbeat=0.05) as held:
        assert failed.wait(30)
        time.sleep(0.2)
        held.confirm()
    assert "could not be renewed" in capsys.readouterr().out


def test_an_owner_whose_slurm_job_ended_is_dead(tmp_path, monkeypatch):
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text(
        "#!/bin/sh\necho 'slurm_load_jobs error: Invalid job id specified' >&2\nexit 1\n"
    )
    squeue.chmod(0o755)
    foreign(tmp_path / ".a.lock", silent=0, job="12")
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    with owned(tmp_path / "a"):
        pass


def test_a_replaced_owner_ends_itself(tmp_path):
    code = HOLD.replace("owned(sys.argv[1])", "owned(sys.argv[1], heartbeat=0.2)")
    process = start(code, str(tmp_path / "out"))
    assert process.stdout.readline() == "held\n"
    mine = tmp_path / ".out.lock/000001.json"
    mine.rename(mine.with_name("000002.json"))
    assert "taken over" in process.communicate(timeout=patient(5))[0]
    assert process.returncode == Busy.exit_code


def test_an_owner_confirms_that_it_still_is(tmp_path):
    with owned(tmp_path / "out") as held:
        held.confirm()
        other = held.path.with_name("000002.json")
        other.write_text(json.dumps(Owner("t", "elsewhere", 1, "1", "").__dict__))
        with pytest.raises(Busy, match="taken over by process 1 on elsewhere"):
            held.confirm()


def test_the_heartbeat_renews_the_file(tmp_path):
    with owned(tmp_path / "out", heartbeat=0.05) as held:
        os.utime(held.path, (0, 0))
        wait_for("a heartbeat", lambda: held.path.stat().st_mtime > 0)


def test_a_half_written_owner_is_given_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "SILENCE", 0.5)
    monkeypatch.setattr(lock, "_LOOK", 0.1)
    folder = tmp_path / ".out.lock"
    folder.mkdir()
    (folder / "000001.json").write_text("{")
    assert read_owner(folder / "000001.json") is None
    with owned(tmp_path / "out") as held:
        assert held.path.name == "000002.json"
