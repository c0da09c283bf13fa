"""One training from prepared volumes to weights, history and record; what `lunet train` does."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lunet.data.folds import Fold, read_splits
from lunet.data.prepared import Manifest, read_manifest
from lunet.errors import ConfigError, DataError, TrainingError
from lunet.files import sha256, write_json
from lunet.lock import owned
from lunet.models.build import build
from lunet.provenance import stamp as provenance
from lunet.task import Task
from lunet.training.arithmetic import Arithmetic, keep_freed_memory, resolve_device
from lunet.training.checkpoint import (
    Checkpoint,
    State,
    Unusable,
    read_state,
    seed_everything,
    stamp_of,
)
from lunet.training.ema import MovingAverage
from lunet.training.engine import choose_arithmetic
from lunet.training.faults import no_progress
from lunet.training.feeding import Volumes, load_volumes
from lunet.training.history import check_metrics, write_history
from lunet.training.loop import Keeper, train
from lunet.training.losses import build_objective
from lunet.training.memory import is_out_of_memory, out_of_memory, peak_memory
from lunet.training.optimisation import LearningRate, build_optimiser, extendable
from lunet.training.progress import Progress, Training, Unchanged, copy_weights
from lunet.training.recipe import Recipe
from lunet.training.sampling import build_sampler
from lunet.training.signals import LeaveRequest, leave_requests
from lunet.training.validation import build_validator
from lunet.training.watch import Watch, say, tensorboard
from lunet.training.weights import initialise, save_weights
from lunet.typed import plain


@dataclass(frozen=True)
class Job:
    """What to train on what, and where the files go.

    Attributes
    ----------
    task, model, recipe, code
        The settings' sections (``model``: preset, module, name, arguments) and the code's digest.
    manifest, splits, fold, seed
        Prepared volumes, folds, which of them (from 0), seed of everything random.
    work, out
        Folder of the resume state; folder of the results.
    resume, init
        A state file to go on from; a weights file to start from (fine-tuning).
    engine_cache
        Where measured choices of the arithmetic are kept.
    save_interval
        Seconds between saved states; None: as often as costs 1 % of the time.
    tensorboard
        Whether TensorBoard files are written to ``out/tensorboard``.
    """

    task: Task
    model: Mapping[str, Any]
    recipe: Recipe
    code: str
    manifest: Path
    splits: Path
    fold: int
    seed: int
    work: Path
    out: Path
    resume: Path | None = None
    init: Path | None = None
    engine_cache: Path | None = None
    save_interval: float | None = None
    tensorboard: bool = False


def run_training(job: Job) -> None:
    """Train, going on from a saved state if there is one that fits, and write the results.

    Raises
    ------
    LunetError
        Of the kinds that :mod:`lunet.errors` lists; nothing is half-written then.
    """
    check_metrics(job.recipe, job.task)
    with owned(job.work) as lock, leave_requests() as request:
        keep_freed_memory()
        manifest, fold = _read_data(job)
        keeper = Keeper(Checkpoint(job.work), _stamp(job, manifest, fold), job.save_interval)
        _tidy(job.work)
        state = _saved_state(job, keeper)
        training = _build_training(job, manifest, fold, state)
        _train(job, training, keeper, request)
        request.cancel_deadline()
        lock.confirm()
        if job.recipe.keep_state:
            keeper.save(training)
        _write_results(job, training, manifest)
        if not job.recipe.keep_state:
            keeper.checkpoint.remove()


def _read_data(job: Job) -> tuple[Manifest, Fold]:
    manifest, splits = read_manifest(job.manifest), read_splits(job.splits)
    if manifest.task.as_dict() != job.task.as_dict():
        raise DataError(
            job.manifest,
            f"prepared for {manifest.task.as_dict()}",
            f"the task is {job.task.as_dict()}",
            "Prepare the data set with this configuration",
        )
    if not 0 <= job.fold < len(splits.folds):
        expected = f"{job.splits} has the folds 0 to {len(splits.folds) - 1}"
        raise ConfigError("--fold", f"found {job.fold}", expected)
    fold = splits.folds[job.fold]
    for part in ("train", "validation"):
        if not getattr(fold, part):
            raise TrainingError(
                f"{job.splits}, fold {job.fold}",
                f"no case for {part}",
                "at least one is needed",
                "Use fewer folds, or a larger share for validation (split.validation)",
            )
    return manifest, fold


def _stamp(job: Job, manifest: Manifest, fold: Fold) -> str:
    """What a saved state is valid for; more epochs may be asked for where that changes nothing."""
    recipe = plain(job.recipe)
    for key in ("source", "keep_state", "save_every"):
        del recipe[key]
    if extendable(job.recipe.schedule):
        del recipe["epochs"]
    return stamp_of(
        {
            "task": job.task.as_dict(),
            "model": dict(job.model),
            "recipe": recipe,
            "code": job.code,
            "data": manifest.digest,
            "cases": [list(fold.train), list(fold.validation)],
            "seed": job.seed,
            "init": sha256(job.init) if job.init and job.init.is_file() else None,
        }
    )


def _tidy(work: Path) -> None:
    """Remove what a killed process left half-written (the lock says that no other is writing)."""
    work.mkdir(parents=True, exist_ok=True)
    for part in work.glob(".part-*"):
        part.unlink()


def _saved_state(job: Job, keeper: Keeper) -> State | None:
    if job.resume:
        try:
            return read_state(job.resume, stamp=keeper.stamp)
        except Unusable as error:
            action = "Give the settings with which it was made"
            raise TrainingError(job.resume, str(error), "", action) from error
    state = keeper.checkpoint.load(stamp=keeper.stamp, say=say)
    if state and state["progress"]["epoch"] - 1 > job.recipe.epochs:
        say(f"{job.work}: its state has more epochs than {job.recipe.epochs}; it is not used")
        return None
    return state


def _build_training(job: Job, manifest: Manifest, fold: Fold, state: State | None) -> Training:
    recipe, task = job.recipe, job.task
    device = resolve_device(recipe.engine)
    volumes = _volumes(manifest, fold.train, task, device)
    objective = build_objective(
        recipe.loss, recipe.loss_options, task=task, deep_supervision=recipe.deep_supervision
    )
    sampler = build_sampler(volumes, recipe, dimensions=task.dimensions, seed=job.seed)
    validator = build_validator(
        _volumes(manifest, fold.validation, task, device),
        task,
        objective,
        patch=recipe.patch,
        batch_size=recipe.batch_size,
    )
    arithmetic = _arithmetic(job, sampler.batch(1, 0).image, state, device)
    arithmetic.prepare()
    seed_everything(job.seed)
    model = _model(job)
    arithmetic.place(model)
    training = Training(
        model=model,
        task=task,
        recipe=recipe,
        arithmetic=arithmetic,
        sampler=sampler,
        validator=validator,
        objective=objective,
        augment=Unchanged(),
        optimiser=build_optimiser(model, recipe.optimiser),
        schedule=LearningRate(
            recipe.schedule,
            recipe.optimiser.lr,
            recipe.epochs,
            higher_is_better=recipe.select_by != "loss",
        ),
        scaler=arithmetic.scaler(),
        ema=MovingAverage(model, recipe.ema) if recipe.ema.decay else None,
        forward=arithmetic.compiled(model),
        progress=Progress(losses=torch.full((sampler.steps,), math.nan, device=device)),
    )
    if state:
        training.load(state)
        progress = training.progress
        say(f"goes on at epoch {progress.epoch}, step {progress.step} of {sampler.steps}")
    return training


def _volumes(
    manifest: Manifest, names: tuple[str, ...], task: Task, device: torch.device
) -> Volumes:
    return load_volumes([manifest.case(name) for name in names], task, device=device)


def _network(job: Job) -> nn.Module:
    return build(
        job.model["module"],
        job.model["name"],
        in_channels=len(job.task.channels),
        out_channels=job.task.out_channels,
        ndim=job.task.dimensions,
        arguments=job.model["arguments"],
    )


def _model(job: Job) -> nn.Module:
    model = _network(job)
    if job.init:
        fresh = initialise(model, job.init)
        say(f"starts from {job.init}" + (f", but for {', '.join(fresh)}" if fresh else ""))
    return model


def _arithmetic(
    job: Job, image: torch.Tensor, state: State | None, device: torch.device
) -> Arithmetic:
    """As the saved state was computed, so that it goes on bit for bit; else chosen now."""
    if state and state["arithmetic"]["device"] == device.type:
        return Arithmetic(**state["arithmetic"])
    return choose_arithmetic(
        job.recipe, lambda: _network(job), image, cache=job.engine_cache, device=device, say=say
    )


def _train(job: Job, training: Training, keeper: Keeper, request: LeaveRequest) -> None:
    observers = (tensorboard(job.out / "tensorboard"),) if job.tensorboard else ()
    watch = Watch(training, bar=sys.stderr.isatty(), on_epoch=observers)
    try:
        train(
            training,
            keeper=keeper,
            request=request,
            watch=watch,
            snapshot=_snapshots(job, training),
        )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        sampler = training.sampler
        batch = f"{sampler.batch_size} x {sampler.size or 'whole volumes'}"
        raise out_of_memory(error, sampler.volumes.device, batch) from error
    finally:
        watch.close()
    warning = no_progress(training)
    if warning:
        say(f"warning: {warning}")


def _snapshots(job: Job, training: Training) -> Callable[[int], None]:
    def keep(epoch: int) -> None:
        with training.learned() as model:
            path = job.out / "snapshots" / f"epoch-{epoch:05d}.safetensors"
            save_weights(path, model, _metadata(job, training, epoch))

    return keep


def _metadata(job: Job, training: Training, epoch: int) -> dict[str, Any]:
    """What the header of a weights file says: enough to rebuild and use the network."""
    return {
        "model": dict(job.model),
        "task": job.task.as_dict(),
        "preprocess": dict(read_manifest(job.manifest).preprocess),
        "size": list(training.sampler.size) if training.sampler.size else None,
        "fold": job.fold,
        "seed": job.seed,
        "epoch": epoch,
    }


def _write_results(job: Job, training: Training, manifest: Manifest) -> None:
    progress = training.progress
    with training.learned() as model:
        last = copy_weights(model)
    best, epoch = progress.best_weights or last, progress.best_epoch or progress.epochs_done
    save_weights(job.out / "weights.safetensors", best, _metadata(job, training, epoch))
    save_weights(job.out / "last.safetensors", last, _metadata(job, training, progress.epochs_done))
    write_history(job.out / "history.csv", progress.history, job.task)
    write_json(job.out / "run.json", _record(job, training, manifest))


def _record(job: Job, training: Training, manifest: Manifest) -> dict[str, Any]:
    progress, recipe = training.progress, training.recipe
    seconds = progress.training_seconds
    return {
        "settings": {
            "task": job.task.as_dict(),
            "model": dict(job.model),
            "recipe": plain(recipe),
        },
        "code": job.code,
        "data": manifest.digest,
        "fold": job.fold,
        "seed": job.seed,
        "cases": {
            "train": len(training.sampler.volumes.names),
            "validation": len(training.validator.volumes.names),
        },
        "epochs": progress.epochs_done,
        "stopped_early": progress.stopped,
        "best_epoch": progress.best_epoch,
        "best_score": progress.best_score if math.isfinite(progress.best_score) else None,
        "engine": asdict(training.arithmetic),
        "resident": training.sampler.volumes.resident,
        "training_seconds": round(seconds, 3),
        "validation_seconds": round(progress.validation_seconds, 3),
        "device_seconds": round(seconds + progress.validation_seconds, 3),
        "samples_per_second": round(progress.samples / seconds, 3) if seconds else None,
        "peak_memory_bytes": peak_memory(training.sampler.volumes.device),
        "warning": no_progress(training),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "provenance": provenance(),
    }
