"""Intensities of one channel, by TorchIO: clip or window, then normalise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from lunet.data.settings import PreprocessSettings
from lunet.errors import ConfigError, DataError

Range = tuple[float, float]


def normalise(
    channel: NDArray[Any],
    settings: PreprocessSettings,
    *,
    inside: NDArray[np.bool_] | None = None,
    where: str = "image",
) -> NDArray[np.float32]:
    """Clip (or window) and normalise the intensities of one channel (x, y, z) or (x, y).

    ``zscore`` takes mean and standard deviation of all voxels; ``zscore_nonzero`` of those
    ``inside`` (by default: that are not zero), the others become zero; ``minmax`` maps to 0..1
    the range of the image, or the fixed window if one is set: equal Hounsfield units stay equal.

    Raises
    ------
    DataError
        If all voxels have one value, so that there is nothing to normalise by.
    """
    values = np.array(channel, dtype=np.float32, order="C")  # a copy: the raw scan stays as it is
    shape = (1, *values.shape, 1, 1)[:4]
    image = tio.ScalarImage(tensor=torch.from_numpy(values.reshape(shape)))
    if settings.normalise == "zscore_nonzero" and inside is None:
        inside = values != 0
    mask = None if inside is None else torch.from_numpy(inside.reshape(shape))
    bounds = _bounds(values, inside, settings)
    if bounds is not None:
        image = tio.Clamp(*bounds, copy=False)(image)
    for transform in _transforms(image, mask, settings, where):
        image = transform(image)
    result: NDArray[np.float32] = image.data.numpy().reshape(values.shape)
    return result


def _transforms(
    image: tio.ScalarImage,
    mask: torch.Tensor | None,
    settings: PreprocessSettings,
    where: str,
) -> list[tio.Transform]:
    """What is left to do after clipping."""
    if settings.normalise == "none":
        return []
    if settings.normalise == "minmax" and settings.window is not None:
        return [tio.RescaleIntensity((0, 1), in_min_max=settings.window, copy=False)]
    # TorchIO passes an image without contrast on with a warning
    _require_contrast(image.data if mask is None else image.data[mask], where)
    if settings.normalise == "minmax":
        return [tio.RescaleIntensity((0, 1), copy=False)]
    if mask is None:
        return [tio.ZNormalization(copy=False)]
    return [
        tio.ZNormalization(masking_method=lambda _: mask, copy=False),
        tio.Mask(masking_method=lambda _: mask, copy=False),
    ]


def _require_contrast(chosen: torch.Tensor, where: str) -> None:
    if chosen.numel() == 0 or chosen.min() == chosen.max():
        raise DataError(
            where,
            "all voxels have one value (after clipping)",
            "an image with contrast is needed",
            "Check the file, or preprocess.clip and preprocess.window",
        )


def _bounds(
    values: NDArray[np.float32], inside: NDArray[np.bool_] | None, settings: PreprocessSettings
) -> Range | None:
    """What intensities are clipped to: the fixed window, or percentiles of the voxels inside."""
    if settings.window is not None:
        low, high = settings.window
        if not low < high:
            raise ConfigError("preprocess.window", f"{settings.window}", "low < high is needed")
        return low, high
    if settings.clip is None:
        return None
    if not 0 <= settings.clip[0] < settings.clip[1] <= 100:
        raise ConfigError("preprocess.clip", f"{settings.clip}", "0 <= low < high <= 100")
    chosen = values if inside is None or not inside.any() else values[inside]
    low, high = (float(value) for value in np.percentile(chosen, settings.clip))
    return low, high
