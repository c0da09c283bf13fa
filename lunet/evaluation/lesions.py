"""Lesion-wise results of a run: what was found in each patient, at each threshold.

Dice is per patient and cannot distinguish one missed lesion from all lesions segmented too small;
pooled pixels show little where 0.4 % of them are foreground. So lesions and false positives are
counted per patient, and pixel accuracy is given next to the accuracy of predicting nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.ground_truth import read_reference
from lunet.data.io.images import LabelRule
from lunet.data.prepared import Manifest, read_manifest
from lunet.evaluation.pairs import (
    RUN_COLUMNS,
    EvaluatedRun,
    expected_cases,
    predictions_in,
    read_predicted,
)
from lunet.files import write_csv
from lunet.inference.probability_maps import FOLDER, read_map
from lunet.metrics.lesions import count_lesions, image_froc
from lunet.metrics.settings import LesionSettings
from lunet.metrics.thresholds import FROC_THRESHOLDS

Mask = NDArray[np.bool_]
Row = dict[str, Any]
LEVELS = np.arange(1, FROC_THRESHOLDS.size + 1, 2)
"""Steps of a map at which the FROC curve is measured: every second threshold."""
COUNTS = (
    "lesions",
    "found",
    "false_positives",
    "sensitivity",
    "pixel_accuracy",
    "pixel_accuracy_of_nothing",
)
LESION_COLUMNS = (*RUN_COLUMNS, "label", *COUNTS)
FROC_COLUMNS = (*RUN_COLUMNS, "label", "threshold", "lesions", "found", "false_positives")


@dataclass(frozen=True)
class Patient:
    """One case: its reference, its prediction and, if predicted, its map in steps per structure."""

    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    steps: NDArray[np.uint8] | None


def lesions_of_run(
    manifest_path: str | Path,
    splits_path: str | Path | None,
    predictions: str | Path,
    *,
    run: EvaluatedRun,
    settings: LesionSettings,
    out: str | Path,
    froc: str | Path,
    subset: str = "test",
    log: Callable[[str], None] = print,
) -> None:
    """Count lesions in a run's masks and probability maps; write two tables.

    Parameters
    ----------
    manifest_path, splits_path, predictions, run, subset
        As in :func:`lunet.evaluation.evaluation.evaluate_run`; the folder of predictions also holds
        ``probabilities/`` (:mod:`lunet.inference.probability_maps`). A missing mask is empty.
    out
        CSV with a row per case and structure, ``LESION_COLUMNS``. A lesion is a connected
        component in native space (:mod:`lunet.metrics.lesions`).
    froc
        CSV with a row per case, structure and threshold, ``FROC_COLUMNS``.

    Raises
    ------
    DataError
        If maps are missing, or predictions do not belong to the cases or are on another grid.
    """
    manifest = read_manifest(manifest_path)
    names = expected_cases(manifest.cases, splits_path, run.fold, subset)
    found = predictions_in(predictions, names, known=manifest.cases, log=log)
    counts: list[Row] = []
    curve: list[Row] = []
    for name in names:
        patient = _read(manifest, name, found.get(name), Path(predictions) / FOLDER, log)
        head = run.head(name, manifest.case(name).group)
        for index, (label, members) in enumerate(manifest.task.structures.items()):
            row = head | {"label": label}
            counts.append(row | _counts(patient, members, settings))
            curve += [row | point for point in _curve(patient, index, members, settings)]
            log(f"{name}, {label}: {_summary(counts[-1])}")
    write_csv(froc, FROC_COLUMNS, curve)
    write_csv(out, LESION_COLUMNS, counts)


def _read(
    manifest: Manifest, name: str, mask: Path | None, maps: Path, log: Callable[[str], None]
) -> Patient:
    reference = read_reference(manifest, name)
    origin = str(manifest.case(name).raw_label)
    prediction = read_predicted(
        mask, reference, origin, LabelRule(), log, pixel_mm=manifest.pixel_mm
    )
    steps = read_map(maps, name, task=manifest.task) if mask is not None else None
    return Patient(reference[0], prediction, steps)


def _counts(patient: Patient, members: tuple[int, ...], settings: LesionSettings) -> Row:
    truth, guess = (np.isin(array, members) for array in (patient.reference, patient.prediction))
    counted = count_lesions(truth, guess, overlap=settings.overlap, precision=settings.precision)
    values = (
        counted.lesions,
        counted.found,
        counted.false_positives,
        counted.sensitivity,
        float((truth == guess).mean()),
        float(1 - truth.mean()),
    )
    return dict(zip(COUNTS, values, strict=True))


def _curve(
    patient: Patient, index: int, members: tuple[int, ...], settings: LesionSettings
) -> Iterator[Row]:
    """Counts at each threshold of structure number ``index``."""
    truth = np.isin(patient.reference, members)
    steps = np.zeros(truth.shape, np.uint8)
    if patient.steps is not None:
        steps = patient.steps[..., index].reshape(truth.shape)
    froc = image_froc(
        truth, steps, levels=LEVELS, overlap=settings.overlap, precision=settings.precision
    )
    points = zip(LEVELS, froc.found, froc.false_positives, strict=True)
    for level, found, false_positives in points:
        yield {
            "threshold": float(FROC_THRESHOLDS[level - 1]),
            "lesions": froc.lesions,
            "found": int(found),
            "false_positives": int(false_positives),
        }


def _summary(row: Row) -> str:
    return (
        f"{row['found']} of {row['lesions']} lesions, {row['false_positives']} false positives; "
        f"pixel accuracy {row['pixel_accuracy']:.5f} (uninformative: predicting nothing has "
        f"{row['pixel_accuracy_of_nothing']:.5f})"
    )
