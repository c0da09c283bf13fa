"""Volumes onto another grid by TorchIO, large ones slab by slab, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torchio as tio
from numpy.typing import NDArray

from lunet.data.geometry import spacing_of

Interpolation = Literal["bspline", "linear", "nearest"]
Affine = NDArray[np.float64]
_SPLINE = 4  # voxels that a cubic spline needs
_HALF_WIDTH = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a unit Gaussian
_LARGEST = 2**25  # voxels that are resampled at once; ITK takes up to 24 bytes for each
# A cubic spline's coefficients fall off by 0.27 a voxel: beyond so many they are below float32.
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
    """An array (x, y, z) onto a grid of ``shape`` and affine ``target`` with parallel axes.

    Intensities are smoothed first along the axes that get coarser, with widths as in Cardoso et
    al., MICCAI 2015. They are not left to ``Resample(antialias=True)``, whose recursive filter
    refuses axes of less than four voxels and runs along all axes. Beyond 2**25 voxels intensities
    are moved in slabs that overlap as far as smoothing and spline reach: the same to float32's
    precision.
    """
    source = np.array(spacing_of(affine))
    factor = np.array(spacing_of(target)) / source
    widths = source * np.sqrt(np.maximum(factor**2 - 1, 0)) / _HALF_WIDTH
    if interpolation == "nearest":
        widths[:] = 0
    if interpolation == "bspline" and min(array.shape) < _SPLINE:
        interpolation = "linear"  # ITK's spline reads beyond the ends of a shorter axis
    # class indices take little memory, and a slab could decide another tie of two neighbours
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
