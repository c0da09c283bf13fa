"""Checks of one case's values: intensities of the image, classes of the label."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from lunet.data.audit.findings import (
    REPAIR,
    ChannelFacts,
    Finding,
    FindingSite,
    LabelFacts,
    numbers,
)
from lunet.data.geometry import voxel_volume
from lunet.data.io.images import (
    DRIFT,
    LOSSY,
    LabelRule,
    drift_of,
    suffix_of,
    unknown_codes,
    values_text,
)
from lunet.task import Task

BINS = 40
GRID = 12
# Most voxels used for percentiles and moments: all of most volumes, a sample of the largest.
SAMPLES = 4_000_000


def channel_facts(raw: NDArray[Any]) -> ChannelFacts:
    """Range of the finite voxels of one channel; moments and histogram of a regular sample."""
    finite = np.isfinite(raw)
    values = raw.ravel(order="K") if finite.all() else raw[finite]
    if values.size == 0:
        values = np.zeros(1)
    sample = values[:: max(1, values.size // SAMPLES)].astype(np.float64)
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    histogram, _ = np.histogram(sample, bins=BINS, range=(low, high if high > low else low + 1))
    return ChannelFacts(
        dtype=str(raw.dtype),
        minimum=float(values.min()),
        maximum=float(values.max()),
        low=low,
        high=high,
        mean=float(sample.mean()),
        deviation=float(sample.std()),
        saturated=float((values == values.max()).mean()),
        histogram=tuple(int(count) for count in histogram),
    )


def check_channel(raw: NDArray[Any], facts: ChannelFacts, place: FindingSite) -> Iterator[Finding]:
    """Non-finite or constant intensities."""
    broken = raw.size - int(np.isfinite(raw).sum())
    if broken:
        nans = int(np.isnan(raw).sum())
        yield place.error(
            "not_finite",
            "values",
            f"{nans} NaN and {broken - nans} infinite of {raw.size} voxels",
            "finite intensities",
            REPAIR + " --fill-non-finite",
        )
    if facts.minimum == facts.maximum:
        yield place.error(
            "constant_image",
            "values",
            f"all {facts.minimum:g}",
            "an image with contrast",
            "fetch it again, or remove the case",
        )


def check_label_values(
    raw: NDArray[Any], task: Task, rule: LabelRule, place: FindingSite
) -> Iterator[Finding]:
    """Values of a label file that are not finite, fractional, undeclared, or stored as floats."""
    if not np.isfinite(raw).all():
        yield place.error(
            "label_not_finite", "values", "NaN or infinite", "class indices", "fetch it again"
        )
        return
    if rule.threshold is not None:
        return
    values = np.unique(raw)
    drift = drift_of(values)
    if suffix_of(place.file) in LOSSY:
        yield place.error(
            "lossy_label",
            "values",
            numbers(values),
            "a lossless mask, or a threshold",
            f"dataset.mask_threshold={values.max() / 2:.4g}",
        )
    elif drift > DRIFT:
        odd = values[np.abs(values - np.rint(values)) > DRIFT]
        # a threshold merges all labels into one, so it is advised only where there is one
        advice = f"dataset.mask_threshold={values.max() / 2:.4g}, if it is a soft mask"
        yield place.error(
            "fractional_label",
            "values",
            f"{values_text(odd)}, up to {drift:.2g} off whole numbers",
            f"whole class indices, to {DRIFT:g}",
            advice if len(task.labels) == 1 else "store class indices",
        )
    else:
        yield from _check_whole(values, raw.dtype, task, rule, place)


def _check_whole(
    values: NDArray[Any], dtype: np.dtype[Any], task: Task, rule: LabelRule, place: FindingSite
) -> Iterator[Finding]:
    drift = drift_of(values)
    if drift:
        odd = values[values != np.rint(values)]
        found = f"{values_text(odd)}, up to {drift:.2g} off whole numbers: rounded"
        yield place.warning("label_drift", "values", found, "whole class indices", REPAIR)
    elif dtype.kind == "f":
        yield place.warning(
            "float_label", "dtype", f"{dtype}, whole values", "an integer type", REPAIR
        )
    whole = [round(value) for value in values.tolist()]
    unknown = unknown_codes(whole, rule, task.labels.values())
    if unknown:
        declared = ", ".join(f"{name} {index}" for name, index in task.labels.items())
        yield place.error(
            "undeclared_label",
            "values",
            numbers(unknown),
            f"0 and {declared}",
            _remap_advice(unknown, task),
        )


def _remap_advice(unknown: list[int], task: Task) -> str:
    if len(unknown) == 1 and len(task.labels) == 1:
        return f"dataset.remap={{{unknown[0]}: {next(iter(task.labels.values()))}}}"
    return "dataset.labels or dataset.remap"


def label_facts(label: NDArray[np.uint8], affine: NDArray[np.float64]) -> LabelFacts:
    """Volumes, positions and borders of the classes of a label (x, y, z), or (x, y)."""
    volume = label if label.ndim == 3 else label[..., None]
    turned = apply_orientation(volume, io_orientation(affine))
    voxel_ml = voxel_volume(affine) / 1000
    classes = [int(value) for value in np.unique(turned) if value]
    masks = {index: turned == index for index in classes}
    return LabelFacts(
        volumes={index: float(mask.sum()) * voxel_ml for index, mask in masks.items()},
        centroids={index: _centroid(mask) for index, mask in masks.items()},
        touches={index: _faces(mask) for index, mask in masks.items()},
        place=coarse((turned > 0).astype(np.float32)).ravel(),
        digest=digest_of(label),
    )


def _centroid(mask: NDArray[np.bool_]) -> tuple[float, ...]:
    places = []
    for axis, size in enumerate(mask.shape):
        profile = mask.sum(axis=tuple(a for a in range(mask.ndim) if a != axis))
        places.append(float(((np.arange(size) + 0.5) * profile).sum() / profile.sum() / size))
    return tuple(places)


def _faces(mask: NDArray[np.bool_]) -> int:
    """Faces that a class touches, for axes longer than one voxel."""
    faces = [
        np.take(mask, end, axis).any()
        for axis, size in enumerate(mask.shape)
        if size > 1
        for end in (0, -1)
    ]
    return int(sum(faces))


def coarse(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of ``volume`` over the cells of a GRID x GRID x GRID partition of it."""
    result: NDArray[Any] = volume
    for axis, size in enumerate(volume.shape):
        edges = np.unique(np.linspace(0, size, min(GRID, size) + 1).astype(int))
        sums = np.add.reduceat(result, edges[:-1], axis=axis)
        widths = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(volume.ndim)])
        result = sums / widths
    padding = [(0, GRID - n) for n in result.shape]
    return np.pad(result, padding, mode="edge").astype(np.float32)


def pattern_of(channel: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """Coarse picture of an image, RAS+ axes, of mean 0 and length 1: for finding look-alikes."""
    volume = channel if channel.ndim == 3 else channel[..., None]
    finite = np.nan_to_num(volume.astype(np.float32), nan=0, posinf=0, neginf=0)
    cells = coarse(apply_orientation(finite, io_orientation(affine))).ravel()
    cells = cells - cells.mean()
    return cells / max(float(np.linalg.norm(cells)), 1e-12)


def digest_of(array: NDArray[Any]) -> str:
    """Checksum of an array's shape and values, whatever its dtype."""
    digest = hashlib.sha256(f"{array.shape}".encode())
    for part in array:  # slab by slab: no second copy of a large volume
        digest.update(np.ascontiguousarray(part, dtype=np.float32).data)
    return digest.hexdigest()


def check_structures(facts: LabelFacts, task: Task, place: FindingSite) -> Iterator[Finding]:
    """A label file without any foreground."""
    if not facts.volumes:
        yield place.warning(
            "empty_label",
            "values",
            "background only",
            f"some of {', '.join(task.labels)}",
            "check it, or remove the case",
        )
