"""Intensities of one channel: clip or window, then normalise."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lunet.data.settings import PreprocessSettings
from lunet.errors import ConfigError, DataError

Range = tuple[float, float]


class NoContrast(DataError):
    """All voxels of an image have one value."""


def normalise_in_place(
    values: NDArray[np.float32],
    settings: PreprocessSettings,
    *,
    inside: NDArray[np.bool_] | None = None,
    where: str = "image",
) -> None:
    """Clip (or window) and normalise the intensities of one channel (x, y, z) or (x, y), in place.

    ``zscore`` uses the mean and standard deviation of all voxels. ``zscore_nonzero`` uses only the
    voxels ``inside`` (by default the nonzero ones) and sets the others to zero. ``minmax`` maps the
    range of the image to 0..1, or the fixed window if one is set, so that equal Hounsfield units
    stay equal.

    TorchIO's ``Clamp``, ``ZNormalization`` and ``RescaleIntensity`` do the same but need up to
    five copies of the volume; a test compares the results.

    Raises
    ------
    NoContrast
        If all voxels have one value, so that there is nothing to normalise by.
    """
    if settings.normalise == "zscore_nonzero" and inside is None:
        inside = values != 0
    bounds = _bounds(values, inside, settings)
    if bounds is not None:
        np.clip(values, *bounds, out=values)
    if settings.normalise == "none":
        return
    if settings.normalise == "minmax":
        low, high = settings.window or _range(values, where)
        values -= low
        values /= high - low
        return
    mean, deviation = _moments(values if inside is None else values[inside], where)
    values -= mean
    values /= deviation
    if inside is not None:
        np.copyto(values, 0, where=~inside)


def _range(values: NDArray[np.float32], where: str) -> Range:
    _require_contrast(values, where)
    return values.min(), values.max()


def _moments(chosen: NDArray[np.float32], where: str) -> tuple[np.float32, np.float32]:
    """Mean and standard deviation (of a sample), summed by torch, whose sums are pairwise."""
    _require_contrast(chosen, where)
    tensor = torch.from_numpy(chosen)
    return np.float32(tensor.mean().item()), np.float32(tensor.std().item())


def _require_contrast(chosen: NDArray[np.float32], where: str) -> None:
    if chosen.size == 0 or chosen.min() == chosen.max():
        raise NoContrast(
            where=where,
            found="all voxels have one value (after clipping)",
            expected="an image with contrast is needed",
            action="Check the file, or preprocess.clip and preprocess.window",
        )


def _bounds(
    values: NDArray[np.float32], inside: NDArray[np.bool_] | None, settings: PreprocessSettings
) -> Range | None:
    """What intensities are clipped to: the fixed window, or percentiles of the voxels inside."""
    if settings.window is not None:
        low, high = settings.window
        if not low < high:
            raise ConfigError(
                where="preprocess.window",
                found=f"{settings.window}",
                expected="low < high is needed",
            )
        return low, high
    if settings.clip is None:
        return None
    if not 0 <= settings.clip[0] < settings.clip[1] <= 100:
        raise ConfigError(
            where="preprocess.clip", found=f"{settings.clip}", expected="0 <= low < high <= 100"
        )
    chosen = values if inside is None or not inside.any() else values[inside]
    low, high = (float(value) for value in np.percentile(chosen, settings.clip))
    return low, high
