"""Voxels to the prepared grid and back, by TorchIO: orientation, spacing, crop and pad.

Image and label take one explicit target grid, which :mod:`lunet.data.geometry` plans: spacing
alone would let TorchIO round the shape of each, and headers that differ by a rounding error would
stop it. Arrays are (x, y, z), or (x, y) for a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from lunet.data.geometry import Geometry, spacing_of

Interpolation = Literal["bspline", "linear", "nearest"]
_SPLINE = 4  # voxels that a cubic spline needs
_HALF_WIDTH = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a unit Gaussian


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
        grid = geometry.resampled, geometry.resampled_affine
        image = _image(turned, geometry.oriented_affine)
        turned = _array(_resample(image, *grid, interpolation=interpolation), array.ndim)
    return np.ascontiguousarray(turned)


def centred(array: NDArray[Any], shape: Sequence[int], *, fill: float = 0) -> NDArray[Any]:
    """Crop and pad about the centre to ``shape``; doing it back restores what was not cropped.

    An array of that shape is given back itself.
    """
    if array.shape == tuple(shape):
        return array
    image = _image(array, np.eye(4))
    fit = tio.CropOrPad(_three(shape), padding_mode=fill, copy=False)
    return _array(fit(image), array.ndim)


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
        image = _image(whole, geometry.resampled_affine)
        # beyond the border Resample gives 0, and a coarse grid may end before the raw one does
        image = tio.Pad(1, padding_mode="edge", copy=False)(image)
        grid = geometry.oriented_shape, geometry.oriented_affine
        whole = _array(_resample(image, *grid, interpolation=interpolation), array.ndim)
    # ToOrientation would find the way back from the affine, where an oblique of 45 degrees is a
    # tie; the recorded turn is exact
    turned: NDArray[Any] = apply_orientation(whole, _inverse(geometry.orientation))
    return turned


def _resample(
    image: tio.Image,
    shape: Sequence[int],
    affine: NDArray[np.float64],
    *,
    interpolation: Interpolation,
) -> tio.Image:
    """Onto an explicit grid; intensities are smoothed first along the axes that get coarser.

    Widths as in Cardoso et al., MICCAI 2015. They are not left to ``Resample(antialias=True)``,
    whose recursive filter refuses axes of less than four voxels and runs along all axes.
    """
    source = np.array(spacing_of(image.affine))
    factor = np.array(spacing_of(affine)) / source
    widths = source * np.sqrt(np.maximum(factor**2 - 1, 0)) / _HALF_WIDTH
    if widths.any() and interpolation != "nearest":
        image = tio.Blur(tuple(widths), copy=False)(image)
    if interpolation == "bspline" and min(image.spatial_shape) < _SPLINE:
        interpolation = "linear"  # ITK's spline reads beyond the ends of a shorter axis
    target = (_three(shape), affine)
    return tio.Resample(target, image_interpolation=interpolation, copy=False)(image)


def _image(array: NDArray[Any], affine: NDArray[np.float64]) -> tio.Image:
    """One channel, of intensities or of class indices."""
    volume = array if array.ndim == 3 else array[..., None]
    data = np.require(volume[None], requirements=("C", "W"))
    return tio.ScalarImage(tensor=torch.from_numpy(data), affine=affine)


def _array(image: tio.Image, ndim: int) -> NDArray[Any]:
    array: NDArray[Any] = image.data[0].numpy()
    return array if ndim == 3 else array[..., 0]


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*(int(n) for n in shape), 1)[:3]
    return x, y, z


def _inverse(orientation: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """nibabel's transform from the prepared axes to the raw ones."""
    pairs = [(axis, sign) for axis, (_, sign) in enumerate(orientation)]
    places = [place for place, _ in orientation]
    return np.array([pairs[places.index(axis)] for axis in range(len(places))], float)
