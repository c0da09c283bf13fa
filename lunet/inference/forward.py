"""Probabilities of an image, whole or in tiles: networks, ensembles and test-time flips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lunet.errors import ConfigError, DataError
from lunet.inference.settings import PredictSettings
from lunet.inference.sliding_window import blend
from lunet.models.live_memory import forward_bytes
from lunet.models.single_sample import fast_single_samples
from lunet.task import Task
from lunet.training.compute.device import send

_GIB = 2**30
_SLICES = 8  # slices of a 2D task in one batch


@dataclass(frozen=True)
class WindowPlan:
    """How an image is passed to the networks: ``patch`` in voxels, or None for the whole image."""

    patch: tuple[int, ...] | None


def predict_probabilities(
    models: Sequence[nn.Module],
    image: NDArray[np.floating],
    out: NDArray[np.floating],
    *,
    task: Task,
    settings: PredictSettings,
    device: torch.device | str = "cpu",
) -> WindowPlan:
    """Fill ``out`` with probabilities: the mean over networks and test-time flips.

    Parameters
    ----------
    models
        Networks that return logits (B, K, \\*spatial), in evaluation mode, on ``device``.
    image
        (C, x, y, z) prepared intensities; may be a memory map.
    out
        (K, x, y, z) floating array or memory map to fill.
    task
        For a 2D task the image is cut into slices along z.
    settings
        Flips, tiles, overlap and memory; an image is processed whole if the estimate fits.

    Returns
    -------
    The plan that was used.

    Raises
    ------
    DataError
        If the image does not have the task's channels.
    ConfigError
        If tile or flip axes do not fit the number of dimensions.
    """
    _check(image, task, settings)
    plan = plan_forward(models, image.shape, task=task, settings=settings)
    device = torch.device(device)

    def function(batch: Tensor) -> Tensor:
        return _mean_probabilities(models, batch, task, settings.flip_axes)

    def tiles(image: NDArray[np.floating], out: NDArray[np.floating]) -> None:
        assert plan.patch is not None
        blend(
            lambda tile: function(tile[None])[0],
            image,
            out,
            patch=plan.patch,
            overlap=settings.overlap,
            device=device,
            most_bytes=settings.memory_gb * _GIB,
        )

    with fast_single_samples(models):
        if plan.patch is None:
            _whole(function, image, out, task, device)
        elif task.dimensions == 3:
            tiles(image, out)
        else:
            for z in range(image.shape[3]):
                tiles(image[..., z], out[..., z])
    return plan


def plan_forward(
    models: Sequence[nn.Module], shape: Sequence[int], *, task: Task, settings: PredictSettings
) -> WindowPlan:
    """Plan the whole image if ``settings.patch`` is unset and the live tensors fit ``memory_gb``.

    Otherwise the tile is ``settings.patch``, or the largest cube that fits with a side that is a
    multiple of 32 voxels (at least 32). ``shape`` is (C, x, y, z).
    """
    if settings.patch is not None:
        return WindowPlan(settings.patch)
    spatial = tuple(shape[1 : 1 + task.dimensions])
    batch = 1 if task.dimensions == 3 else min(_SLICES, shape[3])
    limit = settings.memory_gb * _GIB
    outputs = 3 * 4 * batch * task.out_channels  # logits, their mean and a copy, bytes a voxel
    if _needed(models, (batch, shape[0], *spatial)) + outputs * prod(spatial) <= limit:
        return WindowPlan(None)
    side = 32
    while side < max(spatial):
        larger = (1, shape[0], *(side + 32,) * task.dimensions)
        if _needed(models, larger) > limit:
            break
        side += 32
    return WindowPlan((side,) * task.dimensions)


def _needed(models: Sequence[nn.Module], shape: tuple[int, ...]) -> int:
    """Largest estimate over the networks, with half again for the kernels' scratch memory."""
    return max(int(1.5 * forward_bytes(_twin(model), shape)) for model in models)


def _twin(model: nn.Module) -> nn.Module:
    """The network to count tensors of: the model itself, or the one an ONNX file was made from."""
    twin = getattr(model, "twin", None)
    return twin if isinstance(twin, nn.Module) else model


def _check(image: NDArray[Any], task: Task, settings: PredictSettings) -> None:
    if image.ndim != 4 or image.shape[0] != len(task.channels):
        raise DataError(
            where="image",
            found=f"shape {image.shape}",
            expected=f"(channel, x, y, z) with the channels {', '.join(task.channels)} is expected",
        )
    if any(not 0 <= axis < task.dimensions for axis in settings.flip_axes):
        limit = f"axes 0 to {task.dimensions - 1} are possible"
        raise ConfigError(where="predict.flip_axes", found=str(settings.flip_axes), expected=limit)
    if settings.patch is not None and (
        len(settings.patch) != task.dimensions or min(settings.patch) < 1
    ):
        raise ConfigError(
            where="predict.patch",
            found=str(settings.patch),
            expected=f"{task.dimensions} positive sizes are expected",
        )


def _whole(
    function: Callable[[Tensor], Tensor],
    image: NDArray[np.floating],
    out: NDArray[np.floating],
    task: Task,
    device: torch.device,
) -> None:
    """The volume in one forward pass; in 2D its slices, some at a time."""

    def on_device(batch: NDArray[np.floating]) -> Tensor:
        return send(torch.from_numpy(np.require(batch, np.float32, ["C", "W"])), device)

    if task.dimensions == 3:
        out[:] = function(on_device(image[None]))[0].cpu().numpy()
        return
    for first in range(0, image.shape[3], _SLICES):
        chunk = np.moveaxis(image[..., first : first + _SLICES], 3, 0)
        found = function(on_device(chunk)).cpu().numpy()
        out[..., first : first + _SLICES] = np.moveaxis(found, 0, 3)


def _mean_probabilities(
    models: Sequence[nn.Module], x: Tensor, task: Task, flip_axes: Sequence[int]
) -> Tensor:
    """(B, C, \\*S) to (B, K, \\*S), float32: the mean over networks and all subsets of flips."""
    flips = [f for n in range(len(flip_axes) + 1) for f in combinations(flip_axes, n)]
    total, is_sigmoid = None, task.activation == "sigmoid"
    with torch.inference_mode():
        for model in models:
            for axes in flips:
                turned = [axis + 2 for axis in axes]
                logits = model(torch.flip(x, turned)).flip(turned) if axes else model(x)
                part = logits.sigmoid() if is_sigmoid else logits.softmax(dim=1)
                total = part if total is None else total + part
        assert total is not None  # there is a network and the empty flip
        return (total / (len(models) * len(flips))).float()
