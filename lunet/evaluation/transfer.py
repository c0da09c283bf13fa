"""Tests a trained network on another labelled data set, whose labels have other names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from lunet.data.dataset import Case, Dataset, read_dataset
from lunet.data.ground_truth import read_case_label
from lunet.data.io.images import require_grid
from lunet.errors import DataError
from lunet.evaluation.evaluation import case_rows
from lunet.evaluation.label_map import check_map
from lunet.evaluation.pairs import RUN_COLUMNS, EvaluatedRun, Label
from lunet.files import sha256, write_csv, write_json
from lunet.inference.description import description_of
from lunet.inference.load import load_model
from lunet.inference.output import suffix_for, write_native
from lunet.inference.predict import predict_native
from lunet.inference.settings import WEIGHTS, PredictSettings, TransferSettings
from lunet.metrics.catalog import case_columns
from lunet.metrics.settings import EvaluateSettings
from lunet.own_files import claim, discard
from lunet.provenance import stamp
from lunet.settings import plain
from lunet.task import Task
from lunet.training.compute.device import choose_device

STEP, METRICS, RECORD = "transfer", "metrics.csv", "run.json"
Structures = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Test:
    """A test: the raw data set of ``settings``, its task, and how it is measured."""

    raw: Path
    settings: TransferSettings
    task: Task
    predict: PredictSettings
    evaluate: EvaluateSettings


def transfer(
    weights: str | Path,
    test: Test,
    *,
    run: EvaluatedRun,
    out: str | Path,
    code: str = "",
    network: str | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Segment and evaluate every labelled case of another data set with a run's network.

    Each raw image is prepared like the network's own training images. Masks are written with the
    other data set's class indices; structures that no label of the network maps to are not
    evaluated.

    Parameters
    ----------
    weights
        Folder of the run (``test.predict.weights`` chooses the file), or a weights file.
    out
        Folder of ``predictions/<case>.nii.gz``, ``metrics.csv`` (as for a study's run) and
        ``run.json``.
    network
        Python file of the network's class, if it is not in this package.

    Raises
    ------
    ConfigError
        If the map does not fit the labels of both tasks, or ``out`` holds files that no step of
        this package wrote.
    DataError
        If the data set has other channels, or a case cannot be read.
    """
    path = Path(weights)
    path = path / WEIGHTS[test.predict.weights] if path.is_dir() else path
    model = load_model(path, network=network)
    model = model.to(choose_device(test.predict.device, key="predict.device"))
    trained = description_of(model).task
    table, structures = label_map(trained, test.task, test.settings.map)
    dataset = _dataset(test, trained)
    pairs, folder = _labelled(dataset), Path(out)
    masks = {case.id: f"predictions/{case.id}{suffix_for(case.images[0])}" for case, _ in pairs}
    names, inputs = [*masks.values(), METRICS, RECORD], [path, test.raw]
    columns = [*RUN_COLUMNS, *case_columns(test.evaluate.tolerances, dataset.unit)]
    rows: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    with claim(folder, names, step=STEP, inputs=inputs, alone=True) as old:
        for case, label in pairs:
            mask, reference = _segment(model, case, label, test, dataset)
            mask = table[mask]
            write_native(folder / masks[case.id], mask, reference[1])
            head = run.head(case.id, case.group)
            rows += case_rows(head, reference, mask, structures, test.evaluate, unit=dataset.unit)
            digest.update(f"{case.id} {sha256(label)}\n".encode())
            log(f"segmented and evaluated {case.id}")
        write_csv(folder / METRICS, columns, rows)
        write_json(folder / RECORD, _record(path, test, run, code, digest.hexdigest()))
        discard(folder, old, step=STEP)


def label_map(
    trained: Task, tested: Task, names: Mapping[str, str]
) -> tuple[NDArray[np.uint8], Structures]:
    """Table from the network's class indices to the data set's, and the structures to evaluate.

    Returns
    -------
    uint8 (256,), indexed by the network's class index; and the structures of the data set whose
    labels are all in the map.

    Raises
    ------
    ConfigError
        If a label of the network is not mapped, or a name is unknown in its task.
    """
    check_map(trained, tested, names)
    table = np.zeros(256, np.uint8)
    for name, index in trained.labels.items():
        table[index] = tested.labels.get(names[name], 0)
    reached = {int(index) for index in table}
    structures = {
        name: members for name, members in tested.structures.items() if set(members) <= reached
    }
    return table, structures


def _dataset(test: Test, trained: Task) -> Dataset:
    dataset = read_dataset(test.raw, test.settings.dataset, test.task)
    if len(test.task.channels) != len(trained.channels):
        raise DataError(
            where=test.raw,
            found=f"has the channels {', '.join(test.task.channels)}",
            expected=f"the network was trained on {', '.join(trained.channels)}",
        )
    return dataset


def _labelled(dataset: Dataset) -> list[tuple[Case, Path]]:
    found = [(case, case.label) for case in dataset.cases if case.label is not None]
    if not found:
        raise DataError(
            where=dataset.root, found="no labelled case", expected="masks are compared with labels"
        )
    return found


def _segment(
    model: nn.Module,
    case: Case,
    label: Path,
    test: Test,
    dataset: Dataset,
) -> tuple[NDArray[np.uint8], Label]:
    """The network's mask on the raw grid, and the reference."""
    pixel_mm = dataset.pixel_mm
    mask, _, geometry = predict_native(
        [model], case.images, settings=test.predict, pixel_mm=pixel_mm
    )
    truth, affine = read_case_label(label, test.task, dataset.rule, pixel_mm=pixel_mm)
    grid = np.asarray(geometry.native_affine, np.float64)
    require_grid(label, truth.shape, affine, case.images[0], geometry.native_shape, grid)
    return mask, (truth, affine)


def _record(path: Path, test: Test, run: EvaluatedRun, code: str, digest: str) -> dict[str, Any]:
    return {
        "settings": {
            "task": test.task.as_dict(),
            "transfer": plain(test.settings),
            "predict": plain(test.predict),
            "evaluate": plain(test.evaluate),
        },
        "preset": run.preset,
        "fold": run.fold,
        "seed": run.seed,
        "code": code,
        "data": digest,
        "weights": {"file": path.name, "sha256": sha256(path)},
        "provenance": stamp(),
    }
