"""Chooses threshold, flips and largest component on validation cases, never on test cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lunet.data.ground_truth import read_reference
from lunet.data.prepared import Manifest, PreparedCase
from lunet.errors import DataError
from lunet.inference.decode import Channels, postprocess
from lunet.inference.settings import PredictSettings
from lunet.task import Task

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
CHOSEN = ("threshold", "flip_axes", "largest_component")
Predictor = Callable[[PreparedCase, PredictSettings], Channels]


def choose_postprocessing(
    manifest: Manifest,
    names: Sequence[str],
    predictor: Predictor,
    settings: PredictSettings,
    *,
    log: Callable[[str], None] = print,
) -> tuple[PredictSettings, float]:
    """The settings with the largest mean Dice over the named validation cases.

    All combinations are tried of no flips and ``settings.flip_axes``, with and without the largest
    component, and for sigmoid outputs :data:`THRESHOLDS`. On a tie ``settings`` are chosen.

    Parameters
    ----------
    predictor
        Returns a case's probability channels in native space for given flips.

    Returns
    -------
    The settings, and their mean Dice over cases and structures; a structure that is in neither
    the reference nor the prediction is left out.

    Raises
    ------
    DataError
        If there are no validation cases.
    """
    if not names:
        raise DataError(
            where=manifest.path,
            found="no validation cases",
            expected="predict.choose needs some",
            action="Set split.validation above 0, or predict.choose to false",
        )
    tried = candidate_settings(settings, manifest.task)
    rows = []
    for number, name in enumerate(names, start=1):
        rows.append(_scores(manifest, name, predictor, tried))
        log(f"tried {len(tried)} settings on {name} ({number}/{len(names)})")
    means = np.array(
        [
            np.mean(column[np.isfinite(column)] if np.isfinite(column).any() else 0.0)
            for column in np.array(rows).T
        ]
    )
    return tried[int(means.argmax())], float(means.max())


def _scores(
    manifest: Manifest, name: str, predictor: Predictor, tried: Sequence[PredictSettings]
) -> list[float]:
    """Mean Dice of a case with each of the settings; the network runs once for each flip."""
    truth, _ = read_reference(manifest, name)
    channels: dict[tuple[int, ...], Channels] = {}
    scores = []
    for option in tried:
        if option.flip_axes not in channels:
            channels[option.flip_axes] = predictor(manifest.case(name), option)
        mask = postprocess(channels[option.flip_axes], manifest.task, option)
        scores.append(mean_dice(truth, mask, manifest.task))
    return scores


def candidate_settings(settings: PredictSettings, task: Task) -> list[PredictSettings]:
    """The settings to try, ``settings`` first."""
    thresholds = THRESHOLDS if task.activation == "sigmoid" else ()
    flips = {(), settings.flip_axes}
    grid = product({settings.threshold, *thresholds}, flips, (False, True))
    rest = [
        dataclasses.replace(settings, threshold=t, flip_axes=f, largest_component=c)
        for t, f, c in sorted(grid)
    ]
    return [settings, *(option for option in rest if option != settings)]


def mean_dice(truth: NDArray[np.uint8], found: NDArray[np.uint8], task: Task) -> float:
    """Mean over the structures of 2 |A and B| / (|A| + |B|); NaN if neither has any."""
    return float(np.mean([*_dice(truth, found, task.structures.values())] or [np.nan]))


def _dice(
    truth: NDArray[np.uint8], found: NDArray[np.uint8], structures: Iterable[tuple[int, ...]]
) -> Iterable[float]:
    # lunet.metrics is not used, so that an edit of the metrics does not rerun predictions
    for indices in structures:
        one, other = np.isin(truth, indices), np.isin(found, indices)
        size = int(one.sum()) + int(other.sum())
        if size:
            yield 2 * int((one & other).sum()) / size
