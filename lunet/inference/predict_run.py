"""A study's prediction step: the test cases of one run, from prepared volumes to native masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.prepared import Manifest, PreparedCase, read_manifest
from lunet.errors import DataError
from lunet.files import write_json
from lunet.inference.decode import postprocess
from lunet.inference.description import description_of
from lunet.inference.load import load_model
from lunet.inference.output import STEP, geometry_of, subset_cases, write_predictions
from lunet.inference.postprocess_search import CHOSEN, choose_postprocessing
from lunet.inference.probability_maps import FOLDER, map_file, write_map
from lunet.inference.segment import NativeChannels, probabilities_of
from lunet.inference.settings import WEIGHTS, PredictSettings
from lunet.own_files import claim, discard
from lunet.task import Task
from lunet.training.compute.device import choose_device

RECORD = "chosen.json"


def predict_run(
    weights: str | Path,
    manifest_path: str | Path,
    splits_path: str | Path,
    *,
    fold: int,
    out: str | Path,
    settings: PredictSettings,
    subset: str = "test",
    network: str | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Segment one subset of a fold with the network of a run.

    Parameters
    ----------
    weights
        Folder of the run (``settings.weights`` chooses the file), or a weights file.
    manifest_path, splits_path
        Prepared data set and its folds.
    out
        Folder of the masks (:func:`lunet.inference.output.write_predictions`) and, if
        ``settings.probabilities``, of ``probabilities/`` (:mod:`lunet.inference.probability_maps`).
    network
        Python file of the network's class, if it is not in this package.

    Raises
    ------
    DataError
        If the network was trained for another task, or with other preprocessing, than the data.
    """
    manifest, path = read_manifest(manifest_path), Path(weights)
    file = path / WEIGHTS[settings.weights] if path.is_dir() else path
    model = load_model(file, network=network)
    described = description_of(model)
    task = described.task
    _require_same_task(path, task, manifest.task)
    _require_same_preprocessing(path, described.preprocess, manifest)
    target = choose_device(settings.device, key="predict.device")
    model.to(target)

    def predictor(case: PreparedCase, chosen: PredictSettings) -> NativeChannels:
        return probabilities_of(
            [model], case.image(), geometry_of(case), task=task, settings=chosen, device=target
        )

    def segmenter(case: PreparedCase) -> NDArray[np.uint8]:
        channels = predictor(case, settings)
        mask = postprocess(channels, task, settings)
        if settings.probabilities:
            affine = geometry_of(case).native_affine
            write_map(Path(out) / FOLDER, case.id, channels, task=task, affine=affine)
        return mask

    names = subset_cases(splits_path, fold, subset)
    with _extras(Path(out), names, settings, path):
        if settings.choose:
            cases = subset_cases(splits_path, fold, "validation")
            settings, dice = choose_postprocessing(manifest, cases, predictor, settings, log=log)
            record = {"cases": list(cases), "dice": dice} | _chosen(settings)
            write_json(Path(out) / RECORD, record)
            log(f"chosen on {len(cases)} validation case(s): {record}")
        write_predictions(manifest, names, segmenter, out, log=log)


@contextmanager
def _extras(
    out: Path, names: Sequence[str], settings: PredictSettings, weights: Path
) -> Iterator[None]:
    """Claim the files written besides the masks; those of the former masks are removed."""
    maps = [map_file(name) for name in names]
    extras = (maps if settings.probabilities else []) + ([RECORD] if settings.choose else [])
    with claim(out, extras, step=STEP, inputs=[weights]) as others:
        discard(out, [name for name in others if name in (*maps, RECORD)], step=STEP)
        yield


def _require_same_task(path: Path, trained: Task, wanted: Task) -> None:
    if not trained.same_content(wanted):
        raise DataError(
            where=path,
            found=f"trained for {trained.as_dict()}",
            expected=f"the data set has {wanted.as_dict()}",
            action="Choose weights of this study",
        )


def _require_same_preprocessing(path: Path, trained: Mapping[str, Any], manifest: Manifest) -> None:
    if trained != dict(manifest.preprocess):
        raise DataError(
            where=path,
            found=f"trained on images prepared with {trained}",
            expected=f"{manifest.path} has {dict(manifest.preprocess)}",
            action="Train again, or segment the raw images with `lunet predict --weights W IMAGES`",
        )


def _chosen(settings: PredictSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in CHOSEN}
