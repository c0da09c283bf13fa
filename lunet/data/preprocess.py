"""Geometry and normalisation, the same for training, validation and prediction of new scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.geometry import Geometry, plan_geometry
from lunet.data.intensity import normalise_in_place
from lunet.data.io.images import Scan, read_image, require_finite
from lunet.data.resampling import centred, to_raw, to_resampled
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError


def prepare_image(
    source: Scan | str | Path | Sequence[str | Path],
    settings: PreprocessSettings,
    *,
    channels: int | None = None,
    name: str | None = None,
    crop: bool = True,
) -> tuple[NDArray[np.float32], Geometry]:
    """Bring an image into the orientation, spacing, intensities and size that a network sees.

    Parameters
    ----------
    source
        A :class:`Scan` (array (channel, x, y, z) and affine), a file, or a file per channel.
    settings
        Orientation, spacing, clipping, normalisation, size.
    channels
        Expected number of channels.
    name
        The image's name in messages; by default its first file.
    crop
        Whether a volume larger than ``settings.size`` is cropped; otherwise it stays whole.

    Returns
    -------
    array
        float32 (channel, x, y, z), C-contiguous.
    geometry
        The transformation, which :func:`to_native` reverses.

    Raises
    ------
    DataError
        If a file cannot be read, voxels are not finite, or a channel is constant.
    """
    if isinstance(source, str | Path):
        source = (source,)
    where = name or ("image" if isinstance(source, Scan) else str(source[0]))
    scan = source if isinstance(source, Scan) else read_image(source, channels=channels)
    if channels is not None and len(scan.array) != channels:
        raise DataError(
            where=where, found=f"{len(scan.array)} channel(s)", expected=f"{channels} are expected"
        )
    geometry = plan_geometry(
        scan.array.shape[1:],
        scan.affine,
        orientation=settings.orientation,
        spacing=settings.spacing,
        size=settings.size,
        crop=crop,
    )
    if len(scan.array) == 1:  # a large volume is not copied
        return _prepare_channel(scan.array[0], geometry, settings, where)[None], geometry
    result = np.empty((len(scan.array), *geometry.shape), dtype=np.float32)
    for index, channel in enumerate(scan.array):
        title = f"{where}, channel {index}"
        result[index] = _prepare_channel(channel, geometry, settings, title)
    return result, geometry


def _prepare_channel(
    channel: NDArray[np.float32], geometry: Geometry, settings: PreprocessSettings, where: str
) -> NDArray[np.float32]:
    require_finite(channel, where)
    inside = _inside(channel, geometry, settings)
    moved = to_resampled(channel, geometry, interpolation="bspline")
    if np.may_share_memory(moved, channel):
        moved = moved.copy()  # the raw scan stays as it is
    normalise_in_place(moved, settings, inside=inside, where=where)
    return np.ascontiguousarray(centred(moved, geometry.shape))


def _inside(
    channel: NDArray[np.float32], geometry: Geometry, settings: PreprocessSettings
) -> NDArray[np.bool_] | None:
    """Where the raw channel is not zero; a resampled one has no exact zeros after a spline."""
    if settings.normalise != "zscore_nonzero":
        return None
    return to_resampled((channel != 0).astype(np.float32), geometry) > 0.5


def prepare_label(label: NDArray[np.uint8], geometry: Geometry) -> tuple[NDArray[np.uint8], int]:
    """Bring a label (x, y, z) of class indices onto the prepared grid.

    Returns
    -------
    The label, uint8, and how many voxels of foreground the crop to ``geometry.shape`` lost.

    Raises
    ------
    DataError
        If its shape differs from the image's.
    """
    if tuple(label.shape) != geometry.native_shape:
        raise DataError(
            where="label",
            found=f"shape {tuple(label.shape)}",
            expected=f"the image has {geometry.native_shape}",
        )
    whole = to_resampled(label, geometry, interpolation="nearest")
    prepared = centred(whole, geometry.shape)
    return prepared, int(np.count_nonzero(whole)) - int(np.count_nonzero(prepared))


def to_native(
    array: NDArray[Any], geometry: Geometry, *, fill: float | Sequence[float] = 0
) -> NDArray[Any]:
    """Bring a prediction back to the voxels of the raw image.

    Parameters
    ----------
    array
        Class indices (x, y, z) of an integer dtype, or probabilities (class, x, y, z).
    geometry
        From :func:`prepare_image`.
    fill
        Value of raw voxels that were cropped away; for probabilities one per class is possible.

    Returns
    -------
    Class indices (x, y, z) of the same dtype, or probabilities (class, x, y, z) float32, on
    exactly the raw shape. Without resampling no value changes.
    """
    ndim = len(geometry.shape)
    if array.ndim == ndim + 1:
        fills = [fill] * len(array) if isinstance(fill, int | float) else list(fill)
        channels = zip(array, fills, strict=True)
        return np.stack([to_raw(channel, geometry, fill=value) for channel, value in channels])
    if tuple(array.shape) != geometry.shape:
        raise DataError(
            where="prediction",
            found=f"shape {array.shape}",
            expected=f"the prepared shape {geometry.shape}",
        )
    if not isinstance(fill, int | float):
        raise DataError(
            where="prediction", found="several fill values", expected="class indices take one"
        )
    return to_raw(array, geometry, interpolation="nearest", fill=fill)
