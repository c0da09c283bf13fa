"""Lesion-wise results: which connected components were found, with how many false positives.

Definitions (free-response ROC, as in LUNA16: Setio et al., Med. Image Anal. 42:1, 2017):

* a **lesion** is a connected component of a mask (26-connected in 3D, 8-connected in 2D, or
  connected only by faces);
* a reference lesion is **found** if predicted voxels cover at least ``overlap`` of its voxels
  (one voxel, if ``overlap`` is 0);
* a predicted component that touches no reference lesion is a **false positive**; a component that
  touches several lesions, or several components on one lesion, change neither count further;
* with ``precision``, a component with a smaller share of its voxels in lesions is a false positive
  and finds nothing; otherwise a mask of everything would find all lesions without a penalty;
* the **FROC curve** is the share of all lesions found against the mean number of false positives
  per image, as the threshold on a probability map decreases: a lesion counts as found at every
  threshold where the rule above holds, and a false positive is a component of the map thresholded
  at that value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from lunet.errors import DataError
from lunet.metrics.overlap import Mask

Connectivity = Literal["full", "faces"]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image at which LUNA16 averages the sensitivity."""


@dataclass(frozen=True)
class LesionCounts:
    """Reference lesions, lesions found, and false positive components of one image."""

    lesions: int
    found: int
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of the lesions found; NaN if the image has none."""
        return self.found / self.lesions if self.lesions else math.nan


def components(mask: ArrayLike, *, connectivity: Connectivity = "full") -> NDArray[np.int32]:
    """Number the connected components of a mask from 1; 0 is background.

    Parameters
    ----------
    mask
        Boolean array, 2D or 3D.
    connectivity
        ``full`` joins voxels that share a face, an edge or a corner, ``faces`` only a face.
    """
    array = _boolean(mask)
    rank = 1 if connectivity == "faces" else array.ndim
    structure = ndimage.generate_binary_structure(array.ndim, rank)
    numbered = np.zeros(array.shape, dtype=np.int32)
    ndimage.label(array, structure=structure, output=numbered)
    return numbered


def count_lesions(
    reference: ArrayLike,
    prediction: ArrayLike,
    *,
    overlap: float = 0.0,
    precision: float = 0.0,
    connectivity: Connectivity = "full",
) -> LesionCounts:
    """Lesions, lesions found and false positives of one image.

    Parameters
    ----------
    reference, prediction
        Boolean masks of one shape, 2D or 3D.
    overlap
        Share of a lesion's voxels that must be predicted, 0 (any voxel) to 1.
    precision
        Share of a predicted component's voxels that must lie in lesions, 0 (any voxel) to 1.
    connectivity
        See :func:`components`.

    Raises
    ------
    DataError
        If shapes or types do not fit, or ``overlap`` is not in [0, 1].
    """
    _check_shares(overlap, precision)
    lesions = components(reference, connectivity=connectivity)
    mask = _boolean(prediction)
    _check_shapes(lesions.shape, mask.shape)
    hits, false_positives = _judged(mask, lesions, int(lesions.max()), precision, connectivity)
    return LesionCounts(
        lesions=hits.size,
        found=int((hits >= _needed(lesions, overlap)).sum()),
        false_positives=false_positives,
    )


def froc_score(curve: pd.DataFrame, rates: Sequence[float] = FROC_RATES) -> float:
    """Mean sensitivity at the given false positives per image (the LUNA16 score).

    At each rate, the best sensitivity of a threshold with no more false positives counts; it is 0
    if the curve has no such threshold, so that a score never extrapolates beyond those measured.
    """
    rate, sensitivity = curve["false_positives_per_image"], curve["sensitivity"]
    best = [sensitivity[rate <= limit].max() for limit in rates]
    return float(np.mean([0.0 if math.isnan(value) else value for value in best]))


@dataclass(frozen=True)
class ImageFroc:
    """Results of one image at each threshold: all arrays are int64, one number per threshold."""

    lesions: int
    found: NDArray[np.int64]
    false_positives: NDArray[np.int64]


def image_froc(
    reference: ArrayLike,
    values: NDArray[Any],
    *,
    levels: ArrayLike,
    overlap: float = 0.0,
    precision: float = 0.0,
    connectivity: Connectivity = "full",
) -> ImageFroc:
    """Lesions found and false positives of one image at each threshold.

    Parameters
    ----------
    reference
        Boolean mask, 2D or 3D.
    values
        Probabilities of the same shape in any unit (a float map, or whole steps).
    levels
        Thresholds in that unit, in any order; values at or above a threshold are predicted.
    overlap, precision, connectivity
        See :func:`count_lesions`.

    Raises
    ------
    DataError
        If shapes or types do not fit.
    """
    _check_shares(overlap, precision)
    lesions = components(reference, connectivity=connectivity)
    _check_shapes(lesions.shape, values.shape)
    hits, outside = _judged_at(lesions, values, np.asarray(levels), precision, connectivity)
    found = (hits >= _needed(lesions, overlap)).sum(axis=1)
    return ImageFroc(hits.shape[1], found, outside)


def _judged_at(
    lesions: NDArray[np.int32],
    values: NDArray[Any],
    levels: NDArray[Any],
    precision: float,
    connectivity: Connectivity,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels hit (level, lesion) and false positives (level).

    Components at a high level lie inside the components of the lowest level, so each of the latter
    is cropped once, and the higher levels only examine its box.
    """
    count = int(lesions.max())
    hits = np.zeros((levels.size, count), dtype=np.int64)
    outside = np.zeros(levels.size, dtype=np.int64)
    widest = components(values >= levels.min(), connectivity=connectivity)
    for number, box in enumerate(ndimage.find_objects(widest), start=1):
        inside = np.where(widest[box] == number, values[box], levels.min() - 1)
        for place in np.flatnonzero(levels <= inside.max()):
            mask = inside >= levels[place]
            found, wrong = _judged(mask, lesions[box], count, precision, connectivity)
            hits[place] += found
            outside[place] += wrong
    return hits, outside


def _judged(
    mask: Mask, lesions: NDArray[np.int32], count: int, precision: float, connectivity: Connectivity
) -> tuple[NDArray[np.int64], int]:
    """Voxels of each of ``count`` lesions that true components hit; number of false ones."""
    numbered = components(mask, connectivity=connectivity)
    sizes = np.bincount(numbered.reshape(-1))
    in_lesions = np.bincount(numbered[lesions > 0], minlength=sizes.size)
    good = in_lesions >= np.maximum(np.ceil(precision * sizes - 1e-9), 1)
    good[0] = False
    hits = np.bincount(lesions[good[numbered]], minlength=count + 1)
    return hits[1:], int(sizes.size - 1 - good.sum())


def _needed(lesions: NDArray[np.int32], overlap: float) -> NDArray[np.int64]:
    """Voxels of each lesion that must be predicted; the tiny slack compensates float rounding."""
    sizes = np.bincount(lesions.reshape(-1))[1:]
    return np.maximum(np.ceil(overlap * sizes - 1e-9), 1).astype(np.int64)


def _boolean(mask: ArrayLike) -> Mask:
    array = np.asarray(mask)
    if array.dtype != np.bool_ or array.ndim not in (2, 3):
        found = f"type {array.dtype} and shape {array.shape}"
        raise DataError(where="mask", found=found, expected="a boolean array in 2D or 3D is needed")
    return array


def _check_shares(*shares: float) -> None:
    if not all(0 <= share <= 1 for share in shares):
        raise DataError(
            where="overlap, precision", found=str(shares), expected="a share from 0 to 1 is needed"
        )


def _check_shapes(reference: tuple[int, ...], other: tuple[Any, ...]) -> None:
    if reference != other:
        raise DataError(
            where="prediction",
            found=f"shape {other}",
            expected=f"the same shape {reference} as the reference",
        )
