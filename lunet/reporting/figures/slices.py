"""One slice of a case: image, reference and prediction, in canonical orientation and cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from lunet.data.ground_truth import read_reference
from lunet.data.io.images import read_image, read_label, require_grid, stem_of
from lunet.data.prepared import Manifest
from lunet.task import Length

Array = NDArray[Any]


@dataclass(frozen=True)
class SlicePlace:
    """Where a case is cut: axis (of three), index on it, and the in-plane window (start, stop)."""

    axis: int
    index: int
    window: tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class SliceCase:
    """A case in canonical orientation (x to the right, y to the front, z up).

    ``image`` is the first channel, float32 (x, y, z); ``reference`` has class indices on the same
    grid; ``spacing`` is in ``unit``; ``affine`` is that of the files, before the reorientation.
    """

    name: str
    image: Array
    reference: Array
    spacing: tuple[float, ...]
    affine: Array
    unit: Length = "mm"


def read_case(manifest: Manifest, name: str) -> SliceCase:
    """The raw image (first channel) and reference of a case.

    Raises
    ------
    DataError
        If a file is missing or damaged.
    """
    reference, affine = read_reference(manifest, name)
    scan = read_image(manifest.case(name).raw_images, pixel_mm=manifest.pixel_mm)
    image = np.asarray(scan.array[0], np.float32)
    spacing = tuple(float(value) for value in nibabel.affines.voxel_sizes(affine))
    return SliceCase(
        name,
        _canonical(image, affine),
        _canonical(reference, affine),
        _canonical_spacing(spacing, affine),
        affine,
        manifest.unit,
    )


def read_prediction(folder: Path, case: SliceCase) -> Array | None:
    """The predicted class indices of a case, in the same orientation; None if there is no file."""
    named = [path for path in folder.glob(f"{case.name}.*") if stem_of(path) == case.name]
    if not named:
        return None
    path = named[0]
    array, affine = read_label(path, pixel_mm=(case.spacing[0], case.spacing[1]))
    prediction = _canonical(array, affine)
    require_grid(path, prediction.shape, affine, case.name, case.reference.shape, case.affine)
    return prediction


def _canonical(array: Array, affine: Array) -> Array:
    """The array in RAS orientation; a 2D picture is kept as it is, as a single slice."""
    if array.ndim == 2:
        return array[..., None]
    return np.asarray(nibabel.orientations.apply_orientation(array, nibabel.io_orientation(affine)))


def _canonical_spacing(spacing: Sequence[float], affine: Array) -> tuple[float, ...]:
    order = nibabel.io_orientation(affine)[:, 0].astype(int)
    return tuple(spacing[int(np.flatnonzero(order == axis)[0])] for axis in range(3))


def common_axis(cases: Sequence[SliceCase]) -> int:
    """The axis to cut all cases across: the one with the largest reference areas.

    Areas are counted in voxels, so that anisotropic volumes are cut along their fine plane.
    """
    sums = dict.fromkeys(range(3), 0)
    for case in cases:
        for axis in _thick(case):
            sums[axis] += int(_areas(case, axis).max())
    return max(sums, key=lambda axis: (sums[axis], axis))


def best_place(case: SliceCase, axis: int, margin_mm: float = 12.0) -> SlicePlace:
    """The slice across ``axis`` with the largest reference area.

    The window is the reference's bounding box over all slices plus a margin in mm, so that
    neighbouring structures and nearby errors are visible.
    """
    mask = _mask(case)
    others = [other for other in range(3) if other != axis]
    window = [_span(mask, other, margin_mm / case.spacing[other]) for other in others]
    return SlicePlace(axis, int(_areas(case, axis).argmax()), (window[0], window[1]))


def _mask(case: SliceCase) -> Array:
    """The mask of the reference, or all voxels if it is empty."""
    mask = case.reference > 0
    return mask if mask.any() else np.ones_like(mask)


def _thick(case: SliceCase) -> list[int]:
    """Axes whose slices have more than one voxel along both other axes."""
    shape = case.reference.shape
    return [axis for axis in range(3) if min(np.delete(shape, axis)) > 1]


def _areas(case: SliceCase, axis: int) -> Array:
    return np.asarray(_mask(case).sum(axis=tuple(a for a in range(3) if a != axis)))


def _span(mask: Array, axis: int, margin: float) -> tuple[int, int]:
    filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
    low, high = filled[0] - round(margin), filled[-1] + 1 + round(margin)
    return max(0, int(low)), min(mask.shape[axis], int(high))


def cut(array: Array, place: SlicePlace) -> Array:
    """The slice as rows and columns of a picture; the first row is at the bottom."""
    plane = np.take(array, place.index, axis=place.axis)
    (a, b), (c, d) = place.window
    return np.asarray(plane[a:b, c:d].T)


def pixel_size(case: SliceCase, place: SlicePlace) -> tuple[float, float]:
    """Width and height of a pixel of :func:`cut` in mm."""
    width, height = (case.spacing[axis] for axis in range(3) if axis != place.axis)
    return width, height
