"""Selects the windows of batch ``step`` of epoch ``epoch``, as a pure function of the seed.

Because nothing is carried over from batch to batch, the position of a sampler is (epoch, step), and
a resumed training draws exactly the same samples as an uninterrupted one.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from torch import Tensor

from lunet.data.io.nifti import slabs
from lunet.errors import ConfigError, TrainingError
from lunet.training.recipe import Recipe
from lunet.training.volumes import Batch, Volumes, Window

_FOREGROUND_VOXELS = 4096
_ORDER, _PLACE, _VOXELS = 1, 2, 3  # separate streams of random numbers


@dataclass(frozen=True)
class Sampler:
    """Batches of whole volumes, patches or slices.

    Attributes
    ----------
    volumes
        The training cases.
    items
        (items, 2) integers: case and slice (-1: all slices) of the items that an epoch draws from.
    foreground
        Whether each item shows foreground; empty unless the sampler is balanced.
    size
        Voxels of a sample per axis (3 numbers; the last is 1 for slices).
    batch_size, steps
        Samples per batch, batches per epoch.
    balanced, slices, seed
        Whether half of the samples, at even positions, show foreground; whether samples are 2D;
        seed of every draw.
    voxels
        Cache of :func:`foreground_voxels`, per case.
    ahead
        The batch that is being gathered while the current one is computed, by epoch and step; none
        if the volumes are on the device.
    """

    volumes: Volumes
    items: np.ndarray
    foreground: np.ndarray
    size: tuple[int, ...] | None
    batch_size: int
    steps: int
    balanced: bool
    slices: bool
    seed: int
    voxels: dict[int, list[np.ndarray]] = field(default_factory=dict, compare=False, repr=False)
    ahead: dict[tuple[int, int], Future[Batch]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def batch(self, epoch: int, step: int) -> Batch:
        """Batch ``step`` (from 0) of ``epoch`` (from 1)."""
        if self.volumes.on_device:
            return self._gather(epoch, step)
        started = self.ahead.pop((epoch, step), None)
        batch = started.result() if started else self._gather(epoch, step)
        following = (epoch, step + 1) if step + 1 < self.steps else (epoch + 1, 0)
        self.ahead.clear()
        self.ahead[following] = _reader().submit(self._gather, *following)
        return batch

    def _gather(self, epoch: int, step: int) -> Batch:
        crops = self.crops(epoch, step)
        size = self.size or self.volumes.shapes[crops[0][0]]
        return self.volumes.gather(crops, size=size, squeeze=self.slices)

    def crops(self, epoch: int, step: int) -> list[tuple[int, Window]]:
        """Case and window of each sample of a batch."""
        first = step * self.batch_size
        order = epoch_order(self, epoch)[first : first + self.batch_size]
        return [self._window(epoch, first + i, item) for i, item in enumerate(order)]

    def _window(self, epoch: int, rank: int, item: int) -> tuple[int, Window]:
        case, index = (int(number) for number in self.items[item])
        shape = self.volumes.shapes[case]
        size = self.size or shape
        if index < 0 and size == shape:
            return case, tuple(slice(0, length) for length in shape)
        rng = np.random.default_rng([self.seed, _PLACE, epoch, rank])
        centre = None
        cut_out = index < 0 or size[:2] != shape[:2]
        if self.balanced and cut_out and rank % 2 == 0:
            labels = self._labels(case) if index < 0 else _in_plane(self.volumes, case, index)
            centre = _random_voxel(labels, rng)
        start = [_start(rng, shape[axis], size[axis], centre, axis) for axis in range(3)]
        if index >= 0:
            start[-1] = index
        ends = [min(s + want, length) for s, want, length in zip(start, size, shape, strict=True)]
        return case, tuple(slice(s, e) for s, e in zip(start, ends, strict=True))

    def _labels(self, case: int) -> list[np.ndarray]:
        if case not in self.voxels:
            self.voxels[case] = foreground_voxels(self.volumes, case, self.seed)
        return self.voxels[case]


def build_sampler(volumes: Volumes, recipe: Recipe, *, dimensions: int, seed: int) -> Sampler:
    """The sampler for ``recipe``, checked before the first step.

    Raises
    ------
    ConfigError
        If the patch has the wrong number of axes, or volumes have several shapes without a patch.
    TrainingError
        If there are fewer samples than ``train.batch_size``: the epoch would have no batch.
    """
    slices = dimensions == 2
    size = _sample_size(volumes, recipe, slices=slices)
    items = _items(volumes, recipe.patches_per_case, slices=slices)
    batch_size = _batch_size(len(items), recipe, what="slices" if slices else "samples")
    balanced = recipe.sampler == "balanced"
    whole = slices or recipe.patch is None
    foreground = _shows_foreground(volumes, items) if balanced and whole else np.zeros(0, bool)
    return Sampler(
        volumes=volumes,
        items=items,
        foreground=foreground,
        size=size,
        batch_size=batch_size,
        steps=_steps(recipe, len(items), batch_size),
        balanced=balanced,
        slices=slices,
        seed=seed,
    )


@cache
def _reader() -> ThreadPoolExecutor:
    """The thread that reads ahead."""
    return ThreadPoolExecutor(1)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def epoch_order(sampler: Sampler, epoch: int) -> np.ndarray:
    """Items in the order of an epoch; if balanced, foreground and background alternate.

    Each epoch has a new order. The rarer of the two kinds is repeated; an epoch shows only a part
    of the other.
    """
    count = sampler.steps * sampler.batch_size
    mixed = _order(sampler.seed, epoch, len(sampler.items))
    shown = sampler.foreground
    if not shown.size or shown.all() or not shown.any():
        return np.resize(mixed, count)
    half = (count + 1) // 2
    kinds = [np.resize(mixed[shown[mixed] == kind], half) for kind in (True, False)]
    return np.stack(kinds, axis=1).ravel()[:count]


def _sample_size(volumes: Volumes, recipe: Recipe, *, slices: bool) -> tuple[int, ...] | None:
    """Voxels of a sample, or None if each sample is a whole volume in a batch of one."""
    axes = 2 if slices else 3
    shapes = sorted({shape[:axes] for shape in volumes.shapes})
    if recipe.patch is not None:
        if len(recipe.patch) != axes:
            raise ConfigError(
                where="train.patch",
                found=f"found {list(recipe.patch)}",
                expected=f"{axes} numbers are expected",
            )
        return (*recipe.patch, 1) if slices else recipe.patch
    if len(shapes) == 1:
        return (*shapes[0], 1) if slices else shapes[0]
    if recipe.batch_size == 1 and not slices:
        return None
    raise ConfigError(
        where="train.patch",
        found=(f"none, but the images have {len(shapes)} shapes, from {shapes[0]} to {shapes[-1]}"),
        expected="a batch needs samples of one shape",
        action="Set train.patch, or preprocess.size, or train.batch_size: 1",
    )


def _items(volumes: Volumes, patches_per_case: int, *, slices: bool) -> np.ndarray:
    if slices:
        pairs = [(c, z) for c, shape in enumerate(volumes.shapes) for z in range(shape[2])]
    else:
        pairs = [(c, -1) for c in range(len(volumes.names)) for _ in range(patches_per_case)]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def _batch_size(samples: int, recipe: Recipe, *, what: str) -> int:
    if samples >= recipe.batch_size:
        return recipe.batch_size
    if samples and recipe.few_samples == "shrink":
        return samples
    raise TrainingError(
        where="train.batch_size",
        found=f"{recipe.batch_size}, but the training part of this fold has {samples} {what}",
        expected="at least one full batch is needed",
        action="Lower train.batch_size, or set train.few_samples: shrink, or use fewer folds "
        "(split.folds) or more cases",
    )


def _steps(recipe: Recipe, samples: int, batch_size: int) -> int:
    """Batches per epoch; an incomplete last one is left out."""
    if recipe.samples_per_epoch is None:
        return samples // batch_size
    if recipe.samples_per_epoch < batch_size:
        raise ConfigError(
            where="train.samples_per_epoch",
            found=f"found {recipe.samples_per_epoch}",
            expected=f"at least one batch of {batch_size} is needed",
        )
    return recipe.samples_per_epoch // batch_size


def _shows_foreground(volumes: Volumes, items: np.ndarray) -> np.ndarray:
    """Whether the label of each item holds foreground; reads each label once."""
    shown = [_on_host(label).any(axis=(0, 1)) for label in volumes.labels]
    return np.array([bool(shown[c].any() if z < 0 else shown[c][z]) for c, z in items])


def _random_voxel(labels: list[np.ndarray], rng: np.random.Generator) -> np.ndarray | None:
    """A random voxel of a random label; None if there is no foreground."""
    if not labels:
        return None
    voxels = labels[rng.integers(len(labels))]
    return voxels[rng.integers(len(voxels))]


def _in_plane(volumes: Volumes, case: int, index: int) -> list[np.ndarray]:
    """The voxels (n, 2) of each label in a slice."""
    plane = _on_host(volumes.labels[case][..., index])
    return [np.argwhere(plane == label) for label in np.unique(plane[plane > 0])]


def foreground_voxels(volumes: Volumes, case: int, seed: int) -> list[np.ndarray]:
    """Up to 4096 voxels (n, 3) of each label that is present; the image is not read."""
    label = _on_host(volumes.labels[case])
    rng = np.random.default_rng([seed, _VOXELS, case])
    # slab by slab, because counts and indices take eight bytes per voxel
    parts = [label[part] for part in slabs(len(label))]
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in parts)
    found = []
    for index in np.flatnonzero(np.asarray(counts)[1:]) + 1:
        starts = np.cumsum([0, *(part.size for part in parts)])
        pairs = zip(parts, starts[:-1], strict=True)
        flat = np.concatenate([np.flatnonzero(part == index) + start for part, start in pairs])
        kept = rng.choice(flat, min(len(flat), _FOREGROUND_VOXELS), replace=False)
        found.append(np.stack(np.unravel_index(np.sort(kept), label.shape), axis=1))
    return found


def _on_host(label: Tensor | np.ndarray) -> np.ndarray:
    return label.cpu().numpy() if isinstance(label, Tensor) else np.asarray(label)


def _start(
    rng: np.random.Generator, length: int, want: int, centre: np.ndarray | None, axis: int
) -> int:
    """First voxel of a window of ``want`` voxels, around ``centre`` if given."""
    low, high = 0, max(0, length - want)
    if centre is not None and axis < len(centre):
        low = min(high, max(0, int(centre[axis]) - want + 1))
        high = min(high, int(centre[axis]))
    return int(rng.integers(low, high + 1))
