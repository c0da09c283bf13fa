"""Recovery after a crash: which jobs are ours, and when nothing may be touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from lunet.errors import Busy, ConfigError, LunetError
from lunet.files import write_json
from lunet.locks import SILENCE, myself, owned
from lunet.study.recover import ClusterJob, left_over, queue_of, recover, resumable


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A queue that is a text file; cancelling empties it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in {
        "squeue": f"cat {tmp_path}/queue 2>/dev/null",
        "scancel": f'echo "$@" > {tmp_path}/cancelled; : > {tmp_path}/queue',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile/config.yaml").write_text("slurm-jobname-prefix: lunet\n")

    def fill(*rows):
        (tmp_path / "queue").write_text("".join(f"{row}\n" for row in rows))

    return fill


def test_only_jobs_of_this_checkout_and_prefix_are_ours(queue, tmp_path):
    queue(
        f"1|lunet_a|RUNNING|{tmp_path}|rule_train",
        "2|lunet_b|RUNNING|/elsewhere|rule_train",
        f"3|other|PENDING|{tmp_path}|x",
    )
    assert [job.number for job in left_over(queue_of("profile"))] == ["1"]


def test_listing_leaves_jobs_and_lock_alone(queue, tmp_path, capsys):
    queue(f"1|lunet_a|RUNNING|{tmp_path}|rule_train_wildcards_x")
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert recover("list", None, "profile", "work") == 1
    assert "job 1 (RUNNING)" in capsys.readouterr().out
    assert lock.exists()


def test_cancelling_ends_them_and_unlocks(queue, tmp_path, capsys):
    queue(f"1|lunet_a|RUNNING|{tmp_path}|x", f"2|lunet_b|PENDING|{tmp_path}|y")
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    state = tmp_path / "work/s/runs/p/fold-0/seed-0/state.pt"
    for path in (lock, state):
        path.parent.mkdir(parents=True)
        path.touch()
    assert recover("cancel", None, "profile", "work") == 0
    assert (tmp_path / "cancelled").read_text() == "1 2\n"
    assert not lock.exists()
    assert "resumes: s/runs/p/fold-0/seed-0" in capsys.readouterr().out


def test_a_site_with_commands_of_its_own(queue, tmp_path, capsys):
    site = tmp_path / "profile"
    (site / "config.yaml").write_text("cluster-generic-cancel-cmd: profile/cancel.sh\n")
    (site / "cancel.sh").write_text(f'echo "$@" > {tmp_path}/cancelled; : > {tmp_path}/jobs\n')
    with pytest.raises(ConfigError, match=r"profile/queue\.sh: is missing"):
        recover("list", None, "profile", "work")
    (site / "queue.sh").write_text(f"cat {tmp_path}/jobs\n")
    rows = [f"7|lunet_a|run|{tmp_path}|a b", "8|lunet_b|run|/elsewhere|", f"9|x|run|{tmp_path}|"]
    (tmp_path / "jobs").write_text("\n".join(rows) + "\n")
    assert recover("list", None, "profile", "work") == 1
    assert "job 7 (run) a b" in capsys.readouterr().out
    assert recover("cancel", None, "profile", "work") == 0
    assert (tmp_path / "cancelled").read_text() == "7\n"


def test_a_queue_that_does_not_answer_is_told(queue, tmp_path):
    (tmp_path / "bin/squeue").write_text("#!/bin/sh\necho 'squeue: error: down' >&2; exit 1\n")
    with pytest.raises(LunetError, match="squeue: error: down"):
        recover("list", None, "profile", "work")


def test_finished_results_that_are_kept_do_not_resume(tmp_path):
    for name in ("fold-0/seed-0/finished", "fold-1/seed-0/finished"):
        (tmp_path / "s/runs/p" / name).mkdir(parents=True)
    (tmp_path / "s/runs/p/fold-1/seed-0/state.pt").touch()
    assert resumable(tmp_path) == ["resumes: s/runs/p/fold-1/seed-0"]


def test_a_living_snakemake_is_left_alone_and_a_dead_one_is_not_missed(queue, tmp_path):
    queue()
    program = "from lunet.study.running import announce; announce(); print('up', flush=True)"
    program += "; import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(Busy, match=f"process {process.pid} on"):
            recover("cancel", None, "profile", "work")
        process.kill()
    assert os.listdir(tmp_path / ".snakemake/running")
    assert recover("cancel", None, "profile", "work") == 0
    assert not os.listdir(tmp_path / ".snakemake/running")


def test_a_snakemake_on_another_host_lives_while_its_heart_beats(queue, tmp_path):
    queue(f"1|lunet_a|RUNNING|{tmp_path}|x")
    sign = tmp_path / ".snakemake/running/a.json"
    write_json(sign, asdict(replace(myself(), host="login7 pid:[1]", slurm_job="")))
    with pytest.raises(Busy, match="on login7"):
        recover("cancel", None, "profile", "work")
    long_ago = time.time() - 2 * SILENCE
    os.utime(sign, (long_ago, long_ago))
    assert recover("cancel", None, "profile", "work") == 0


def test_a_snakemake_that_ends_leaves_no_sign(tmp_path):
    program = "from lunet.study.running import announce; announce()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert not os.listdir(tmp_path / ".snakemake/running")


def test_a_step_that_still_writes_is_named_and_the_lock_stays(queue, tmp_path, capsys):
    """Without a cluster, the trainings of a killed Snakemake go on."""
    queue()
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with owned(tmp_path / "work/s/runs/p/fold-0/seed-0"):
        assert recover("list", None, "profile", "work") == 1
    assert f"s/runs/p/fold-0/seed-0 (process {os.getpid()} on" in capsys.readouterr().out
    assert lock.exists()
    assert recover("list", None, "profile", "work") == 0
    assert not lock.exists()


def test_it_is_told_that_no_queue_was_asked(queue, tmp_path, capsys):
    (tmp_path / "bin/squeue").unlink()
    if shutil.which("squeue") is None:
        assert recover("list", None, "profile", "work") == 0
        assert "squeue is not on this host" in capsys.readouterr().out


def test_a_job_that_completes_for_ever_is_not_awaited(queue, tmp_path):
    queue(f"1|lunet_a|COMPLETING|{tmp_path}|x")
    scontrol = tmp_path / "bin/scontrol"
    scontrol.write_text("#!/bin/sh\necho JobId=1 JobState=COMPLETING EndTime=2020-01-01T00:00:00\n")
    scontrol.chmod(stat.S_IRWXU)
    assert recover("wait", None, "profile", "work") == 0


def test_a_job_that_ends_while_it_is_cancelled_is_no_fault(queue, tmp_path, capsys):
    queue(f"1|lunet_a|RUNNING|{tmp_path}|x")
    refusal = "echo 'scancel: error: Kill job error on job id 1: Invalid job id' >&2; exit 1"
    (tmp_path / "bin/scancel").write_text(f"#!/bin/sh\n: > {tmp_path}/queue; {refusal}\n")
    assert recover("cancel", None, "profile", "work") == 0
    assert "Invalid job id" in capsys.readouterr().out


def test_waiting_tells_what_is_left(queue, capsys, monkeypatch):
    one, two = ClusterJob("1", "a", "RUNNING", "x"), ClusterJob("2", "b", "PENDING", "y")
    looks = iter([[one, two], [one, two], [two], [two], []])
    monkeypatch.setattr("lunet.study.recover.left_over", lambda _: next(looks))
    monkeypatch.setattr("lunet.study.recover._LOOK_SECONDS", 0)
    assert recover("wait", None, "profile", "work") == 0
    assert capsys.readouterr().out.splitlines()[2:-1] == ["1 PENDING"]


def test_a_profile_without_prefix_is_told(queue, tmp_path):
    (tmp_path / "profile/config.yaml").write_text("jobs: 1\n")
    with pytest.raises(ConfigError, match="slurm-jobname-prefix"):
        recover("list", None, "profile", "work")
