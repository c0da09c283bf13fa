"""Turns probabilities into class indices: threshold, arg max, regions, largest component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lunet.data.io.nifti import slabs
from lunet.inference.settings import PredictSettings
from lunet.task import Task

Indices = NDArray[np.uint8]
_EPSILON = 1e-6


class Channels(Protocol):
    """Anything whose item k is the probability map of channel k: an array, or lazily computed."""

    def __getitem__(self, channel: int, /) -> NDArray[Any]: ...


def decode(channels: Channels, task: Task, *, threshold: float = 0.5) -> Indices:
    """Class indices from a probability map.

    Parameters
    ----------
    channels
        Channel number -> probabilities (\\*spatial); a list, an array or anything with the same
        indexing. Channels are fetched one by one, so they may be computed lazily.
    task
        Defines what the channels mean.
    threshold
        Probability above which a sigmoid channel is on.

    Returns
    -------
    uint8 class indices as on disk, background 0.

    Softmax takes the largest channel. With sigmoid regions each voxel gets the label whose set of
    regions is the most probable one (independent channels, maximum likelihood); where the
    thresholded regions are exactly the regions of a label, this is that label. Labels in the same
    regions cannot be distinguished: the voxel gets the first of them.
    """
    if task.activation == "softmax":
        return _largest(channels, (0, *task.labels.values()))
    maps = [channels[channel] for channel in range(len(task.structures))]
    indices = np.zeros(maps[0].shape, np.uint8)
    for slab in slabs(len(indices)):  # odds of all labels, of a few planes at a time
        indices[slab] = _most_probable([part[slab] for part in maps], task, threshold)
    return indices


def _largest(channels: Channels, classes: Sequence[int]) -> Indices:
    """The class of the largest channel; ties go to the first."""
    best = np.array(channels[0], np.float32)
    indices = np.full(best.shape, classes[0], np.uint8)
    for channel, index in enumerate(classes[1:], start=1):
        score = channels[channel]
        for slab in slabs(len(best)):
            wins = score[slab] > best[slab]
            indices[slab][wins] = index
            np.copyto(best[slab], score[slab], where=wins)
        del score  # before the next one is computed
    return indices


def _most_probable(maps: Sequence[NDArray[Any]], task: Task, threshold: float) -> Indices:
    """The label whose set of regions is the most probable one; ties go to the background."""
    odds = [_log_odds(part, threshold) for part in maps]
    best = np.zeros_like(odds[0])
    indices = np.zeros(best.shape, np.uint8)
    for index in task.labels.values():
        member = [o for o, s in zip(odds, task.structures.values(), strict=True) if index in s]
        if member:
            score = np.sum(member, axis=0)
            wins = score > best
            indices[wins] = index
            np.copyto(best, score, where=wins)
    return indices


def _log_odds(probability: NDArray[Any], threshold: float) -> NDArray[Any]:
    p = np.clip(np.asarray(probability, np.float32), _EPSILON, 1 - _EPSILON)
    t = float(np.clip(threshold, _EPSILON, 1 - _EPSILON))
    return np.log(p) - np.log1p(-p) - np.float32(np.log(t) - np.log1p(-t))


def largest_components(indices: Indices) -> Indices:
    """Keep the largest face-connected component of each label; the rest becomes background.

    Of two components of equal size the one that comes first in memory order is kept.
    """
    kept = np.zeros_like(indices)
    for number, box in enumerate(ndimage.find_objects(indices), start=1):
        if box is None:
            continue
        parts, _ = ndimage.label(indices[box] == number)
        sizes = np.bincount(parts.ravel())
        sizes[0] = 0
        kept[box][parts == sizes.argmax()] = number
    return kept


def postprocess(channels: Channels, task: Task, settings: PredictSettings) -> Indices:
    """Class indices from a probability map, processed according to ``settings``."""
    mask = decode(channels, task, threshold=settings.threshold)
    return largest_components(mask) if settings.largest_component else mask
