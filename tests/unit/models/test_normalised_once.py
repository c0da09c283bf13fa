"""Training, validation, a study's prediction and that of a new scan see the very same numbers.

The public 2D code that this study follows normalised twice in training and once in prediction:
its networks were trained on images of almost no contrast, and averaged weights collapsed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_training
import torch
from torch import nn

from lunet.data.catalog import task_of
from lunet.data.dataset import read_dataset
from lunet.data.folds import read_splits
from lunet.data.phantoms.make import make_phantom
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import read_manifest
from lunet.data.settings import DatasetSettings, PhantomSettings, PreprocessSettings
from lunet.files import write_json
from lunet.inference import predict_run as inference_run
from lunet.inference.load import load_model
from lunet.inference.predict import predict_native
from lunet.inference.settings import PredictSettings
from lunet.training import loop
from lunet.training.job import TrainingJob
from lunet.training.run import run_training
from lunet.training.setup import build_training

PHANTOM = PhantomSettings(kind="lung", subjects=3, scale=0.5)
MODEL = {
    "preset": "tiny",
    "module": "attention_unet",
    "name": "AttentionUNet",
    "arguments": {"widths": [2, 2]},
}


@pytest.fixture(scope="module", params=[2, 3])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared slices or volumes of three chests, with the lung window."""
    folder = tmp_path_factory.mktemp("chests")
    settings = DatasetSettings(name="phantom", dimensions=request.param, phantom=PHANTOM)
    raw = make_phantom(PHANTOM, folder / "raw")
    dataset = read_dataset(raw, settings, task_of(settings))
    size = (64, 64) if request.param == 2 else (64, 64, 16)
    window = PreprocessSettings(window=(-1350, 150), normalise="minmax", size=size)
    prepare_dataset(dataset, window, folder / "prepared", log=lambda _: None)
    fold = {"train": ["lung_001", "lung_002"], "validation": ["lung_003"], "test": ["lung_003"]}
    write_json(folder / "prepared/splits.json", {"seed": 0, "held_out": [], "folds": [fold]})
    return folder / "prepared"


def job_of(data: Path, place: Path) -> TrainingJob:
    recipe = replace(tiny_training.TINY, epochs=1, batch_size=2, loss={"dice": 1.0})
    task = read_manifest(data).task
    return tiny_training.job(data, place, recipe, task=task, model=MODEL)


def watched(model: nn.Module, seen: list[torch.Tensor]) -> nn.Module:
    """The network, noting each image that it is given (but for estimates of memory)."""

    def note(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if not inputs[0].is_meta:
            seen.append(inputs[0].detach().clone())

    model.register_forward_pre_hook(note)
    return model


def volume(seen: list[torch.Tensor], dimensions: int) -> np.ndarray:
    """All that was seen as (channel, x, y, z): slices in order, or the one volume."""
    images = torch.cat(seen)
    return (images.movedim(0, -1) if dimensions == 2 else images[0]).numpy()


def test_training_sees_the_prepared_values(data: Path, tmp_path: Path) -> None:
    job, manifest = job_of(data, tmp_path), read_manifest(data)
    training = build_training(job, manifest, read_splits(job.splits).folds[0], None)
    seen: list[torch.Tensor] = []
    watched(training.model, seen)
    loop.train_step(training)
    crops = training.sampler.crops(1, 0)
    for image, (case, window) in zip(seen[0], crops, strict=True):
        prepared = manifest.case(training.sampler.volumes.names[case]).image()
        expected = np.array(prepared[(slice(None), *window)]).reshape(image.shape)
        np.testing.assert_array_equal(image.numpy(), expected)
        assert expected.std() > 0.1  # 0.001 if it were divided twice
        assert 0 <= expected.min() < 0.5 < expected.max() <= 1


def test_validation_and_predictions_see_the_prepared_values(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, manifest = job_of(data, tmp_path), read_manifest(data)
    dimensions = manifest.task.dimensions
    prepared = np.array(manifest.case("lung_003").image())
    training = build_training(job, manifest, read_splits(job.splits).folds[0], None)
    seen: list[torch.Tensor] = []
    watched(training.model, seen)
    training.validator.run(training.model, training.arithmetic.forward, lambda: False)
    np.testing.assert_array_equal(volume(seen, dimensions), prepared)

    run_training(job)
    of_study: list[torch.Tensor] = []
    load: Callable[..., nn.Module] = lambda path, **_: watched(load_model(path), of_study)  # noqa: E731
    monkeypatch.setattr(inference_run, "load_model", load)
    inference_run.predict_run(
        job.out, job.manifest, job.splits, fold=0, out=tmp_path / "masks",
        settings=PredictSettings(device="cpu"), log=lambda _: None,
    )  # fmt: skip
    np.testing.assert_array_equal(volume(of_study, dimensions), prepared)

    of_scan: list[torch.Tensor] = []
    model = watched(load_model(job.out), of_scan)
    raw = manifest.case("lung_003").raw_images
    predict_native([model], raw, settings=PredictSettings())
    np.testing.assert_array_equal(volume(of_scan, dimensions), prepared)
