"""One job per GPU: claims, waiting, sharing, and the promise of a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest

from lunet import devices
from lunet.devices import claimed_gpu, runs_per_gpu
from lunet.errors import ConfigError

JOB = """
import sys, time
from lunet.devices import claimed_gpu
with claimed_gpu("auto") as gpu:
    print("got", gpu, time.monotonic(), flush=True)
    time.sleep(0.8)
    print("end", gpu, time.monotonic(), flush=True)
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(devices.tempfile, "tempdir", None)
    for name in ("SLURM_JOB_ID", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS", devices.SHARE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def spans(jobs):
    """(gpu, begin, end) of so many jobs started together."""
    started = [
        subprocess.Popen([sys.executable, "-c", JOB], stdout=subprocess.PIPE, text=True)
        for _ in range(jobs)
    ]
    found = []
    for process in started:
        words = process.communicate()[0].split()
        found.append((words[1], float(words[2]), float(words[5])))
    return found


def overlaps(found):
    return max(
        sum(1 for other in found if other[0] == gpu and other[1] <= begin < other[2])
        for gpu, begin, _ in found
    )


def test_never_two_on_one_gpu():
    found = spans(5)
    assert {gpu for gpu, _, _ in found} == {"0", "1"}
    assert overlaps(found) == 1


def test_sharing_up_to_the_configured_number(monkeypatch):
    monkeypatch.setenv(devices.SHARE, "2")
    assert overlaps(spans(4)) <= 2


def test_a_claim_is_visible_and_taken_back(monkeypatch):
    with claimed_gpu("auto") as gpu:
        assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == gpu == "0"
        with claimed_gpu("cpu") as nothing:
            assert nothing is None
    assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_the_gpu_that_slurm_gave_is_not_claimed(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with claimed_gpu("cuda") as gpu:
        assert gpu is None
        assert devices.os.environ["CUDA_VISIBLE_DEVICES"] == "0"


def test_runs_of_one_slurm_job_spread_over_its_gpus(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    found = spans(4)
    assert {gpu for gpu, _, _ in found} == {"0", "1"}
    assert overlaps(found) == 1


def test_jobs_of_slurm_do_not_wait_for_each_other(monkeypatch):
    """Each job counts its own GPUs from 0."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with claimed_gpu("auto") as first:
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with claimed_gpu("auto") as second:
            assert first == second == "0"


@pytest.mark.parametrize("hidden", ["-1", "NoDevFiles", "-1,0"])
def test_hidden_gpus_are_none(monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with claimed_gpu("auto") as gpu:
        assert gpu is None


def test_the_lock_of_a_gpu_is_open_to_every_user(tmp_path):
    """Whatever the first user's umask is; the next one must be able to wait for the GPU."""
    before = os.umask(0o077)
    try:
        with claimed_gpu("auto"):
            pass
    finally:
        os.umask(before)
    locks = list(tmp_path.iterdir())
    assert [oct(path.stat().st_mode & 0o777) for path in locks] == [oct(0o666)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_second_user_waits_for_the_first_and_then_has_the_gpu(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o1777)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(devices.tempfile, "tempdir", None)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
        # what is imported later may be in a folder that the other user cannot read
        change = "import filelock, os; os.setuid(65534)\nwith claimed"
        as_another = JOB.replace("with claimed", change, 1)
        with claimed_gpu("auto"):
            second = subprocess.Popen(
                [sys.executable, "-c", as_another],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert "waiting for a free GPU" in second.stderr.readline()
        out, errors = second.communicate(timeout=60)
        assert "got 0" in out, errors


def test_no_gpu_means_no_claim(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with claimed_gpu("auto") as gpu:
        assert gpu is None


@pytest.mark.parametrize("value", ["0", "two", "-1"])
def test_a_wrong_share_is_told(monkeypatch, value):
    monkeypatch.setenv(devices.SHARE, value)
    with pytest.raises(ConfigError, match=devices.SHARE):
        runs_per_gpu()
