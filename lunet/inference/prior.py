"""The baseline of every study: the mean of the training labels, which never looks at an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lunet.data.prepared import Manifest, PreparedCase, read_manifest
from lunet.data.preprocess import to_native
from lunet.data.resampling import centred
from lunet.errors import DataError
from lunet.inference.output import geometry_of, read_fold, write_predictions
from lunet.task import Task

Indices = NDArray[np.uint8]
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 19))  # 0.10 to 0.90


@dataclass(frozen=True)
class Prior:
    """Frequencies of the labels over the training cases, volumes aligned at their centres.

    Attributes
    ----------
    indices
        Class index of each channel.
    frequency
        (label, x, y, z) float32: share of training cases with that label at that voxel.
    threshold
        Voxels where the labels together are more frequent than this are foreground.
    """

    indices: tuple[int, ...]
    frequency: NDArray[np.float32]
    threshold: float = 0.5

    def segment(self, shape: Sequence[int]) -> Indices:
        """Class indices for a volume of ``shape`` voxels, whatever it shows."""
        here = np.stack([centred(channel, shape) for channel in self.frequency])
        winner = np.asarray(self.indices, np.uint8)[here.argmax(axis=0)]
        winner[here.sum(axis=0) <= self.threshold] = 0
        return winner


def fit_prior(
    task: Task, training: Iterable[PreparedCase], selection: Iterable[PreparedCase]
) -> Prior:
    """Mean of the training labels in prepared space.

    Volumes are aligned at their centres, in voxels, as preprocessing crops and pads
    them. The threshold is the one of :data:`THRESHOLDS` whose mean foreground Dice over the
    ``selection`` cases is largest (0.5 suits only structures that overlap much).

    Raises
    ------
    DataError
        If there is no training case.
    """
    cases = list(training)
    if not cases:
        raise DataError(
            where="atlas prior", found="no training cases", expected="at least one is needed"
        )
    shape = np.max([case.shape for case in cases], axis=0)
    indices = tuple(task.labels.values())
    total = np.zeros((len(indices), *shape), np.float32)
    for case in cases:
        label = centred(np.asarray(case.label()), shape)
        for channel, index in enumerate(indices):
            total[channel] += label == index
    prior = Prior(indices, (total / len(cases)).astype(np.float32))
    return Prior(indices, prior.frequency, _best_threshold(prior, list(selection) or cases))


def predict_prior(
    manifest_path: str | Path,
    splits_path: str | Path,
    *,
    fold: int,
    out: str | Path,
    log: Callable[[str], None] = print,
) -> None:
    """Write the prior of a fold's training cases as the prediction for its test cases.

    The threshold is chosen on the validation cases, or on the training cases if there are none.
    """
    manifest = read_manifest(manifest_path)
    parts = read_fold(splits_path, fold)
    prior = fit_prior(
        manifest.task, _cases(manifest, parts.train), _cases(manifest, parts.validation)
    )
    log(f"atlas prior of {len(parts.train)} cases, threshold {prior.threshold:g}")

    def segmenter(case: PreparedCase) -> Indices:
        return to_native(prior.segment(case.shape), geometry_of(case))

    write_predictions(manifest, parts.test, segmenter, out, log=log)


def _cases(manifest: Manifest, names: Iterable[str]) -> list[PreparedCase]:
    return [manifest.case(name) for name in names]


def _best_threshold(prior: Prior, cases: Sequence[PreparedCase]) -> float:
    scores = np.zeros(len(THRESHOLDS))
    for case in cases:
        here = centred(prior.frequency.sum(axis=0), case.shape)
        truth = np.isin(case.label(), prior.indices)
        inside, outside = here[truth], here[~truth]
        for number, threshold in enumerate(THRESHOLDS):
            hits, extra = (inside > threshold).sum(), (outside > threshold).sum()
            scores[number] += 2 * hits / max(truth.sum() + hits + extra, 1)
    return THRESHOLDS[int(scores.argmax())]
