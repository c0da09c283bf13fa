"""Overlap and size of two masks: Dice, IoU, precision, recall, volumes, centre distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """Voxels of the reference, of the prediction and of both."""

    reference: int
    prediction: int
    both: int


def dice(counts: Counts) -> float:
    """``2 TP / (2 TP + FP + FN)``; NaN if both masks are empty (Dice 1945)."""
    return _ratio(2 * counts.both, counts.reference + counts.prediction)


def iou(counts: Counts) -> float:
    """``TP / (TP + FP + FN)``; NaN if both masks are empty (Jaccard 1912)."""
    return _ratio(counts.both, counts.reference + counts.prediction - counts.both)


def precision(counts: Counts) -> float:
    """``TP / (TP + FP)``; NaN if the prediction is empty."""
    return _ratio(counts.both, counts.prediction)


def recall(counts: Counts) -> float:
    """``TP / (TP + FN)``, also called sensitivity; NaN if the reference is empty."""
    return _ratio(counts.both, counts.reference)


def count(reference: Mask, prediction: Mask) -> Counts:
    """Count the voxels of two boolean masks of one shape."""
    return Counts(
        reference=int(np.count_nonzero(reference)),
        prediction=int(np.count_nonzero(prediction)),
        both=int(np.count_nonzero(reference & prediction)),
    )


def centre_distance(reference: Mask, prediction: Mask, spacing: Sequence[float]) -> float:
    """Distance in mm between the centres of mass of two non-empty boolean masks."""
    shift = (centre(reference) - centre(prediction)) * np.asarray(spacing, dtype=np.float64)
    return float(np.linalg.norm(shift))


def centre(mask: Mask) -> NDArray[np.float64]:
    """Centre of mass of a non-empty boolean mask, in voxels."""
    return np.array([np.dot(p, np.arange(p.size)) / p.sum() for p in _profiles(mask)])


def _profiles(mask: Mask) -> list[NDArray[np.int64]]:
    """Voxels per index of each axis.

    Bytes are summed slab by slab in chunks that cannot overflow a byte: several times faster
    than a sum in 64 bits over the whole volume.
    """
    first = np.array([np.count_nonzero(slab) for slab in mask], dtype=np.int64)
    shadow = np.zeros(mask.shape[1:], dtype=np.int64)
    for start in range(0, mask.shape[0], 255):
        chunk = mask[start : start + 255].view(np.uint8)
        shadow += np.add.reduce(chunk, axis=0, dtype=np.uint8)
    others = [shadow] if mask.ndim == 2 else [shadow.sum(axis=1), shadow.sum(axis=0)]
    return [first, *others]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
