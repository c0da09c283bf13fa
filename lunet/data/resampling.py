"""Resamples volumes with TorchIO, large ones slab by slab so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray

from lunet.data.geometry import Geometry, spacing_of

Interpolation = Literal["bspline", "linear", "nearest"]
Affine = NDArray[np.float64]
_SPLINE = 4  # voxels that a cubic spline needs
_HALF_WIDTH = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a unit Gaussian
_LARGEST = 2**25  # voxels that are resampled at once; ITK takes up to 24 bytes for each
# A cubic spline's coefficients decay by a factor of 0.27 per voxel: at this distance they are below
# float32's precision.
_REACH = 16
_TRUNCATE = 4  # standard deviations at which the smoothing ends


def resample(
    array: NDArray[Any],
    affine: Affine,
    shape: Sequence[int],
    target: Affine,
    *,
    interpolation: Interpolation,
) -> NDArray[Any]:
    """Resample an array (x, y, z) onto a grid of ``shape`` and affine ``target``, parallel axes.

    Intensities are smoothed first along the axes that get coarser, with widths as in Cardoso et
    al., MICCAI 2015. ``Resample(antialias=True)`` is not used for this: its recursive filter
    refuses axes of fewer than four voxels and smooths along all axes. Beyond 2**25 voxels,
    intensities are resampled in slabs that overlap as far as smoothing and spline reach, so that
    the result is the same to float32's precision.
    """
    source = np.array(spacing_of(affine))
    factor = np.array(spacing_of(target)) / source
    widths = source * np.sqrt(np.maximum(factor**2 - 1, 0)) / _HALF_WIDTH
    if interpolation == "nearest":
        widths[:] = 0
    if interpolation == "bspline" and min(array.shape) < _SPLINE:
        interpolation = "linear"  # ITK's spline reads beyond the ends of a shorter axis
    # class indices take little memory, and a slab could break a tie of two neighbours differently
    if interpolation == "nearest" or max(array.size, math.prod(shape)) <= _LARGEST:
        return _at_once(array, affine, shape, target, widths, interpolation)
    result = np.empty(shape, array.dtype)
    axis = int(np.argmax(array.shape))
    reach = _REACH + math.ceil(_TRUNCATE * widths[axis] / source[axis])
    for part, seen in _pieces(array.shape, shape, np.linalg.inv(affine) @ target, axis, reach):
        ahead, aim = _moved(affine, axis, seen[axis].start), _moved(target, axis, part[axis].start)
        size = result[part].shape
        result[part] = _at_once(array[seen], ahead, size, aim, widths, interpolation)
    return result


def _pieces(
    source: Sequence[int], target: Sequence[int], step: Affine, axis: int, reach: int
) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """Windows of the target along ``axis``, each with the window of the source that it needs.

    ``step`` maps target indices to source indices.
    """
    ratio, shift = step[axis, axis], step[axis, 3]
    planes = [math.prod(sizes) // sizes[axis] for sizes in (source, target)]
    count = max(1, int(_LARGEST / max(planes[0] * ratio, planes[1])))
    for first in range(0, target[axis], count):
        last = min(first + count, target[axis])
        low = math.floor(ratio * first + shift) - reach
        high = math.ceil(ratio * (last - 1) + shift) + reach + 1
        yield _window(axis, first, last), _window(axis, max(0, low), min(source[axis], high))


def _window(axis: int, first: int, last: int) -> tuple[slice, ...]:
    return tuple(slice(first, last) if place == axis else slice(None) for place in range(3))


def _moved(affine: Affine, axis: int, voxels: int) -> Affine:
    """The affine of an array without its first ``voxels`` planes."""
    moved = affine.copy()
    moved[:, 3] += voxels * affine[:, axis]
    return moved


def _at_once(
    array: NDArray[Any],
    affine: Affine,
    shape: Sequence[int],
    target: Affine,
    widths: NDArray[np.float64],
    interpolation: Interpolation,
) -> NDArray[Any]:
    image = as_image(array, affine)
    if widths.any():
        image = tio.Blur(tuple(widths), copy=False)(image)
    x, y, z = shape
    grid = tio.Resample(((x, y, z), target), image_interpolation=interpolation, copy=False)
    return as_array(grid(image))


def as_image(array: NDArray[Any], affine: Affine) -> tio.Image:
    """One channel (x, y, z) of intensities or of class indices."""
    data = np.require(array[None], requirements=("C", "W"))
    return tio.ScalarImage(tensor=torch.from_numpy(data), affine=affine)


def as_array(image: tio.Image) -> NDArray[Any]:
    """The first channel (x, y, z)."""
    array: NDArray[Any] = image.data[0].numpy()
    return array


def to_resampled(
    array: NDArray[Any], geometry: Geometry, *, interpolation: Interpolation = "linear"
) -> NDArray[Any]:
    """Bring a raw array onto the oriented, resampled grid, before crop and pad; may share memory.

    ``nearest`` is for class indices: it keeps the dtype and the volume of each structure. Measured
    on 20 hippocampi, a spinal cord and an abdominal CT, for labels that were resampled to 0.8 mm,
    1.5 mm and 2 x 2 x 3 mm and brought back linearly per class, the mean Dice was

    - 0.995, 0.952 and 0.918 with ``nearest``,
    - 0.979 (small organs vanished), 0.943 and 0.921 with smoothing and linear steps per class,
    - 0.906, 0.883 and 0.856 with TorchIO's ``label_gaussian``.
    """
    # ToOrientation would copy a large volume; applying the recorded orientation copies nothing
    turned = apply_orientation(array, np.array(geometry.orientation))
    if geometry.resamples:
        grid = _three(geometry.resampled), geometry.resampled_affine
        volume = _volume(turned)
        moved = resample(volume, geometry.oriented_affine, *grid, interpolation=interpolation)
        turned = moved.reshape(geometry.resampled)
    return np.ascontiguousarray(turned)


def centred(array: NDArray[Any], shape: Sequence[int], *, fill: float = 0) -> NDArray[Any]:
    """Crop and pad about the centre to ``shape``; the reverse restores what was not cropped.

    An array that already has this shape is returned without a copy.
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
    """Bring a prepared array onto the raw grid; ``fill`` where it was cropped; may share memory."""
    whole = centred(array, geometry.resampled, fill=fill)
    if geometry.resamples:
        image = as_image(_volume(whole), geometry.resampled_affine)
        # Resample returns 0 beyond the border, and a coarse grid may end before the raw one
        image = tio.Pad(1, padding_mode="edge", copy=False)(image)
        grid = _three(geometry.oriented_shape), geometry.oriented_affine
        moved = resample(as_array(image), image.affine, *grid, interpolation=interpolation)
        whole = moved.reshape(geometry.oriented_shape)
    # ToOrientation would derive the reverse from the affine, which is ambiguous for a rotation of
    # 45 degrees; the recorded orientation is exact
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
