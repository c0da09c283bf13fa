"""Networks whose output is known beforehand, and small trained-looking runs, for tests."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lunet.data.settings import PreprocessSettings
from lunet.inference.description import Description
from lunet.models.build import build_for_task
from lunet.settings import plain
from lunet.task import Task
from lunet.training.weights import save_weights

BINARY = Task(channels=("MRI",), labels={"bright": 1})
THREE = Task(channels=("MRI",), labels={"bright": 1, "brightest": 2})
UNET = {
    "preset": "tiny",
    "module": "unet",
    "name": "UNet",
    "arguments": {"widths": [2, 2], "convs_per_block": 1},
}


class Brightness(nn.Module):
    """Logit ``20 (x - threshold)`` per threshold: a voxel is on where it is brighter."""

    def __init__(self, *thresholds: float) -> None:
        super().__init__()
        self.thresholds = nn.Parameter(torch.tensor(thresholds))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, *S) to (B, K, *S)."""
        shape = (1, -1, *[1] * (x.ndim - 2))
        return 20 * (x - self.thresholds.reshape(shape))


class Smoothing(nn.Module):
    """A 5-voxel mean as logit: it sees neighbours, so tiles matter at their borders."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, *S) to (B, 1, *S)."""
        pool = nn.functional.avg_pool3d
        return pool(x, 5, stride=1, padding=2, count_include_pad=False)


def described(model: nn.Module, task: Task, **preprocess: object) -> nn.Module:
    """``model`` with the description that :func:`lunet.load_model` would attach."""
    settings = plain(PreprocessSettings(clip=None, normalise="none")) | preprocess
    model.lunet = Description(task, settings, {"preset": "test", "module": "", "name": ""})
    return model.eval()


def save_run(folder: Path, task: Task = BINARY, *, seed: int = 0) -> nn.Module:
    """A run folder with the weights of a small U-Net; returns the network."""
    torch.manual_seed(seed)
    description = Description(task, plain(PreprocessSettings()), UNET, {"epoch": 3, "fold": 0})
    model = build_for_task(description.model, description.task).eval()
    save_weights(folder / "weights.safetensors", model, description.as_dict())
    return model
