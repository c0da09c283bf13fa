"""One GPU per job: claimed with locks on a shared machine, assigned by SLURM on a cluster."""

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

from lunet.errors import ConfigError, LunetError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
SHARE = "LUNET_RUNS_PER_GPU"
"""Environment variable: how many jobs may share one GPU (the configuration's ``runs_per_gpu``)."""


@contextmanager
def claimed_gpu(device: str) -> Iterator[str | None]:
    """Hold a GPU of this machine during a ``with`` block; enter it before CUDA starts.

    Parameters
    ----------
    device
        ``cpu`` claims nothing; ``auto`` and ``cuda`` wait for a free GPU if the machine has any.

    Yields
    ------
    str or None
        The GPU's number, which is the only one in ``CUDA_VISIBLE_DEVICES`` during the block; None
        if nothing had to be claimed: there is no GPU, or SLURM has assigned exactly one.
    """
    gpus = _gpus()
    is_assigned = "SLURM_JOB_ID" in os.environ and len(gpus) == 1
    if device == "cpu" or not gpus or is_assigned:
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
    """Let ``runs`` jobs of this process and its child processes share one GPU.

    This is an environment variable and not a setting of a rule, because it changes no result.
    """
    os.environ[SHARE] = str(runs)


def runs_per_gpu() -> int:
    """How many jobs may share one GPU; 1 unless the study sets another number."""
    text = os.environ.get(SHARE, "1")
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            where=SHARE,
            found=f"found {text!r}",
            expected="a whole number of at least 1 is expected",
        )
    return int(text)


def _gpus() -> list[str]:
    """The GPUs that this process may use, found without starting CUDA."""
    visible = os.environ.get(_VISIBLE)
    if visible is not None:
        numbers = [number.strip() for number in visible.split(",")]
        # CUDA ignores what follows a number that does not exist; SLURM writes `NoDevFiles`
        absent = (at for at, number in enumerate(numbers) if number in ("", "-1", "NoDevFiles"))
        return numbers[: next(absent, None)]
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
            print(f"waiting for a free GPU (of {', '.join(gpus)})", file=sys.stderr, flush=True)
            is_announced = True
        time.sleep(1.0)


def _lock(gpu: str, slot: int, held: contextlib.ExitStack) -> bool:
    """Take one slot of a GPU; the operating system frees it when the process ends."""
    from filelock import FileLock, Timeout  # not where there is no GPU

    # directly in the shared temporary folder: a subfolder would belong to the first user and keep
    # everybody else out
    # each job of SLURM counts its own GPUs from 0
    job = os.environ.get("SLURM_JOB_ID")
    name = f"lunet-gpu-{job}-{gpu}" if job else f"lunet-gpu-{gpu}"
    path = Path(tempfile.gettempdir(), f"{name}.{slot}.lock")
    lock = FileLock(path, mode=0o666, blocking=False)
    try:
        held.enter_context(lock)
    except Timeout:
        return False
    except PermissionError as error:
        raise LunetError(
            where=path,
            found=f"cannot be opened ({error.strerror})",
            expected="all users of a GPU must be able to open its lock",
            action="Remove the file, or name another folder in TMPDIR",
        ) from error
    return True
