"""Checks the arguments of the metrics, and extracts the masks of one label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.errors import DataError
from lunet.metrics.catalog import nsd_column
from lunet.metrics.overlap import Mask

Labels = Mapping[str, int | Sequence[int]]
Pair = tuple[NDArray[Any], NDArray[Any]]

UNIT_SPACING = (1.0, 1.0, 1.0)


def joint_masks(pair: Pair, indices: tuple[int, ...]) -> tuple[Mask, Mask]:
    """Masks of a region in both arrays, cropped to the joint box."""
    reference, prediction = (_select(array, indices) for array in pair)
    box = _box(reference | prediction)
    return np.ascontiguousarray(reference[box]), np.ascontiguousarray(prediction[box])


def _select(array: NDArray[Any], indices: tuple[int, ...]) -> Mask:
    mask: Mask = array == indices[0]
    for index in indices[1:]:
        mask |= array == index
    return mask


def crop_to_foreground(pair: Pair, labels: Mapping[str, tuple[int, ...]]) -> Pair:
    """Crop both arrays to where they are not 0, unless 0 itself is a requested label."""
    if any(0 in indices for indices in labels.values()):
        return pair
    box = _box((pair[0] != 0) | (pair[1] != 0))
    return pair[0][box], pair[1][box]


def _box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box around a mask; a box without voxels if the mask is empty."""
    shadow = _shadow(mask, 0)
    across = [shadow] if mask.ndim == 2 else [_shadow(shadow, 1), _shadow(shadow, 0)]
    rest = tuple(_span(line) for line in across)
    first = _shadow(mask[(slice(None), *rest)], tuple(range(1, mask.ndim)))
    return (_span(first), *rest)


def _shadow(mask: Mask, axis: int | tuple[int, ...]) -> Mask:
    return np.asarray(np.logical_or.reduce(mask, axis=axis))


def _span(line: Mask) -> slice:
    places = np.flatnonzero(line)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def checked_arrays(reference: ArrayLike, prediction: ArrayLike) -> Pair:
    """Both as arrays; :class:`DataError` unless integer or boolean, 2D or 3D, of one shape."""
    pair = np.asarray(reference), np.asarray(prediction)
    for name, array in zip(("reference", "prediction"), pair, strict=True):
        if array.dtype.kind not in "bui":
            found = f"the array has type {array.dtype}"
            action = "Round or threshold probabilities, then use .astype(numpy.uint8)"
            raise DataError(
                where=name,
                found=found,
                expected="integer class indices or booleans are needed",
                action=action,
            )
        if array.ndim not in (2, 3) or not array.size:
            found = f"the array has shape {array.shape}"
            raise DataError(
                where=name, found=found, expected="a 2D or 3D array without channels is needed"
            )
    if pair[0].shape != pair[1].shape:
        found = f"shape {pair[1].shape} against {pair[0].shape} of the reference"
        action = "Bring the prediction back to the native space of the image"
        raise DataError(
            where="prediction", found=found, expected="both must have the same shape", action=action
        )
    return pair


def checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Spacing in mm, one per axis; :class:`DataError` unless all are positive and finite."""
    steps = tuple(float(step) for step in spacing)
    if spacing is UNIT_SPACING:
        steps = steps[:ndim]
    if len(steps) != ndim or not all(math.isfinite(step) and step > 0 for step in steps):
        expected = f"{ndim} positive numbers in mm are needed, one per axis of the array"
        raise DataError(where="spacing", found=str(steps), expected=expected)
    return steps


def checked_volume(volume: float) -> float:
    """Volume of a voxel in mm^3; :class:`DataError` unless it is positive and finite."""
    if not (math.isfinite(volume) and volume > 0):
        raise DataError(
            where="voxel_volume", found=str(volume), expected="a positive number in mm^3 is needed"
        )
    return float(volume)


def checked_tolerances(tolerances: Sequence[float]) -> tuple[float, ...]:
    """Tolerances in mm; :class:`DataError` if one is negative or two share a column name."""
    limits = tuple(float(limit) for limit in tolerances)
    names = {nsd_column(limit) for limit in limits}
    if len(names) < len(limits) or not all(math.isfinite(x) and x >= 0 for x in limits):
        raise DataError(
            where="tolerances",
            found=str(limits),
            expected="different numbers in mm, 0 or more, are needed",
        )
    return limits


def checked_labels(labels: Labels | None, pair: Pair) -> dict[str, tuple[int, ...]]:
    """Label name -> its class indices; without labels ``foreground`` of binary arrays.

    Raises
    ------
    DataError
        If there is no label, an index is not a whole number from 0 up, or arrays without labels
        are not binary.
    """
    if labels is None:
        _check_binary(pair)
        return {"foreground": (1,)}
    wanted = {str(name): _indices(name, index) for name, index in labels.items()}
    if not wanted:
        raise DataError(
            where="labels",
            found="no label is given",
            expected="a name and a class index are needed",
        )
    return wanted


def _indices(name: str, index: int | Sequence[int]) -> tuple[int, ...]:
    indices = tuple(index) if isinstance(index, Sequence | np.ndarray) else (index,)
    whole = [isinstance(i, int | np.integer) and not isinstance(i, bool) for i in indices]
    if not indices or not all(whole) or min(indices) < 0:
        expected = "a class index (0 or more) or a list of them is needed"
        raise DataError(where=f"labels[{name!r}]", found=repr(index), expected=expected)
    return tuple(int(i) for i in indices)


def _check_binary(pair: Pair) -> None:
    for name, array in zip(("reference", "prediction"), pair, strict=True):
        if array.dtype != np.bool_ and (array.min() < 0 or array.max() > 1):
            found = f"no labels are given and the {name} has the classes {np.unique(array)[:9]}"
            action = "Pass labels={'name': index, ...}, the classes of the data set"
            raise DataError(
                where="labels", found=found, expected="only binary arrays need none", action=action
            )
