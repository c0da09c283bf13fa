"""The command line: what it lists, how mistakes and failures end."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from lunet import cli
from lunet.errors import DataError, TrainingError
from lunet.failures import classify


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "lunet", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("step", cli.STEPS)
def test_every_step_explains_itself_with_an_example(step, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([step, "--help"])
    assert ended.value.code == 0
    assert f"lunet {step}" in capsys.readouterr().out.split("options:")[0].split("usage:")[1]


def test_help_is_quick_and_imports_nothing_heavy():
    code = "import sys; from lunet.cli import main; main(['--help']);"
    code += "print([m for m in ('torch', 'numpy', 'pandas', 'yaml') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")


def test_an_unknown_step_names_the_nearest():
    done = run("trian")
    assert done.returncode == 2
    assert "did you mean 'train'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_bad_input_is_one_line_and_exit_2(tmp_path):
    done = run("train", "--config", str(tmp_path / "none.yaml"), "--preset", "lunet_small_1f")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m lunet list recipes | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch names its own."""


@pytest.mark.parametrize(
    ("error", "reason", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "full disk at /x/y", 1),
        (OSError(errno.EROFS, "Read-only file system"), "read-only file system", 1),
        (MemoryError(), "out of host memory", 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "host memory", 1),
        (OutOfMemoryError("CUDA out of memory"), "out of GPU memory", 1),
        (DataError(where="a", found="b"), "bad data", 2),
        (TrainingError(where="a", found="b"), "training failed", 3),
        (ValueError("x"), "bug (ValueError: x)", 1),
    ],
)
def test_ends_are_sorted(error, reason, code):
    failure = classify(error)
    assert reason in failure.line()
    assert failure.exit_code == code


def test_a_cause_within_another_error_is_found():
    error = ValueError("could not write")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert "full disk" in classify(error).reason


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_in_plain_words(monkeypatch, capsys):
    from lunet.commands import schema

    def write(_):
        with open("/dev/full", "w") as stream:
            stream.write("x")

    monkeypatch.setattr(schema, "run", write)
    assert cli.main(["schema", "--out", "x.json"]) == 1
    assert "full disk" in capsys.readouterr().err.splitlines()[-1]
