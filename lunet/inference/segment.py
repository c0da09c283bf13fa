"""Segments one prepared image and brings the mask to native space."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lunet.data.geometry import Geometry
from lunet.data.resampling import to_raw
from lunet.inference.decode import Indices, postprocess
from lunet.inference.forward import predict_probabilities
from lunet.inference.settings import PredictSettings
from lunet.task import Task

_IN_MEMORY = 2**30  # bytes of probabilities that are kept in memory; more go to a scratch file


@dataclass(frozen=True)
class NativeChannels:
    """Channels of a prepared probability map, each brought to native space when it is fetched.

    ``prepared`` is (K, x, y, z), also for pictures, whose last axis is 1.
    """

    prepared: NDArray[Any]
    geometry: Geometry

    def __getitem__(self, channel: int) -> NDArray[np.floating]:
        """(\\*native); a view of the map, in its own precision, if nothing is resampled."""
        flat = self.prepared[channel].reshape(self.geometry.shape)
        if self.geometry.resamples or self.geometry.shape != self.geometry.resampled:
            flat = np.asarray(flat, np.float32)
        return to_raw(flat, self.geometry)

    def __len__(self) -> int:
        return len(self.prepared)


def segment(
    models: Sequence[nn.Module],
    image: NDArray[np.floating],
    geometry: Geometry,
    *,
    task: Task,
    settings: PredictSettings,
    device: torch.device | str = "cpu",
) -> tuple[Indices, NativeChannels]:
    """Mask and probabilities of a prepared image, in native space.

    Parameters
    ----------
    models
        One network, or several whose probabilities are averaged.
    image
        (C, x, y, z), or (C, x, y) for a picture: prepared intensities, float32.
    geometry
        The transformation of the raw volume into the prepared one.

    Returns
    -------
    uint8 class indices in the shape of the raw image, and the channels of probabilities. If the
    preparation resampled, probabilities are interpolated, not labels. Maps larger than 1 GiB are
    kept in a scratch file, in half precision.
    """
    channels = probabilities_of(
        models, image, geometry, task=task, settings=settings, device=device
    )
    return postprocess(channels, task, settings), channels


def probabilities_of(
    models: Sequence[nn.Module],
    image: NDArray[np.floating],
    geometry: Geometry,
    *,
    task: Task,
    settings: PredictSettings,
    device: torch.device | str = "cpu",
) -> NativeChannels:
    """The probabilities of :func:`segment`, without the mask."""
    volume = image if image.ndim == 4 else image[..., None]
    probabilities = _scratch((task.out_channels, *volume.shape[1:]))
    predict_probabilities(
        models, volume, probabilities, task=task, settings=settings, device=device
    )
    return NativeChannels(probabilities, geometry)


def _scratch(shape: tuple[int, ...]) -> NDArray[np.floating]:
    if 4 * int(np.prod(shape, dtype=np.int64)) <= _IN_MEMORY:
        return np.zeros(shape, np.float32)
    with tempfile.TemporaryFile() as file:  # the map keeps the nameless file alive
        return np.memmap(file, dtype=np.float16, mode="w+", shape=shape)
