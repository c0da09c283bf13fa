"""Takes somebody else's finished predictions as a run of the study: checked, in its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.ground_truth import read_reference
from lunet.data.io.images import LabelRule, read_raw
from lunet.data.io.write import write_nifti
from lunet.data.prepared import Manifest, read_manifest
from lunet.errors import DataError
from lunet.evaluation.external_labels import theirs_to_ours
from lunet.evaluation.external_settings import ExternalSettings
from lunet.evaluation.external_source import (
    TRAINING,
    Source,
    check_split,
    find_source,
    source_digest,
)
from lunet.evaluation.pairs import EvaluatedRun, read_predicted, refuse_extra, some
from lunet.files import write_json
from lunet.inference.output import SUFFIX, subset_cases
from lunet.own_files import claim, claim_files, discard
from lunet.provenance import stamp
from lunet.reading import read_object
from lunet.task import Task

STEP, RECORD = "external", "run.json"
SEED = 0
"""Seed of the runs of an external row: there is one set of predictions per fold."""


def take_predictions(
    settings: ExternalSettings,
    *,
    run: EvaluatedRun,
    manifest_path: str | Path,
    splits_path: str | Path,
    out: str | Path,
    code: str = "",
    log: Callable[[str], None] = print,
) -> None:
    """Write the predictions of a fold's test cases as ``out/<case>.nii.gz``, and their record.

    The masks have the data set's class indices, on the grid of the raw labels. A test case without
    a prediction has no mask: :func:`lunet.evaluation.evaluation.evaluate_run` counts it as missed.
    ``run.json`` is written next to ``out``.

    Raises
    ------
    ConfigError
        If the map does not fit the data set's labels, or ``out`` holds files of others.
    DataError
        If the predictions are not there or are not of this data set, a case was predicted by a
        model that trained on it, or a mask has another grid or unknown labels.
    """
    manifest = read_manifest(manifest_path)
    tested = subset_cases(splits_path, run.fold, "test")
    source = find_source(settings, run.preset, run.fold)
    refuse_extra(source.folder, sorted(set(source.files) - set(manifest.cases)))
    check_split(source, run.fold, tested)
    found = [case for case in tested if case in source.files]
    if not found:
        raise DataError(
            where=source.folder,
            found=f"no prediction of the {len(tested)} test cases of fold {run.fold}",
            expected=f"files such as {tested[0]}{SUFFIX}",
            action=f"Predict them, or leave fold {run.fold} out of `folds`",
        )
    folder = Path(out)
    record = folder.parent / RECORD
    names = [f"{case}{SUFFIX}" for case in found]
    with claim_files([record], step=STEP), claim(folder, names, step=STEP) as others:
        record.unlink(missing_ok=True)
        _write_masks(manifest, source, settings, found, folder, log)
        discard(folder, others, step=STEP)
        missing = [case for case in tested if case not in source.files]
        for case in missing:
            log(f"{case}: no prediction, will count as missed")
        write_json(record, _record(settings, source, run, manifest, tested, missing, code))


def _write_masks(
    manifest: Manifest,
    source: Source,
    settings: ExternalSettings,
    cases: Iterable[str],
    folder: Path,
    log: Callable[[str], None],
) -> None:
    where = f"external.{source.name}"
    remap = theirs_to_ours(manifest.task, settings.map, source.declared, where)
    rule = LabelRule(remap or {}, others=0 if settings.map else None)
    is_empty = True
    for case in cases:
        path = source.files[case]
        reference = read_reference(manifest, case)
        origin = str(manifest.case(case).raw_label)
        pixel_mm = manifest.pixel_mm
        mask = read_predicted(path, reference, origin, rule, log, pixel_mm=pixel_mm)
        _check_values(mask, path, manifest.task, where)
        is_empty = is_empty and not mask.any()
        write_nifti(folder / f"{case}{SUFFIX}", mask, reference[1])
        log(f"took {case} from {path}")
    values = _values(source.files.values()) if is_empty and settings.map else []
    if values:
        raise DataError(
            where=f"{where}.map",
            found=f"every mask is empty after the map; the files hold {some(values)}",
            expected=f"the map names {some(list(settings.map))}",
            action="Map the numbers that are in the files",
        )


def _values(paths: Iterable[Path]) -> list[str]:
    """All values of the label files but 0, as texts."""
    found: set[float] = set()
    for path in paths:
        found |= {float(value) for value in np.unique(read_raw(path)[0])}
    return [f"{value:g}" for value in sorted(found - {0.0})]


def _check_values(mask: NDArray[np.uint8], path: Path, task: Task, where: str) -> None:
    unknown = sorted({int(value) for value in np.unique(mask)} - {0, *task.labels.values()})
    if unknown:
        labels = ", ".join(f"{name} = {index}" for name, index in task.labels.items())
        raise DataError(
            where=path,
            found=f"label value(s) {some(list(map(str, unknown)))}",
            expected=f"the data set has {labels}",
            action=f"Set {where}.map",
        )


def _record(
    settings: ExternalSettings,
    source: Source,
    run: EvaluatedRun,
    manifest: Manifest,
    tested: tuple[str, ...],
    missing: list[str],
    code: str,
) -> dict[str, Any]:
    """The content of ``run.json``."""
    training = Path(settings.predictions, TRAINING)
    rival = {"training": read_object(training)} if training.is_file() else {}
    return {
        "preset": run.preset,
        "fold": run.fold,
        "seed": run.seed,
        "external": {
            "role": settings.role,
            "layout": settings.layout,
            "source": settings.source,
            "folder": str(source.folder),
            "splits": str(source.splits) if source.splits else None,
            "tested": len(tested),
            "missing": missing,
            "digest": source_digest(settings, run.preset, run.fold, tested),
        }
        | rival,
        "settings": {"task": manifest.task.as_dict(), "map": dict(settings.map)},
        "code": code,
        "data": manifest.digest,
        "provenance": stamp(),
    }
