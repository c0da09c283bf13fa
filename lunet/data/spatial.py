"""Voxels to the prepared grid and back, by TorchIO: orientation, spacing, crop and pad.

Image and label take one explicit target grid, which :mod:`lunet.data.geometry` plans: spacing
alone would let TorchIO round the shape of each, and headers that differ by a rounding error would
stop it. Arrays are (x, y, z), or (x, y) for a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torchio as tio
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from lunet.data.geometry import Geometry
from lunet.data.resampling import Interpolation, as_array, as_image, resample


def to_resampled(
    array: NDArray[Any], geometry: Geometry, *, interpolation: Interpolation = "linear"
) -> NDArray[Any]:
    """A raw array on the oriented and resampled grid, before crop and pad; may share its memory.

    ``nearest`` is for class indices: it keeps the dtype, as not resampling does, and the volume.
    Measured on 20 hippocampi, a spinal cord and an abdominal CT: prepared with it and brought back
    linearly per class, labels had a mean Dice of 0.995 at 0.8 mm, 0.952 at 1.5 mm and 0.918 at
    2 x 2 x 3 mm; smoothed and linear per class 0.979 (small organs vanished), 0.943 and 0.921;
    TorchIO's ``label_gaussian`` 0.906, 0.883 and 0.856.
    """
    # the recorded turn, which copies nothing: ToOrientation would copy a large volume
    turned = apply_orientation(array, np.array(geometry.orientation))
    if geometry.resamples:
        grid = _three(geometry.resampled), geometry.resampled_affine
        volume = _volume(turned)
        moved = resample(volume, geometry.oriented_affine, *grid, interpolation=interpolation)
        turned = moved.reshape(geometry.resampled)
    return np.ascontiguousarray(turned)


def centred(array: NDArray[Any], shape: Sequence[int], *, fill: float = 0) -> NDArray[Any]:
    """Crop and pad about the centre to ``shape``; doing it back restores what was not cropped.

    An array of that shape is given back itself.
    """
    if array.shape == tuple(shape):
        return array
    fit = tio.CropOrPad(_three(shape), padding_mode=fill, copy=False)
    return as_array(fit(as_image(_volume(array), np.eye(4)))).reshape(shape)


def to_raw(
    array: NDArray[Any],
    geometry: Geometry,
    *,
    interpolation: Interpolation = "linear",
    fill: float = 0,
) -> NDArray[Any]:
    """A prepared array on the raw grid, ``fill`` where it was cropped; may share its memory."""
    whole = centred(array, geometry.resampled, fill=fill)
    if geometry.resamples:
        image = as_image(_volume(whole), geometry.resampled_affine)
        # beyond the border Resample gives 0, and a coarse grid may end before the raw one does
        image = tio.Pad(1, padding_mode="edge", copy=False)(image)
        grid = _three(geometry.oriented_shape), geometry.oriented_affine
        moved = resample(as_array(image), image.affine, *grid, interpolation=interpolation)
        whole = moved.reshape(geometry.oriented_shape)
    # ToOrientation would find the way back from the affine, where an oblique of 45 degrees is a
    # tie; the recorded turn is exact
    turned: NDArray[Any] = apply_orientation(whole, _inverse(geometry.orientation))
    return turned


def _volume(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.ndim == 3 else array[..., None]


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*(int(n) for n in shape), 1)[:3]
    return x, y, z


def _inverse(orientation: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """nibabel's transform from the prepared axes to the raw ones."""
    pairs = [(axis, sign) for axis, (_, sign) in enumerate(orientation)]
    places = [place for place, _ in orientation]
    return np.array([pairs[places.index(axis)] for axis in range(len(places))], float)
