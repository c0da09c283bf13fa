"""The metrics contract: one reference, one prediction, one row per label.

Native space, millimetres, and a rule for every empty mask: see :func:`evaluate_case`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lunet.errors import DataError
from lunet.metrics.overlap import Counts, Mask, centre_distance, count, volume_ml
from lunet.metrics.surface import surface_distances

Labels = Mapping[str, int | Sequence[int]]
Row = dict[str, Any]

UNIT_SPACING = (1.0, 1.0, 1.0)
OVERLAP = ("dice", "iou", "precision", "recall")
DISTANCES = ("hd", "hd95", "assd", "masd")
VOLUMES = ("volume_ml", "volume_reference_ml", "volume_error_ml", "volume_error_relative")
STATUSES = ("ok", "missed", "spurious", "both_empty")


def nsd_column(tolerance: float) -> str:
    """Name of the NSD column at a tolerance in mm: ``nsd_1`` for 1.0, ``nsd_0.5`` for 0.5."""
    return f"nsd_{tolerance:g}"


def case_columns(tolerances: Sequence[float] = (1.0,)) -> list[str]:
    """Columns of :func:`evaluate_case` in their order."""
    surface = [*DISTANCES, *(nsd_column(tolerance) for tolerance in tolerances)]
    return ["label", *OVERLAP, *surface, *VOLUMES, "centre_distance", "status"]


def evaluate_case(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    spacing: Sequence[float] = UNIT_SPACING,
    labels: Labels | None = None,
    tolerances: Sequence[float] = (1.0,),
) -> pd.DataFrame:
    """Metrics of one predicted label map against its reference.

    Parameters
    ----------
    reference, prediction
        Class indices (any integer type) or a boolean mask, 2D or 3D, of one shape, both in the
        native space of the image.
    spacing
        Voxel size in mm in the order of the array axes; in 2D the default means 1 mm pixels.
    labels
        Name of each row and its class index, or several indices for a region that is their
        union, for example ``{"core": 1, "whole": (1, 2, 3)}``. The names come from the data set,
        never from the data found in a case. May be left out for binary arrays alone (boolean, or
        no values but 0 and 1): the row is then named ``foreground``.
    tolerances
        Tolerances of the normalised surface Dice (NSD) in mm, one column ``nsd_<tol>`` each.

    Returns
    -------
    A row per label with the columns of :func:`case_columns`: ``label``; ``dice``, ``iou``,
    ``precision``, ``recall``; ``hd``, ``hd95``, ``assd``, ``masd`` in mm on border voxels;
    ``nsd_<tol>`` on the sub-voxel surface; ``volume_ml`` of the prediction,
    ``volume_reference_ml``, ``volume_error_ml`` (prediction - reference) and
    ``volume_error_relative`` (error / reference), where ml is mm^3 / 1000 and a 2D pixel counts
    as 1 mm thick; ``centre_distance`` of the centres of mass in mm; ``status``:

    ========== ========== ========== =========================================================
    status     reference  prediction values
    ========== ========== ========== =========================================================
    ok         present    present    as defined in :mod:`lunet.metrics.surface` and ``overlap``
    missed     present    empty      overlap and NSD 0, distances = the image diagonal in mm
    spurious   empty      present    the same; ``volume_error_relative`` is NaN (no reference)
    both_empty empty      empty      NaN but for the volumes, 0: to be left out of means, counted
    ========== ========== ========== =========================================================

    The image diagonal is ``sqrt(sum((voxels * spacing)^2))`` over the axes of the whole array.

    Raises
    ------
    DataError
        If shapes, types, spacing, labels or tolerances do not fit.
    """
    pair = _checked_arrays(reference, prediction)
    steps = _checked_spacing(spacing, pair[0].ndim)
    wanted = _checked_labels(labels, pair)
    limits = _checked_tolerances(tolerances)
    near = _crop_to_foreground(pair, wanted)
    rows = [
        _row(name, *_masks(near, indices), pair[0].shape, steps, limits)
        for name, indices in wanted.items()
    ]
    return pd.DataFrame(rows, columns=case_columns(limits))


def evaluate_regions(
    reference: Mapping[str, ArrayLike],
    prediction: Mapping[str, ArrayLike],
    *,
    spacing: Sequence[float] = UNIT_SPACING,
    tolerances: Sequence[float] = (1.0,),
) -> pd.DataFrame:
    """As :func:`evaluate_case`, for regions that are given as one boolean mask each.

    Parameters
    ----------
    reference, prediction
        Name of each region and its boolean mask. Regions may overlap. Both have the same names.

    Raises
    ------
    DataError
        If the names differ, or as :func:`evaluate_case`.
    """
    if list(reference) != list(prediction):
        found = f"{sorted(prediction)} against {sorted(reference)}"
        raise DataError("regions", found, "reference and prediction must have the same regions")
    frames = [
        evaluate_case(
            _boolean(name, reference[name]),
            _boolean(name, prediction[name]),
            spacing=spacing,
            labels={name: 1},
            tolerances=tolerances,
        )
        for name in reference
    ]
    return pd.concat(frames, ignore_index=True)


def _row(
    name: str,
    reference: Mask,
    prediction: Mask,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    tolerances: tuple[float, ...],
) -> Row:
    """One row; the masks are cropped to their joint box, ``shape`` is the whole array's."""
    counts = count(reference, prediction)
    status = _status(counts)
    worst = math.hypot(*(n * s for n, s in zip(shape, spacing, strict=True)))
    return {
        "label": name,
        "status": status,
        **_volumes(counts, spacing),
        **(
            _both_present(reference, prediction, counts, spacing, tolerances)
            if status == "ok"
            else _contract(status, worst, tolerances)
        ),
    }


def _status(counts: Counts) -> str:
    if counts.reference and counts.prediction:
        return "ok"
    if counts.reference:
        return "missed"
    return "spurious" if counts.prediction else "both_empty"


def _volumes(counts: Counts, spacing: tuple[float, ...]) -> Row:
    found = volume_ml(counts.prediction, spacing)
    expected = volume_ml(counts.reference, spacing)
    error = found - expected if counts.reference or counts.prediction else math.nan
    relative = error / expected if counts.reference else math.nan
    return dict(zip(VOLUMES, (found, expected, error, relative), strict=True))


def _both_present(
    reference: Mask,
    prediction: Mask,
    counts: Counts,
    spacing: tuple[float, ...],
    tolerances: tuple[float, ...],
) -> Row:
    surface = surface_distances(reference, prediction, spacing=spacing, tolerances=tolerances)
    return {
        **{metric: getattr(counts, metric) for metric in OVERLAP},
        **{metric: getattr(surface, metric) for metric in DISTANCES},
        **dict(zip(map(nsd_column, tolerances), surface.nsd, strict=True)),
        "centre_distance": centre_distance(reference, prediction, spacing),
    }


def _contract(status: str, worst: float, tolerances: tuple[float, ...]) -> Row:
    """Values where a mask is empty: the worst possible, or NaN if nothing was to be found."""
    undefined = status == "both_empty"
    shares = (*OVERLAP, *map(nsd_column, tolerances))
    distances = (*DISTANCES, "centre_distance")
    return {
        **dict.fromkeys(shares, math.nan if undefined else 0.0),
        **dict.fromkeys(distances, math.nan if undefined else worst),
    }


def _masks(pair: tuple[NDArray[Any], NDArray[Any]], indices: tuple[int, ...]) -> tuple[Mask, Mask]:
    """Masks of a region in both arrays, cropped to the joint box."""
    reference, prediction = (_select(array, indices) for array in pair)
    box = _box(reference | prediction)
    return np.ascontiguousarray(reference[box]), np.ascontiguousarray(prediction[box])


def _select(array: NDArray[Any], indices: tuple[int, ...]) -> Mask:
    mask: Mask = array == indices[0]
    for index in indices[1:]:
        mask |= array == index
    return mask


def _crop_to_foreground(
    pair: tuple[NDArray[Any], NDArray[Any]], labels: Mapping[str, tuple[int, ...]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut away what is 0 in both arrays, unless 0 itself is asked for."""
    if any(0 in indices for indices in labels.values()):
        return pair
    box = _box((pair[0] != 0) | (pair[1] != 0))
    return pair[0][box], pair[1][box]


def _box(mask: Mask) -> tuple[slice, ...]:
    """Smallest box around a mask; one of no voxels if the mask is empty."""
    shadow = mask.any(axis=0)
    across = [shadow] if mask.ndim == 2 else [shadow.any(axis=1), shadow.any(axis=0)]
    rest = tuple(_span(line) for line in across)
    first = mask[(slice(None), *rest)].any(axis=tuple(range(1, mask.ndim)))
    return (_span(first), *rest)


def _span(line: Mask) -> slice:
    places = np.flatnonzero(line)
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _checked_arrays(
    reference: ArrayLike, prediction: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any]]:
    pair = np.asarray(reference), np.asarray(prediction)
    for name, array in zip(("reference", "prediction"), pair, strict=True):
        if array.dtype.kind not in "bui":
            found = f"the array has type {array.dtype}"
            action = "Round or threshold probabilities, then use .astype(numpy.uint8)"
            raise DataError(name, found, "integer class indices or booleans are needed", action)
        if array.ndim not in (2, 3) or not array.size:
            found = f"the array has shape {array.shape}"
            raise DataError(name, found, "a 2D or 3D array without channels is needed")
    if pair[0].shape != pair[1].shape:
        found = f"shape {pair[1].shape} against {pair[0].shape} of the reference"
        action = "Bring the prediction back to the native space of the image"
        raise DataError("prediction", found, "both must have the same shape", action)
    return pair


def _checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing)
    if spacing is UNIT_SPACING:
        steps = steps[:ndim]
    if len(steps) != ndim or not all(math.isfinite(step) and step > 0 for step in steps):
        expected = f"{ndim} positive numbers in mm are needed, one per axis of the array"
        raise DataError("spacing", str(steps), expected)
    return steps


def _checked_tolerances(tolerances: Sequence[float]) -> tuple[float, ...]:
    limits = tuple(float(limit) for limit in tolerances)
    names = {nsd_column(limit) for limit in limits}
    if len(names) < len(limits) or not all(math.isfinite(x) and x >= 0 for x in limits):
        raise DataError("tolerances", str(limits), "different numbers in mm, 0 or more, are needed")
    return limits


def _checked_labels(
    labels: Labels | None, pair: tuple[NDArray[Any], NDArray[Any]]
) -> dict[str, tuple[int, ...]]:
    if labels is None:
        _check_binary(pair)
        return {"foreground": (1,)}
    wanted = {str(name): _indices(name, index) for name, index in labels.items()}
    if not wanted:
        raise DataError("labels", "no label is given", "a name and a class index are needed")
    return wanted


def _indices(name: str, index: int | Sequence[int]) -> tuple[int, ...]:
    indices = (index,) if np.ndim(index) == 0 else tuple(index)  # type: ignore[arg-type]
    whole = [isinstance(i, int | np.integer) and not isinstance(i, bool) for i in indices]
    if not indices or not all(whole) or min(indices) < 0:
        expected = "a class index (0 or more) or a list of them is needed"
        raise DataError(f"labels[{name!r}]", repr(index), expected)
    return tuple(int(i) for i in indices)


def _check_binary(pair: tuple[NDArray[Any], NDArray[Any]]) -> None:
    for name, array in zip(("reference", "prediction"), pair, strict=True):
        if array.dtype != np.bool_ and (array.min() < 0 or array.max() > 1):
            found = f"no labels are given and the {name} has the classes {np.unique(array)[:9]}"
            action = "Pass labels={'name': index, ...}, the classes of the data set"
            raise DataError("labels", found, "only binary arrays go without", action)


def _boolean(name: str, mask: ArrayLike) -> Mask:
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise DataError(f"regions[{name!r}]", f"type {array.dtype}", "a boolean mask is needed")
    return array
