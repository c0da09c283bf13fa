"""Compares predicted masks with references in native space: one row per case and structure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.dataset_json import declared_task
from lunet.data.geometry import spacing_of, voxel_volume
from lunet.data.ground_truth import read_reference
from lunet.data.io.images import (
    LabelRule,
    PixelSize,
    is_hidden,
    is_picture,
    read_label,
    read_raw,
    stem_of,
    suffix_of,
)
from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError, DataError
from lunet.evaluation.pairs import (
    RUN_COLUMNS,
    EvaluatedRun,
    Label,
    expected_cases,
    predictions_in,
    read_predicted,
    refuse_extra,
    some,
)
from lunet.files import write_csv
from lunet.metrics.case import measure_case
from lunet.metrics.catalog import case_columns
from lunet.metrics.settings import EvaluateSettings
from lunet.task import Length

Structures = Mapping[str, tuple[int, ...]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Folders:
    """Any two folders of label files, paired by file name without suffix.

    Attributes
    ----------
    reference, prediction
        Folders, or two files that form one pair.
    structures
        Name of each structure -> the class indices that belong to it, after the maps.
    reference_map, prediction_map
        Value in the files -> class index.
    ignore_extra
        Whether predictions without a reference are counted and left out; otherwise an error.
    pixel_mm
        Size of a pixel in mm; without it, distances of pictures are in px.
    threshold
        For predictions that are maps of one structure, such as its probabilities: the structure is
        where a map exceeds this.
    """

    reference: Path
    prediction: Path
    structures: Structures
    reference_map: Mapping[int, int] = field(default_factory=dict)
    prediction_map: Mapping[int, int] = field(default_factory=dict)
    ignore_extra: bool = False
    pixel_mm: PixelSize | None = None
    threshold: float | None = None


def evaluate_run(
    manifest_path: str | Path,
    splits_path: str | Path | None,
    predictions: str | Path,
    *,
    run: EvaluatedRun,
    settings: EvaluateSettings,
    out: str | Path,
    subset: str = "test",
    log: Callable[[str], None] = print,
) -> None:
    """Evaluate the masks in a run's ``predictions/`` and write ``metrics.csv``.

    Each case of the subset has its rows: a missing file counts as a prediction that found nothing,
    so its structures are missed. Without a split file all labelled cases are expected. References
    are the raw label files, on their own grid.

    Raises
    ------
    DataError
        If a prediction belongs to no case of the data set, or is on another grid.
    """
    manifest = read_manifest(manifest_path)
    names = expected_cases(manifest.cases, splits_path, run.fold, subset)
    found = predictions_in(predictions, names, known=manifest.cases, log=log)
    rows: list[Row] = []
    for name in names:
        case = manifest.case(name)
        origin = str(case.raw_label)
        reference = read_reference(manifest, name)
        prediction = read_predicted(
            found.get(name), reference, origin, LabelRule(), log, pixel_mm=manifest.pixel_mm
        )
        head, structures = run.head(name, case.group), manifest.task.structures
        rows += case_rows(head, reference, prediction, structures, settings, unit=manifest.unit)
        log(f"evaluated {name}")
    write_csv(out, [*RUN_COLUMNS, *case_columns(settings.tolerances, manifest.unit)], rows)


def evaluate_folders(
    folders: Folders,
    settings: EvaluateSettings,
    out: str | Path,
    *,
    log: Callable[[str], None] = print,
) -> None:
    """Evaluate any two folders (or two files) of label files and write a CSV.

    The columns are ``case`` and the columns of :func:`lunet.metrics.case.evaluate_case`. The
    structures of a reference without a prediction count as missed.

    Raises
    ------
    DataError
        If there is no reference, a prediction has no reference, the grids of a pair differ, or a
        threshold is given for several structures or for label files.
    """
    references, found = _pairs(folders)
    extra = sorted(set(found) - set(references))
    if extra and folders.ignore_extra:
        log(f"{len(extra)} prediction(s) without a reference are left out: {some(extra)}")
    elif extra:
        refuse_extra(
            folders.prediction,
            extra,
            action="Skip them with --ignore-extra, or check the folders",
        )
    rows: list[Row] = []
    unit, rule = _unit(references.values(), folders), _rule(folders)
    true_values: set[int] = set()
    predicted_values: set[int] = set()
    for name, path in references.items():
        pixel_mm = folders.pixel_mm
        reference = read_label(path, LabelRule(folders.reference_map), pixel_mm=pixel_mm)
        predicted = found.get(name)
        if folders.threshold is not None and predicted is not None:
            _require_map(predicted, folders.threshold)
        prediction = read_predicted(predicted, reference, str(path), rule, log, pixel_mm=pixel_mm)
        true_values |= set(np.unique(reference[0]).tolist()) - {0}
        predicted_values |= set(np.unique(prediction).tolist()) - {0}
        head, structures = {"case": name}, folders.structures
        rows += case_rows(head, reference, prediction, structures, settings, unit=unit)
    _warn_unmatched(folders.structures, true_values, predicted_values, log)
    write_csv(out, ["case", *case_columns(settings.tolerances, unit)], rows)
    log(f"evaluated {len(references)} case(s) into {out}")


def _rule(folders: Folders) -> LabelRule:
    """How the values of predictions become class indices."""
    if folders.threshold is None:
        return LabelRule(folders.prediction_map)
    if len(folders.structures) != 1 or folders.prediction_map:
        found = ", ".join(folders.structures)
        raise ConfigError(
            where="--threshold",
            found=f"given for {found}" + (" with --map" if folders.prediction_map else ""),
            expected="maps of one structure",
            action="Name the one structure with --labels NAME=INDEX",
        )
    (indices,) = folders.structures.values()
    return LabelRule({1: indices[0]}, folders.threshold)


def _require_map(path: Path, threshold: float) -> None:
    """Refuse label files and coded maps, of which every label exceeds a share."""
    values, _ = read_raw(path)
    if threshold < 1 and values.max(initial=0) > 1:
        raise DataError(
            where=path,
            found=f"values up to {values.max():g}",
            expected=f"with --threshold {threshold:g}, probabilities from 0 to 1",
            action="Give the maps of `lunet predict --probabilities`, or leave --threshold out",
        )


def _unit(references: Iterable[Path], folders: Folders) -> Length:
    """``px`` for pictures whose size is not given, ``mm`` for volumes; both are an error."""
    kinds = {is_picture(path): path.name for path in references}
    if folders.pixel_mm is not None and kinds.keys() == {False}:
        raise ConfigError(
            where="--pixel-mm",
            found=f"given, but {kinds[False]} is a volume",
            expected="volumes state the size of their voxels",
            action="Remove it",
        )
    if folders.pixel_mm is None and len(kinds) > 1:
        raise DataError(
            where=folders.reference,
            found=f"pictures without a physical size (such as {kinds[True]}) among volumes in mm "
            f"(such as {kinds[False]})",
            expected="distances must have one unit in all cases",
            action="Compare them apart, or state the size of the pixels with --pixel-mm",
        )
    return "px" if folders.pixel_mm is None and True in kinds else "mm"


def _warn_unmatched(
    structures: Structures,
    true_values: set[int],
    predicted_values: set[int],
    log: Callable[[str], None],
) -> None:
    """Warn of names and values without a counterpart: often a mistake, but possibly on purpose."""
    values = true_values | predicted_values
    found = ", ".join(map(str, sorted(values))) or "nothing but background"
    for name, indices in structures.items():
        if values.isdisjoint(indices):
            wanted = ",".join(map(str, indices))
            log(f"warning: {name}={wanted} is in no file; references and predictions hold {found}")
    sides = {"references": true_values, "predictions": predicted_values}
    for side, held in sides.items():
        if left := sorted(held - _indices(structures)):
            advice = _map_advice(side, left, structures, held)
            log(f"warning: values without a label in the {side} are not scored: {advice}")


def _map_advice(side: str, left: list[int], structures: Structures, held: set[int]) -> str:
    """The values, and what to add if they are a structure under another number (0 and 255)."""
    shown = some(list(map(str, left)))
    missing = sorted(_indices(structures) - held)
    option = {"references": "--reference-map", "predictions": "--map"}[side]
    if not missing:
        return shown
    if len(left) == len(missing) == 1:
        name = next(name for name, found in structures.items() if missing[0] in found)
        return f"{shown}; if this is {name}, add {option} {left[0]}={missing[0]}"
    lacking = some(list(map(str, missing)))
    return f"{shown}; if they are {lacking} under other numbers, add {option} OLD=NEW"


def _indices(structures: Structures) -> set[int]:
    return {index for indices in structures.values() for index in indices}


def _pairs(folders: Folders) -> tuple[dict[str, Path], dict[str, Path]]:
    if folders.reference.is_file() and folders.prediction.is_file():
        name = stem_of(folders.reference)
        return {name: folders.reference}, {name: folders.prediction}
    references = label_files(folders.reference)
    if not references:
        raise DataError(
            where=folders.reference,
            found="no label files",
            expected="NIfTI, NRRD, MHA or PNG",
        )
    return references, label_files(folders.prediction)


def label_files(folder: Path) -> dict[str, Path]:
    """Case name -> label file of a folder.

    Raises
    ------
    DataError
        If it is not a folder, or two files have the same case name.
    """
    if not folder.is_dir():
        raise DataError(
            where=folder,
            found="is not a folder" if folder.exists() else "does not exist",
            expected="a folder of label files is needed",
        )
    paths = [p for p in sorted(folder.iterdir()) if suffix_of(p) and not is_hidden(p)]
    named: dict[str, Path] = {}
    for path in paths:
        if stem_of(path) in named:
            twin = named[stem_of(path)].name
            raise DataError(
                where=path, found=f"has the same case name as {twin}", expected="one file per case"
            )
        named[stem_of(path)] = path
    return named


def case_rows(
    head: Row,
    reference: Label,
    prediction: NDArray[np.uint8],
    structures: Structures,
    settings: EvaluateSettings,
    *,
    unit: Length = "mm",
) -> Iterator[Row]:
    """The rows of one case, each starting with ``head``; ``unit`` is that of distances."""
    truth, affine = reference
    rows = measure_case(
        truth,
        prediction,
        spacing=spacing_of(affine)[: truth.ndim],
        labels=structures,
        tolerances=settings.tolerances,
        voxel_volume=voxel_volume(affine, truth.ndim),
        unit=unit,
    )
    yield from (head | row for row in rows)


def structures_in(
    reference: Path, reference_map: Mapping[int, int], log: Callable[[str], None] = print
) -> Structures:
    """Name -> class indices, from a ``dataset.json`` in the folder or its parent, else the values.

    The values are the ones in the reference files, after the map, named ``label_<value>``. A
    ``dataset.json`` is not used together with a map, which changes the meaning of the values.

    Raises
    ------
    DataError
        If the files hold nothing but background.
    """
    folders = [reference, reference.parent] if reference.is_dir() and not reference_map else []
    for folder in folders:
        task = declared_task(folder)
        if task is not None and task.labels:
            return _logged(dict(task.structures), f"{folder}/dataset.json", log)
    files = [reference] if reference.is_file() else list(label_files(reference).values())
    values: set[int] = set()
    for path in files:
        values |= set(np.unique(read_label(path, LabelRule(reference_map))[0]).tolist()) - {0}
    if not values:
        raise DataError(
            where=reference,
            found="nothing but background",
            expected="labels to compare",
            action="Give --labels",
        )
    found = {f"label_{value}": (value,) for value in sorted(values)}
    return _logged(found, "the reference files", log)


def _logged(structures: Structures, origin: str, log: Callable[[str], None]) -> Structures:
    words = (f"{name}={','.join(map(str, found))}" for name, found in structures.items())
    log(f"labels of {origin}: {' '.join(words)}")
    return structures
