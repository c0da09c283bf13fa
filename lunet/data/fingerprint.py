"""Describes a data set in numbers: spacings, shapes, intensities inside the structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import plan_geometry
from lunet.data.ground_truth import read_case_label
from lunet.data.io.images import is_picture, read_image, require_finite, require_grid
from lunet.errors import DataError
from lunet.task import Length

# Foreground voxels sampled per case: enough for percentiles, little memory.
SAMPLES = 20_000
_PERCENTILES = (0.5, 50.0, 99.5)
_PLANE = 2


@dataclass(frozen=True)
class Channel:
    """Intensities of one channel over all cases.

    ``low``, ``median``, ``high`` (percentiles 0.5, 50, 99.5), ``mean`` and ``deviation`` describe
    the foreground; ``minimum`` and ``zeros`` are the medians over the cases of the smallest
    intensity and of the share of voxels that are exactly zero.
    """

    name: str
    low: float
    median: float
    high: float
    mean: float
    deviation: float
    minimum: float
    zeros: float = 0.0


@dataclass(frozen=True)
class Fingerprint:
    """A data set in numbers, in the axes of the prepared volumes (RAS+).

    Attributes
    ----------
    cases
        Number of labelled cases.
    spacings, shapes
        (case, axis): voxel sizes in mm, and numbers of voxels; two axes if slices are trained.
    channels
        Intensities, per channel.
    foreground
        Median share of foreground voxels.
    samples
        Number of samples: slices if these are trained, else cases.
    unit
        Unit of ``spacings``.
    are_pictures
        Whether the images are pictures, not volumes.
    """

    cases: int
    spacings: NDArray[np.float64]
    shapes: NDArray[np.int64]
    channels: tuple[Channel, ...]
    foreground: float
    samples: int
    unit: Length = "mm"
    are_pictures: bool = False

    @property
    def sample(self) -> str:
        """What is trained: ``picture``, ``slice`` or ``volume``."""
        return "picture" if self.are_pictures else "slice" if self.in_slices else "volume"

    @property
    def in_slices(self) -> bool:
        """Whether slices or pictures are trained, not volumes."""
        return self.shapes.shape[1] == _PLANE

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: medians and ranges."""
        return {
            "cases": self.cases,
            "samples": self.samples,
            "unit": self.unit,
            "spacing_median": np.median(self.spacings, axis=0).round(4).tolist(),
            "spacing_range": [
                self.spacings.min(axis=0).round(4).tolist(),
                self.spacings.max(axis=0).round(4).tolist(),
            ],
            "shape_median": np.median(self.shapes, axis=0).astype(int).tolist(),
            "shape_range": [self.shapes.min(axis=0).tolist(), self.shapes.max(axis=0).tolist()],
            "foreground": self.foreground,
            "channels": [vars(channel) for channel in self.channels],
        }


def fingerprint_of(
    dataset: Dataset, *, log: Callable[[str], None] = lambda text: None
) -> Fingerprint:
    """Read every labelled case once; for a task of two dimensions, volumes count as slices.

    Raises
    ------
    DataError
        If there is no labelled case, or a file is unusable (``lunet audit`` lists all problems).
    """
    cases = [case for case in dataset.cases if case.labelled]
    if not cases:
        raise DataError(
            where=dataset.root,
            found="no labelled case",
            expected="at least one is needed for a plan",
        )
    rows = []
    for number, case in enumerate(cases, start=1):
        rows.append(_examine(case, dataset, seed=number))
        if number % 50 == 0 or number == len(cases):
            log(f"read {number} of {len(cases)} cases")
    spacings, shapes, shares, samples, minima, zeros = zip(*rows, strict=True)
    inside = np.concatenate(samples, axis=1)
    whole = np.array(shapes, dtype=np.int64)
    axes = min(dataset.task.dimensions, whole.shape[1])
    return Fingerprint(
        cases=len(cases),
        spacings=np.array(spacings, dtype=np.float64)[:, :axes],
        shapes=whole[:, :axes],
        channels=tuple(
            _channel(name, inside[index], _median(minima, index), _median(zeros, index))
            for index, name in enumerate(dataset.task.channels)
        ),
        foreground=float(np.median(shares)),
        samples=int(whole[:, axes:].prod(axis=1).sum()),
        unit=dataset.unit,
        are_pictures=all(is_picture(path) for case in cases for path in case.images),
    )


def _examine(case: Case, dataset: Dataset, *, seed: int) -> tuple[Any, ...]:
    """Spacing, shape, share of foreground, sampled foreground (channel, voxel), and per channel
    the smallest value and the share of zeros.
    """
    channels, pixel_mm = len(dataset.task.channels), dataset.pixel_mm
    scan = read_image(case.images, channels=channels, pixel_mm=pixel_mm)
    require_finite(scan.array, str(case.images[0]))
    if case.label is None:
        raise DataError(where=case.images[0], found="no label", expected="one is needed")
    label, affine = read_case_label(case.label, dataset.task, dataset.rule, pixel_mm=pixel_mm)
    require_grid(case.label, label.shape, affine, case.images[0], scan.array.shape[1:], scan.affine)
    geometry = plan_geometry(label.shape, scan.affine)
    marked = label > 0
    inside = scan.array[:, marked] if marked.any() else scan.array.reshape(len(scan.array), -1)
    chosen = np.random.default_rng(seed).permutation(inside.shape[1])[:SAMPLES]
    flat = scan.array.reshape(len(scan.array), -1)
    extra = flat.min(axis=1), (flat == 0).mean(axis=1)
    return geometry.spacing, geometry.shape, float(marked.mean()), inside[:, chosen], *extra


def _median(rows: Sequence[NDArray[Any]], index: int) -> float:
    return float(np.median([row[index] for row in rows]))


def _channel(name: str, values: NDArray[np.float32], minimum: float, zeros: float) -> Channel:
    low, median, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    mean, deviation = float(values.mean(dtype=float)), float(values.std(dtype=float))
    return Channel(name, low, median, high, mean, deviation, minimum, zeros)
