"""A proposal for spacing, intensities, topology, patch and batch, each with its reason.

The rules for spacing, topology and patch follow Isensee et al., Nature Methods 18, 203 (2021).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lunet.data.fingerprint import Fingerprint
from lunet.data.topology import Topology, explain, plan_topology
from lunet.errors import DataError
from lunet.task import of_pictures

# Coarsest over finest voxel size above which a data set counts as anisotropic.
ANISOTROPIC = 3.0
# Share of zero voxels above which the background counts as masked (skull stripping).
MASKED = 0.25
_AIR = -500.0  # Hounsfield units: air is below this, no tissue is
_GREY = 255.0  # brightest value of a picture of 8 bits


@dataclass(frozen=True)
class NetworkCost:
    """What one training step of a network costs, and which sizes it can take.

    Attributes
    ----------
    bytes_per_voxel
        Live bytes per voxel of the batch, in a training step.
    fixed_bytes
        Bytes that do not depend on the batch: weights, gradients, optimiser state.
    multiple
        Legal sizes are multiples of this, per axis.
    """

    bytes_per_voxel: float
    fixed_bytes: float
    multiple: tuple[int, ...]


@dataclass(frozen=True)
class Choice:
    """One key of the configuration, its proposed value and why."""

    key: str
    value: Any
    reason: str


def propose(
    fingerprint: Fingerprint,
    cost_of: Callable[[Topology], NetworkCost],
    *,
    memory: float,
    largest_batch: int = 16,
) -> tuple[Choice, ...]:
    """Propose ``preprocess``, ``topology``, ``train`` and ``predict`` keys of a configuration.

    Parameters
    ----------
    fingerprint
        Fingerprint of the raw data set.
    cost_of
        Cost of the network to be trained, given the topology.
    memory
        Bytes that a training may use.
    largest_batch
        Largest batch to propose.

    Raises
    ------
    DataError
        If not even one smallest patch fits into the memory.
    """
    spacing = _spacing(fingerprint)
    shapes = _resampled(fingerprint, spacing.value)
    median = np.median(fingerprint.spacings, axis=0)
    millimetres = median if spacing.value == "keep" else np.array(spacing.value)
    what = fingerprint.sample
    sizes_for = partial(
        _sizes, what, shapes, millimetres, memory=memory, largest_batch=largest_batch
    )
    topology, sizes = _fitted(
        [float(mm) for mm in millimetres],
        [int(n) for n in shapes.max(axis=0)],
        lambda topology: sizes_for(cost=cost_of(topology)),
    )
    choices = (spacing, *_intensities(fingerprint), *topology, *sizes)
    if fingerprint.are_pictures:
        choices = tuple(replace(choice, reason=of_pictures(choice.reason)) for choice in choices)
    return choices


def _fitted(
    spacing: Sequence[float],
    longest: Sequence[int],
    sizes_for: Callable[[Topology], tuple[Choice, ...]],
) -> tuple[tuple[Choice, ...], tuple[Choice, ...]]:
    """Topology and sizes that fit each other: a patch has its topology, which costs its memory.

    The first topology is that of the ``longest`` volume; padding adds no level. A shorter patch may
    have fewer levels, which leave room for a longer one; the second visit of a topology ends the
    search.
    """
    topology, seen = plan_topology(spacing, longest), set[Topology]()
    while topology not in seen:
        seen.add(topology)
        sizes, fitted = sizes_for(topology), topology
        found = {choice.key: choice.value for choice in sizes}
        padded = found["preprocess.size"] or found["train.patch"]
        size = [min(n, most) for n, most in zip(padded, longest, strict=True)]
        topology = plan_topology(spacing, size)
    reason = explain(fitted, spacing, padded)
    return (
        Choice("topology.strides", [list(step) for step in fitted.strides], reason),
        Choice(
            "topology.kernels",
            [list(kernel) for kernel in fitted.kernels],
            "for presets with `topology: planned`; their widths continue to as many levels",
        ),
    ), sizes


def _spacing(fingerprint: Fingerprint) -> Choice:
    spacings = fingerprint.spacings
    if fingerprint.unit == "px":
        return Choice("preprocess.spacing", "keep", "pictures without a physical size, in pixels")
    median = np.median(spacings, axis=0)
    spread = float((spacings.max(axis=0) / spacings.min(axis=0)).max())
    shown = " x ".join(f"{value:.3g}" for value in median)
    if spread < 1.01:
        return Choice("preprocess.spacing", "keep", f"all images have {shown} mm")
    target, reason = median.copy(), f"median spacing; spacings differ by up to {spread:.2g} times"
    worst = int(median.argmax())
    others = np.delete(median, worst)
    size = np.median(fingerprint.shapes, axis=0)
    thin = size[worst] * ANISOTROPIC < np.delete(size, worst).min()
    if len(median) == 3 and median[worst] > ANISOTROPIC * others.min() and thin:
        target[worst] = max(float(np.percentile(spacings[:, worst], 10)), float(others.max()))
        reason += (
            f"; axis {worst} is {median[worst] / others.min():.2g} times coarser than the finest, "
            "so its 10th percentile is taken to keep the thin slices"
        )
    return Choice("preprocess.spacing", [round(float(value), 4) for value in target], reason)


def _resampled(fingerprint: Fingerprint, spacing: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Shapes (case, axis) in voxels after resampling."""
    if spacing == "keep":
        return fingerprint.shapes
    factors = fingerprint.spacings / np.array(spacing)
    return np.maximum(1, np.rint(fingerprint.shapes * factors)).astype(np.int64)


def _intensities(fingerprint: Fingerprint) -> tuple[Choice, ...]:
    first = fingerprint.channels[0]
    named = all(re.search(r"\bct\b", c.name.lower()) for c in fingerprint.channels)
    named = named and not _is_grey(fingerprint)
    if named or first.minimum < _AIR:
        why = "the channel is called CT" if named else f"intensities go down to {first.minimum:.0f}"
        window = [round(first.low, 1), round(first.high, 1)]
        return (
            Choice(
                "preprocess.window",
                window,
                f"{why}: Hounsfield units mean the same in all images, so they share one window, "
                "the percentiles 0.5 and 99.5 of the foreground",
            ),
            Choice("preprocess.normalise", "zscore", "networks train best on unit variance"),
        )
    if min(channel.zeros for channel in fingerprint.channels) > MASKED:
        share = f"{100 * first.zeros:.0f} % of the voxels are exactly zero"
        why = f"{share}: masked background is left out of mean and deviation"
        return (
            Choice("preprocess.clip", [0.5, 99.5], "no physical unit: outliers are cut per image"),
            Choice("preprocess.normalise", "zscore_nonzero", why),
        )
    return (
        Choice("preprocess.clip", [0.5, 99.5], "no physical unit: outliers are cut per image"),
        Choice(
            "preprocess.normalise",
            "zscore",
            f"intensities of {first.name} have no common scale, so each image is normalised",
        ),
    )


def _is_grey(fingerprint: Fingerprint) -> bool:
    """Whether intensities are those of pictures of 8 bits, whatever the channel is called."""
    return all(c.minimum >= 0 and c.high <= _GREY for c in fingerprint.channels)


def _sizes(
    what: str,
    shapes: np.ndarray[Any, np.dtype[np.int64]],
    spacing: np.ndarray[Any, np.dtype[np.float64]],
    cost: NetworkCost,
    memory: float,
    largest_batch: int,
) -> tuple[Choice, ...]:
    multiple = cost.multiple[: shapes.shape[1]]
    legal = ", ".join(str(m) for m in multiple)
    whole = _rounded(shapes.max(axis=0), multiple)
    batch = _batch(whole, cost, memory, largest_batch)
    if batch >= 2:
        why = f"the largest {what}, {_by(shapes.max(axis=0))}, rounded up to multiples of {legal}"
        return (
            Choice("preprocess.size", list(whole), f"{why}; whole {what}s fit into memory"),
            Choice("train.batch_size", batch, _memory_text(what, whole, batch, cost, memory)),
        )
    median = np.median(shapes, axis=0)
    patch = _patch(median, spacing, multiple, cost, memory)
    batch = _batch(patch, cost, memory, largest_batch)
    reason = (
        f"two whole {what}s (median {_by(median)}) do not fit into memory; the axes that are "
        f"longest were shortened first, in multiples of {legal}"
    )
    return (
        Choice("preprocess.size", None, f"patches are taken from {what}s of any size"),
        Choice("train.patch", list(patch), reason),
        Choice("train.batch_size", batch, _memory_text(what, patch, batch, cost, memory)),
        Choice("predict.patch", list(patch), "the patch size used in training"),
    )


def _patch(
    median: np.ndarray[Any, np.dtype[np.float64]],
    spacing: np.ndarray[Any, np.dtype[np.float64]],
    multiple: Sequence[int],
    cost: NetworkCost,
    memory: float,
) -> tuple[int, ...]:
    """The median shape, shortened along its longest axis in mm until two patches fit.

    A patch then covers about the same distance along each axis, with fewer voxels along a coarse
    one.
    """
    patch = list(_rounded(median, multiple))
    while _batch(patch, cost, memory, 2) < 2:
        trios = zip(patch, spacing, multiple, strict=True)
        extents = [n * mm if n > least else 0 for n, mm, least in trios]
        axis = int(np.argmax(extents))
        if extents[axis] == 0:
            break
        patch[axis] -= multiple[axis]
    if _batch(patch, cost, memory, 2) < 1:
        raise DataError(
            where="memory",
            found=f"{memory / 2**30:.2f} GiB do not hold one patch of {_by(patch)}",
            expected=(
                f"{(cost.fixed_bytes + cost.bytes_per_voxel * math.prod(patch)) / 2**30:.2f} GiB"
            ),
            action="Choose a smaller preset, or another device",
        )
    return tuple(patch)


def _batch(size: Sequence[int], cost: NetworkCost, memory: float, largest: int) -> int:
    left = memory - cost.fixed_bytes
    return max(0, min(largest, int(left // (cost.bytes_per_voxel * math.prod(size)))))


def _rounded(size: Any, multiple: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.ceil(n / m) * m for n, m in zip(size, multiple, strict=True))


def _memory_text(
    what: str, size: Sequence[int], batch: int, cost: NetworkCost, memory: float
) -> str:
    used = cost.fixed_bytes + batch * cost.bytes_per_voxel * math.prod(size)
    return (
        f"a step of {batch} {what}{'s' * (batch != 1)} takes about "
        f"{used / 2**30:.2f} of {memory / 2**30:.2f} GiB "
        f"({cost.bytes_per_voxel / 1024:.2g} KiB per voxel)"
    )


def _by(size: Any) -> str:
    return " x ".join(f"{int(value)}" for value in size)


def plan_yaml(choices: Sequence[Choice], fingerprint: Fingerprint) -> str:
    """The plan as a part of a configuration, with the reasons as comments; meant to be edited."""
    lines = ["# Proposed by `lunet plan`; every value may be changed."]
    lines += [f"# {key}: {json.dumps(value)}" for key, value in fingerprint.as_dict().items()]
    section = ""
    for choice in sorted(choices, key=lambda choice: choice.key.partition(".")[0]):
        name, _, key = choice.key.partition(".")
        if name != section:
            lines.append(f"\n{name}:")
            section = name
        lines += [f"  # {choice.reason}", f"  {key}: {json.dumps(choice.value)}"]
    return "\n".join(lines) + "\n"


def plan_dict(choices: Sequence[Choice], fingerprint: Fingerprint) -> dict[str, Any]:
    """The plan as plain JSON values: sections, reasons by key, and the fingerprint."""
    sections: dict[str, dict[str, Any]] = {}
    for choice in choices:
        name, _, key = choice.key.partition(".")
        sections.setdefault(name, {})[key] = choice.value
    reasons = {choice.key: choice.reason for choice in choices}
    return {**sections, "reasons": reasons, "fingerprint": fingerprint.as_dict()}
