"""Reference segmentations in native space: the raw label files, as class indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lunet.data.prepare import read_case_label
from lunet.data.prepared import Manifest
from lunet.data.scan import LabelRule
from lunet.errors import DataError


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


def label_rule(manifest: Manifest) -> LabelRule:
    """How the values of the raw label files become class indices."""
    stored = manifest.content.get("labels") or {}
    remap = {int(old): int(new) for old, new in (stored.get("remap") or {}).items()}
    codes = stored.get("codes")
    return LabelRule(remap, stored.get("threshold"), frozenset(codes) if codes else None)
