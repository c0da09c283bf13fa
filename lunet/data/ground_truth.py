"""Reference segmentations in native space: the raw label files, as class indices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lunet.data.io.images import LabelRule, read_label
from lunet.data.prepared import Manifest
from lunet.errors import DataError
from lunet.task import Task


def read_reference(manifest: Manifest, case: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The raw label of a prepared case, remapped as the data set asks.

    Returns
    -------
    uint8 (x, y, z) on the raw grid, and the affine (4, 4) in mm.

    Raises
    ------
    DataError
        If the case has no label, or its file is missing or damaged.
    """
    path = manifest.case(case).raw_label
    if path is None:
        raise DataError(manifest.path, f"case {case} has no label", "one is needed to evaluate")
    return read_case_label(path, manifest.task, label_rule(manifest))


def read_case_label(
    path: Path, task: Task, rule: LabelRule
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A raw label as class indices, refused if it has one that the task does not declare.

    Returns
    -------
    uint8 (x, y, z) on the raw grid, and the affine (4, 4).
    """
    array, affine = read_label(path, rule)
    unknown = sorted({int(value) for value in np.unique(array)} - {0, *task.labels.values()})
    if unknown:
        raise DataError(
            path,
            f"label value(s) {', '.join(map(str, unknown))}",
            f"declared are 0 and {task.labels}",
            "Correct dataset.labels, or map the values with dataset.remap",
        )
    return array, affine


def label_rule(manifest: Manifest) -> LabelRule:
    """How the values of the raw label files become class indices."""
    stored = manifest.content.get("labels") or {}
    remap = {int(old): int(new) for old, new in (stored.get("remap") or {}).items()}
    codes = stored.get("codes")
    return LabelRule(remap, stored.get("threshold"), frozenset(codes) if codes else None)
