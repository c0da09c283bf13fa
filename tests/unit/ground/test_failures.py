"""Ends are sorted: by exception, and by what SLURM says of the job."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset
import torch

from lunet.cli import main
from lunet.data.prepare import write_array
from lunet.errors import Busy, Interrupted, TrainingError, is_out_of_memory
from lunet.failures import classify


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """SLURM says a line about our job."""

    def say(line):
        path = tmp_path / "squeue"
        path.write_text(f"#!/bin/sh\necho '{line}'\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "7")

    return say


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("RUNNING 0:44 N/A", "time limit"),
        ("COMPLETING 0:00 N/A", "time limit"),
        ("COMPLETING 1-02:00:00 2026-01-01T00:00:00", "preempted"),
        ("COMPLETING 3:00:00 N/A", "cancelled or requeued"),
        ("RUNNING 1-00:00:10 N/A", "interrupted"),
        ("RUNNING UNLIMITED N/A", "interrupted"),
        ("", "interrupted"),
    ],
)
def test_why_a_training_was_asked_to_leave(squeue, line, reason):
    squeue(line)
    failure = classify(Interrupted(where="train", found="left on SIGTERM"))
    assert failure.reason == f"{reason}, resumable"
    assert failure.exit_code == 75


def test_without_slurm_it_was_somebody(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert (
        classify(Interrupted(where="train", found="left on SIGINT")).reason
        == "interrupted, resumable"
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ("out of memory on cuda with batches of 16", "out of GPU memory"),
        ("out of memory on cpu with batches of 16", "out of host memory"),
        ("the loss is NaN", "non-finite loss"),
        ("no case for train", "training failed"),
    ],
)
def test_ends_of_a_training(found, reason):
    failure = classify(
        TrainingError(where="training", found=found, expected="", action="Lower train.batch_size")
    )
    assert failure.reason == reason
    assert failure.line() == f"lunet ended: {reason}. Lower train.batch_size."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            "out of GPU memory",
        ),
        (RuntimeError("CUDA error: out of memory"), "out of GPU memory"),
        (torch.AcceleratorError("CUDA error: out of memory"), "out of GPU memory"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            "out of GPU memory",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate`"),
            "out of GPU memory",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out of GPU memory"),
        (
            RuntimeError("GET was unable to find an engine to execute this computation"),
            "out of GPU memory",
        ),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
            "out of host memory",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of host memory"),
        (RuntimeError("Failed to allocate memory for image."), "out of host memory"),
        (MemoryError(), "out of host memory"),
    ],
)
def test_a_full_memory_is_recognised_everywhere(error, reason):
    assert is_out_of_memory(error)
    assert classify(error).reason == reason
    wrapped = ValueError("out of memory")  # a text alone is no full memory
    assert not is_out_of_memory(wrapped)
    wrapped.__cause__ = error
    assert classify(wrapped).reason == reason


@pytest.mark.parametrize(
    ("text", "reason", "exit_code"),
    [
        (
            "CUDA error: all CUDA-capable devices are busy or unavailable",
            "the GPU is used by another program alone",
            75,
        ),
        (
            "CUDA error: no kernel image is available for execution on the device",
            "this build of PyTorch does not support the GPU",
            1,
        ),
        (
            "The NVIDIA driver on your system is too old (found version 11040).",
            "the driver of the GPU is older than this build of PyTorch needs",
            1,
        ),
        ("CUDA error: uncorrectable ECC error encountered", "a failing GPU", 75),
        ("CUDA error: unspecified launch failure", "a failing GPU", 75),
        ("CUDA error: unknown error", "a failing GPU", 75),
    ],
)
def test_errors_of_a_gpu_are_no_bugs(text, reason, exit_code):
    error = RuntimeError(text)
    assert not is_out_of_memory(error)
    failure = classify(error)
    assert (failure.reason, failure.exit_code) == (reason, exit_code)
    assert failure.advice


def test_another_writer():
    assert classify(Busy(where="x", found="is being written")).reason == "owned by another process"


def test_a_path_of_the_wrong_kind_is_no_bug(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path.read_text, (tmp_path / "file").mkdir, (tmp_path / "file/x").touch):
        with pytest.raises(OSError, match=r"file|directory") as told:
            wrong()
        failure = classify(told.value)
        assert failure.exit_code == 2
        assert not failure.is_bug
        assert str(tmp_path) in failure.line()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b.npy"), "full disk at a/b.npy"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "full disk (quota)"),
        (OSError(errno.EFBIG, "File too large"), "a file larger than allowed"),
        (OSError(errno.EMFILE, "Too many open files", "x"), "too many open files at x"),
        (OSError(errno.ENFILE, "Too many open files"), "too many open files on this machine"),
        (BlockingIOError(errno.EAGAIN, "try again"), "no further process or thread"),
        (OSError(errno.EIO, "Input/output error", "x"), "an error of the disk at x"),
        (OSError(errno.ESTALE, "Stale file handle"), "a network file that is gone"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of host memory"),
        (RuntimeError("can't start new thread"), "no further process or thread"),
        (RuntimeError("could not execute a primitive"), "out of host memory"),
        (RuntimeError("could not create a primitive"), "out of host memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of host"),
        (RuntimeError("std::bad_alloc"), "out of host memory"),
        (ImportError("x.so: failed to map segment from shared object"), "out of host memory"),
        (MemoryError(), "out of host memory"),
    ],
)
def test_limits_are_told_by_their_name(error, reason):
    for raised in (error, _caused(error)):
        failure = classify(raised)
        assert failure.reason.startswith(reason)
        assert not failure.is_bug
        assert failure.exit_code == 1
        assert failure.advice


def _caused(error):
    """An error of its own on top, as libraries raise it."""
    try:
        try:
            raise error
        except type(error) as cause:
            raise ValueError("something else") from cause
    except ValueError as raised:
        return raised


def test_what_is_no_limit_stays_a_bug():
    for error in (RuntimeError("shape mismatch"), ValueError("x"), OSError(errno.EBADF, "bad")):
        assert classify(error).is_bug


UNDER_LIMITS = """
import resource, sys
import numpy, torch, nibabel, torchio, lunet.data.prepare, lunet.data.layouts.decathlon
import lunet.commands.preprocess, lunet.failures
from lunet.cli import main
name, value, *words = sys.argv[1:]
value = int(value)
if name == "RLIMIT_AS":  # so much more than what is held already
    pages = int(open("/proc/self/statm").read().split()[0])
    value += pages * resource.getpagesize()
if name == "RLIMIT_NOFILE":  # so many more than are open already
    import os
    value += len(os.listdir("/proc/self/fd"))
resource.setrlimit(getattr(resource, name), (value, resource.getrlimit(getattr(resource, name))[1]))
sys.exit(main(words))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux does")
@pytest.mark.parametrize(
    ("name", "value", "size", "reason"),
    [
        ("RLIMIT_FSIZE", 2000, None, "a file larger than allowed"),
        ("RLIMIT_NOFILE", -1, None, "too many open files"),
        ("RLIMIT_AS", 200 << 20, [600, 600, 600], "out of host memory"),
    ],
)
def test_limits_of_the_system(tmp_path, name, value, size, reason):
    data = tiny_dataset.make(tmp_path / "data", cases=2)
    sections = {
        "dataset": {"name": "tiny", "path": str(data)},
        "task": {"channels": ["MRI"], "labels": {"front": 1, "back": 2}},
        "preprocess": {"size": size},
    }
    words = ["preprocess", str(data), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", UNDER_LIMITS, name, str(value), *words,
         "--settings", json.dumps(sections)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert reason in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    left = [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".part")]
    assert left == []


def at_start(name, value, *prefix):
    """`lunet list presets` in a child under a limit, with threads for two cores."""

    def limit():
        resource.setrlimit(getattr(resource, name), (value, value))

    return subprocess.run(
        [*prefix, sys.executable, "-m", "lunet", "list", "presets"],
        preexec_fn=limit, env=os.environ | {"OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux does")
@pytest.mark.parametrize("mebibytes", [200, 400, 500, 1000])
def test_too_little_address_space_to_start(mebibytes):
    """PyTorch's loader, the C++ library and OpenBLAS each abort in a way of their own."""
    done = at_start("RLIMIT_AS", mebibytes << 20)
    assert done.returncode == 1
    assert f"the address space is limited to {mebibytes} MiB (`ulimit -v`)" in done.stderr
    assert "lunet ended: out of host memory." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="limits are set as Linux does")
def test_too_few_threads_to_start():
    """OpenBLAS would interrupt the process, as Ctrl-C does."""
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core: no further thread is started")
    prefix = []
    if os.geteuid() == 0:  # the limit does not hold for root
        if shutil.which("setpriv") is None:
            pytest.skip("no setpriv to leave root")
        kept = "-all,+dac_override"  # the interpreter may lie in root's home
        caps = [f"--inh-caps={kept}", f"--ambient-caps={kept}"]
        prefix = ["setpriv", "--reuid", "54321", "--clear-groups", *caps]
    done = at_start("RLIMIT_NPROC", 1, *prefix)
    assert done.returncode == 1, done.stderr
    assert "lunet ended: no further process or thread. Raise the limit (`ulimit -u`)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_full_disk_says_so(order, tmp_path):
    array = np.asarray(np.arange(200_000).reshape(40, 50, 100), dtype=np.float32, order=order)
    with pytest.raises(OSError, match="No space") as caught:
        write_array(Path("/dev/full"), array)
    assert classify(caught.value).reason.startswith("full disk")
    write_array(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


@pytest.mark.parametrize("key", ["train.engine.threads", "efficiency.threads"])
def test_threads_are_bounded(key, tmp_path, capsys):
    """100,000 of them end the process with a segmentation fault."""
    words = ["train", "--preset", "unet_small_4f", "--set", f"{key}=100000", "--out", str(tmp_path)]
    assert main([*words, "--manifest", "m.json", "--splits", "s.json"]) == 2
    told = capsys.readouterr().err
    assert f"{key}: found 100000, at most 1024 is expected" in told
