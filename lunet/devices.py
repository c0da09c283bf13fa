"""A GPU for each job: by locks on a shared machine, by SLURM's choice under SLURM."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lunet.errors import ConfigError, LunetError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
SHARE = "LUNET_RUNS_PER_GPU"
"""Environment variable: how many jobs may share one GPU (the configuration's ``runs_per_gpu``)."""


@contextmanager
def claimed_gpu(device: str) -> Iterator[str | None]:
    """Hold a GPU of this machine for the length of a ``with`` block; call it before torch starts.

    Parameters
    ----------
    device
        ``cpu`` claims nothing; ``auto`` and ``cuda`` wait for a free GPU, if there is any.

    Yields
    ------
    str or None
        The GPU's number, which is then the only one in ``CUDA_VISIBLE_DEVICES``; None where
        nothing had to be claimed: no GPU, or a device chosen by SLURM.
    """
    gpus = _gpus()
    if device == "cpu" or not gpus or "SLURM_JOB_ID" in os.environ:
        yield None
        return
    before = os.environ.get(_VISIBLE)
    with contextlib.ExitStack() as held:
        gpu = _first_free(gpus, held)
        os.environ[_VISIBLE] = gpu
        try:
            yield gpu
        finally:
            if before is None:
                del os.environ[_VISIBLE]
            else:
                os.environ[_VISIBLE] = before


def share_gpus(runs: int) -> None:
    """Let so many jobs of this process, and of those that it starts, share one GPU.

    Through the environment and not through a rule's settings, since it changes no result.
    """
    os.environ[SHARE] = str(runs)


def runs_per_gpu() -> int:
    """How many jobs may share one GPU; 1 unless the study says otherwise."""
    text = os.environ.get(SHARE, "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            where=SHARE, found=f"found {text!r}", expected="a whole number from 1 is expected"
        )
    return int(text)


def _gpus() -> list[str]:
    """GPUs that this process may use, without starting CUDA."""
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        return [number.strip() for number in visible.split(",") if number.strip()]
    if shutil.which("nvidia-smi") is None:
        files = sorted(Path("/dev").glob("nvidia[0-9]"))
        return [path.name.removeprefix("nvidia") for path in files]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return answer.stdout.split() if answer.returncode == 0 else []


def _first_free(gpus: list[str], held: contextlib.ExitStack) -> str:
    is_announced = False
    while True:
        for slot in range(runs_per_gpu()):
            for gpu in gpus:
                if _lock(gpu, slot, held):
                    return gpu
        if not is_announced:
            print(f"waiting for a free GPU of {', '.join(gpus)}", file=sys.stderr, flush=True)
            is_announced = True
        time.sleep(1.0)


def _lock(gpu: str, slot: int, held: contextlib.ExitStack) -> bool:
    """Take one place on a GPU; the operating system gives it back when the process ends."""
    # straight in the folder that everybody may write to: a folder of the first user's own would
    # shut the next user out
    path = Path(tempfile.gettempdir(), f"lunet-gpu-{gpu}.{slot}.lock")
    lock = FileLock(path, mode=0o666, blocking=False)
    try:
        held.enter_context(lock)
    except Timeout:
        return False
    except PermissionError as error:
        raise LunetError(
            where=path,
            found=f"cannot be opened ({error.strerror})",
            expected="the lock of a GPU must be open to all its users",
            action="Remove the file, or name another folder in TMPDIR",
        ) from error
    return True
