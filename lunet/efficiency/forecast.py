"""Predicts memory and time of a training from the steps that ``lunet efficiency`` measured.

Let ``s`` be the samples of a step in units of the measured sample (``batch x voxels / voxels
measured``) and ``m`` its value at the measurement. In bytes and seconds:

    step time   = measured step x s / m           with the arithmetic that a training will choose
    training    = epochs x batches per epoch x step time
    validation  = validations x voxels of the validation part at 0.4 of a step's time per voxel
    step memory = measured growth x line(s) / line(m)
    on a CPU    : peak = process + max(volumes + weights kept + step memory, 2 x volumes)
    on CUDA     : peak of the allocator = volumes + weights kept + step memory
                  of the host           = process + 2 x volumes

``line`` is the counted memory of a step against ``s``, through the two smallest of
``training_memory`` (:func:`lunet.efficiency.memory_line.counted_line`); without it, memory is
proportional to ``s``.
``process`` is the memory of the measuring process before its steps (imports, and on CUDA the
context). ``volumes`` are images (float32) and labels (uint8) of the training and the validation
part, which need twice the memory while they are read. ``weights kept`` are the best weights so far
and the moving average.

Early stopping is not predicted, so with it the time is an upper bound. The time of augmentation (3
to 8 % of a step where it was measured) is not included, and neither is the effect of compilation
that the training chooses by itself. With fewer threads than the measurement, the predicted time is
longer in proportion; more threads are not assumed to help.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from lunet.efficiency.calibration import Calibration, Tried, VolumeSizes
from lunet.reading import typed
from lunet.settings import Size, Within

VALIDATION_SHARE = 0.4  # of a step's time: a forward pass is a third, loss and counts the rest
VOXEL_BYTES = (4, 1)  # per voxel: of an image channel, of the label
# the rule of lunet.training.compute.autotune, which chooses a training's engine (a test compares)
FEW_STEPS, SHORT_SECONDS, WANTED_GAIN = 20, 60.0, 1.1
TRIED_STEPS = 11  # of each arithmetic that it tries


_Positive = Annotated[int, Within(1, 2**40)]


class _Ema(TypedDict):
    decay: float


class _Recipe(TypedDict):
    patches_per_case: _Positive
    batch_size: _Positive
    patch: list[Size] | None
    samples_per_epoch: _Positive | None
    validate_every: _Positive
    ema: _Ema


class _Settings(TypedDict):
    recipe: _Recipe


class _Cases(TypedDict):
    train: Annotated[int, Within(0, 2**40)]
    validation: Annotated[int, Within(0, 2**40)]


class _Engine(TypedDict):
    threads: _Positive | None


class _Taken(TypedDict):
    """The part of a ``run.json`` that a check reads."""

    settings: _Settings
    epochs: _Positive
    cases: _Cases
    engine: _Engine


@dataclass(frozen=True)
class Load:
    """The work of one training.

    Attributes
    ----------
    epochs, steps, validations
        Number of epochs, batches per epoch, and passes over the validation part.
    batch_voxels, largest_batch_voxels
        Voxels of an average batch, and of the largest batch.
    validation_voxels
        Voxels of the validation part.
    volume_bytes
        Bytes of the images and labels of both parts.
    weights_kept
        Number of copies of the weights that are kept besides the network.
    """

    epochs: int
    steps: int
    validations: int
    batch_voxels: float
    largest_batch_voxels: float
    validation_voxels: float
    volume_bytes: float
    weights_kept: int


@dataclass(frozen=True)
class Forecast:
    """Memory and time predicted for a training.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    memory
        Peak in bytes, of the process or of CUDA's allocator; ``peak_memory_bytes`` in ``run.json``.
    host
        Peak of the process, bytes.
    seconds
        Time of training and validation.
    choosing_seconds
        Time to measure the arithmetics, which only a preset's first training does.
    """

    device: str
    memory: float
    host: float
    seconds: float
    choosing_seconds: float


def load_of(recipe: Mapping[str, Any], data: VolumeSizes, *, train: int, validation: int) -> Load:
    """The work of a training with a recipe (plain values) on so many cases."""
    in_slices = data.dimensions == 2
    per_case = data.slices if in_slices else recipe["patches_per_case"]
    samples = int(train * per_case)
    batch = min(recipe["batch_size"], samples) or 1
    largest = data.largest_plane if in_slices else data.largest
    mean = data.voxels / data.slices if in_slices else data.voxels
    if recipe["patch"] is not None:
        largest = mean = math.prod(recipe["patch"])
    drawn = samples if recipe["samples_per_epoch"] is None else recipe["samples_per_epoch"]
    epochs, every = recipe["epochs"], recipe["validate_every"]
    image, label = VOXEL_BYTES
    return Load(
        epochs=epochs,
        steps=max(1, drawn // batch),
        validations=epochs // every + (epochs % every > 0),  # the last epoch is always validated
        batch_voxels=batch * mean,
        largest_batch_voxels=batch * largest,
        validation_voxels=validation * data.voxels,
        volume_bytes=(train + validation) * data.voxels * (image * data.channels + label),
        weights_kept=2 if recipe["ema"]["decay"] else 1,
    )


def forecast_training(measured: Calibration, load: Load, *, threads: int | None = None) -> Forecast:
    """Memory and time of a training with ``threads`` CPU threads, by default as measured."""
    slower, voxels = 1.0, load.batch_voxels
    if measured.device == "cpu" and threads:
        slower = max(1.0, measured.threads / threads)
    # seconds per voxel of a batch, relative to a measured step
    share = slower / (measured.batch * measured.voxels)
    plain = measured.tried[0].seconds * share * voxels
    steps = load.epochs * load.steps
    tries_all = steps >= FEW_STEPS and steps * plain >= SHORT_SECONDS
    tried = measured.tried if tries_all else measured.tried[:1]
    per_voxel = chosen(tried).seconds * share
    worked = steps * voxels
    looked = load.validations * load.validation_voxels * VALIDATION_SHARE
    step = measured.step_memory(tried[-1], load.largest_batch_voxels / measured.voxels)
    held = load.volume_bytes + load.weights_kept * measured.weights + step
    reading = 2 * load.volume_bytes
    host = measured.process + (max(held, reading) if measured.device == "cpu" else reading)
    return Forecast(
        device=measured.device,
        memory=host if measured.device == "cpu" else held,
        host=host,
        seconds=per_voxel * (worked + looked),
        choosing_seconds=TRIED_STEPS * sum(row.seconds for row in tried) * share * voxels,
    )


def chosen(tried: Sequence[Tried]) -> Tried:
    """The arithmetic that a training chooses: the plain one, or one at least 1.1 times faster."""
    best = tried[0]
    for row in tried:
        if row.seconds * WANTED_GAIN < best.seconds:
            best = row
    return best


@dataclass(frozen=True)
class Taken:
    """The costs of finished runs of one preset: their number, the largest peak in bytes (of the
    process, on CUDA of the allocator), the mean seconds of training and validation."""

    runs: int
    memory: float
    seconds: float


@dataclass(frozen=True)
class Check:
    """Predictions for the epochs that finished runs have done, and what the runs took."""

    memory: float
    seconds: float
    taken: Taken

    @property
    def memory_error(self) -> float:
        """Predicted over measured memory, minus 1."""
        return self.memory / self.taken.memory - 1

    @property
    def time_error(self) -> float:
        """Predicted over measured time, minus 1."""
        return self.seconds / self.taken.seconds - 1


def taken(runs: Iterable[Mapping[str, Any]], device: str | None = None) -> Taken | None:
    """The costs in ``run.json`` of finished runs; runs on another kind of device are left out."""
    usable = _usable(runs, device)
    if not usable:
        return None
    return Taken(
        runs=len(usable),
        memory=max(run["peak_memory_bytes"] for run in usable),
        seconds=sum(run["device_seconds"] for run in usable) / len(usable),
    )


def check(
    measured: Calibration, data: VolumeSizes, runs: Sequence[Mapping[str, Any]]
) -> Check | None:
    """Compare the contents of ``run.json`` files of one preset with their forecasts.

    None if no run was on the kind of device that was measured.
    """
    found = taken(runs, measured.device)
    if found is None:
        return None
    predicted = [_forecast(measured, data, run) for run in _usable(runs, measured.device)]
    return Check(
        memory=max(row.memory for row in predicted),
        seconds=sum(row.seconds for row in predicted) / len(predicted),
        taken=found,
    )


def _usable(runs: Iterable[Mapping[str, Any]], device: str | None) -> list[Mapping[str, Any]]:
    """Runs on this kind of device that recorded what they took."""
    keys = ("cases", "device_seconds", "peak_memory_bytes")
    complete = [run for run in runs if all(run.get(key) for key in keys)]
    return [
        run
        for run in complete
        if device is None or (run.get("engine") or {}).get("device") == device
    ]


def _forecast(measured: Calibration, data: VolumeSizes, run: Mapping[str, Any]) -> Forecast:
    record = typed(run, _Taken, f"run.json of {run.get('preset', 'a run')}")
    recipe = {**record["settings"]["recipe"], "epochs": record["epochs"]}
    cases = record["cases"]
    load = load_of(recipe, data, train=cases["train"], validation=cases["validation"])
    return forecast_training(measured, load, threads=record["engine"]["threads"])
