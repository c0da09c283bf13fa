"""Chooses the device for training, prediction and measurements."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import torch
from torch import Tensor

from lunet.errors import ConfigError


def choose_device(name: str = "auto", *, key: str = "--device") -> torch.device:
    """The requested device; ``auto`` is CUDA if there is a GPU.

    A job that was given a GPU never silently computes on the CPU.

    Parameters
    ----------
    name
        ``auto``, ``cpu``, ``cuda``, or any other name of a device that PyTorch knows.
    key
        Configuration key or argument that ``name`` comes from, for the message.

    Raises
    ------
    ConfigError
        If PyTorch sees no GPU, but CUDA is requested, or ``name`` is ``auto`` and SLURM gave a GPU.
    """
    if name not in ("auto", "cuda") and not name.startswith("cuda:"):
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda" if name == "auto" else name)
    given = os.environ.get("SLURM_JOB_GPUS") or os.environ.get("SLURM_STEP_GPUS")
    if name == "auto" and not given:
        return torch.device("cpu")
    sees = f"PyTorch {torch.__version__} sees no GPU"
    raise ConfigError(
        where=key,
        found=f"is {name!r}; SLURM gave GPU {given}, but {sees}"
        if given
        else f"is {name!r}; {sees}",
        expected="a GPU is needed",
        action=f"Install a CUDA build of torch, or allow the CPU by setting {key} to cpu",
    )


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a CPU tensor on ``device``, which a GPU makes while the CPU goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def device_facts(device: torch.device) -> dict[str, Any]:
    """What a device is and computes with; plain JSON values without the machine's name."""
    if device.type != "cuda":
        return {
            "type": device.type,
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
    about = torch.cuda.get_device_properties(device)
    return {
        "type": "cuda",
        "name": about.name,
        "capability": f"{about.major}.{about.minor}",
        "memory_bytes": about.total_memory,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
    }


def _driver() -> str | None:
    """Version of the NVIDIA driver, as its own tool reports it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.split()
    return lines[0] if answer.returncode == 0 and lines else None
