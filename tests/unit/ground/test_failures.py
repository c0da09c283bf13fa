"""Ends are sorted: by exception, and by what SLURM says of the job."""

from __future__ import annotations

import os

import pytest
import torch

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
    failure = classify(Interrupted("train", "left on SIGTERM"))
    assert failure.reason == f"{reason}, resumable"
    assert failure.exit_code == 75


def test_without_slurm_it_was_somebody(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert classify(Interrupted("train", "left on SIGINT")).reason == "interrupted, resumable"


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
    failure = classify(TrainingError("training", found, "", "Lower train.batch_size"))
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


def test_another_writer():
    assert classify(Busy("x", "is being written")).reason == "owned by another process"


def test_a_path_of_the_wrong_kind_is_no_bug(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (tmp_path.read_text, (tmp_path / "file").mkdir, (tmp_path / "file/x").touch):
        with pytest.raises(OSError, match=r"file|directory") as told:
            wrong()
        failure = classify(told.value)
        assert failure.exit_code == 2
        assert not failure.is_bug
        assert str(tmp_path) in failure.line()
