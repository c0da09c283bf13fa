"""What the crop to ``preprocess.size`` cuts off labels, as findings of the audit.

This is known before anything is prepared. The step `preprocess` refuses the same crops.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lunet.data.audit.audit import Audit
from lunet.data.audit.findings import SEVERITIES, Finding, Severity
from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import plan_geometry
from lunet.data.ground_truth import read_case_label
from lunet.data.prepared import percent
from lunet.data.preprocess import prepare_label
from lunet.data.settings import PreprocessSettings
from lunet.errors import DataError

_ADVICE = "leave preprocess.size out, enlarge it, or set preprocess.crop_labels"


def with_crop(result: Audit, settings: PreprocessSettings) -> Audit:
    """The audit, with a finding for each case whose label the crop cuts; errors unless allowed."""
    if settings.size is None:
        return result
    severity: Severity = "warning" if settings.crop_labels else "error"
    size = "x".join(map(str, settings.size))
    found = [
        Finding(
            severity,
            "cropped_label",
            case=case.id,
            file=str(case.label),
            field="preprocess.size",
            found=f"the crop to {size} voxels cuts {percent(share)} of the label off",
            expected="labels must stay whole",
            command=_ADVICE,
        )
        for case in result.dataset.cases
        if (share := _share_lost(case, result.dataset, settings)) > 0
    ]
    # stable: within a severity the crop comes last
    findings = sorted([*result.findings, *found], key=lambda f: SEVERITIES.index(f.severity))
    return replace(result, findings=tuple(findings))


def _share_lost(case: Case, dataset: Dataset, settings: PreprocessSettings) -> float:
    """Share of the label's voxels that the crop cuts off; 0 for a file that cannot be read."""
    if case.label is None:
        return 0.0
    try:
        array, affine = read_case_label(case.label, dataset.task, dataset.rule)
        geometry = plan_geometry(
            array.shape,
            affine,
            orientation=settings.orientation,
            spacing=settings.spacing,
            size=settings.size,
        )
        prepared, lost = prepare_label(array, geometry)
    except DataError:
        return 0.0  # the audit has a finding about this file
    return lost / (lost + np.count_nonzero(prepared)) if lost > 0 else 0.0
