"""Reference segmentations in native space: the raw label files, as class indices.

Predictions are scored against the labels that were prepared and trained on: a label that has
changed since then is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lunet.data.io.images import LabelRule, PixelSize, read_label
from lunet.data.prepared import Manifest
from lunet.errors import DataError
from lunet.task import Task


def read_reference(manifest: Manifest, case: str) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The raw label of a prepared case, remapped by the data set's rule.

    Returns
    -------
    uint8 (x, y, z) on the raw grid, and the affine (4, 4) in mm (in px for pictures
    without a known size).

    Raises
    ------
    DataError
        If the case has no label, its file is missing or damaged, or the label has changed since
        the data set was prepared.
    """
    path = manifest.case(case).raw_label
    if path is None:
        raise DataError(
            where=manifest.path,
            found=f"case {case} has no label",
            expected="one is needed to evaluate",
        )
    rule = label_rule(manifest)
    array, affine = read_case_label(path, manifest.task, rule, pixel_mm=manifest.pixel_mm)
    prepared = manifest.case(case).record["raw"].get("label_sha256")
    if label_digest(array, affine) != prepared:
        raise DataError(
            where=path,
            found=f"the label of case {case} has changed since {manifest.path} was made",
            expected="scores need the label that was prepared and trained on",
            action=(
                "Put the label back, or start the study (or `lunet preprocess`) again with "
                "the new one"
            ),
        )
    return array, affine


def label_digest(array: NDArray[np.uint8], affine: NDArray[np.float64]) -> str:
    """SHA-256 of a label on the raw grid: class indices (x, y, z) uint8, and affine (4, 4) in mm.

    The affine is rounded to 0.001 mm; the compression of the file does not matter.
    """
    grid = np.round(np.asarray(affine, np.float64), 3) + 0.0  # -0.0 is 0.0
    digest = hashlib.sha256(f"{array.shape} {grid.tolist()}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_case_label(
    path: Path, task: Task, rule: LabelRule, *, pixel_mm: PixelSize | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Read a raw label as class indices; refuse any that the task does not declare.

    Returns
    -------
    uint8 (x, y, z) on the raw grid, and the affine (4, 4).
    """
    array, affine = read_label(path, rule, pixel_mm=pixel_mm)
    unknown = sorted({int(value) for value in np.unique(array)} - {0, *task.labels.values()})
    if unknown:
        raise DataError(
            where=path,
            found=f"label value(s) {', '.join(map(str, unknown))}",
            expected=f"the task declares 0 and {task.labels}",
            action="Correct dataset.labels, or map the values with dataset.remap",
        )
    return array, affine


def label_rule(manifest: Manifest) -> LabelRule:
    """How the values of the raw label files become class indices."""
    stored = manifest.content.get("labels") or {}
    remap = {int(old): int(new) for old, new in (stored.get("remap") or {}).items()}
    codes = stored.get("codes")
    return LabelRule(remap, stored.get("threshold"), frozenset(codes) if codes else None)
