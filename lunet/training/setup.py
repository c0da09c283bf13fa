"""Builds and checks all parts of a training from settings, volumes and a saved state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn

from lunet.data.folds import Fold
from lunet.data.prepared import Manifest
from lunet.models.build import build_for_task
from lunet.training.augmentation.batched import Augment, Augmenter, active
from lunet.training.callbacks import log
from lunet.training.checkpoint import State, seed_everything
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.autotune import Question, choose_arithmetic
from lunet.training.compute.device import choose_device
from lunet.training.compute.engine_file import read_engine, write_engine
from lunet.training.compute.step_graph import CudaGraph, GraphedStep
from lunet.training.ema import MovingAverage
from lunet.training.job import TrainingJob
from lunet.training.loop import whole_step
from lunet.training.losses.build import build_objective
from lunet.training.optim import LearningRate, build_optimiser
from lunet.training.recipe import Augmentation, Recipe
from lunet.training.sampling import Sampler, build_sampler
from lunet.training.state import Progress, TrainingState
from lunet.training.validation import Validator, build_validator
from lunet.training.volumes import Volumes, load_volumes
from lunet.training.weights import initialise


def build_training(
    job: TrainingJob, manifest: Manifest, fold: Fold, state: State | None
) -> TrainingState:
    """Build everything that the loop works with, at the point where ``state`` was saved.

    Raises
    ------
    LunetError
        If data, recipe and network do not fit each other.
    """
    device = choose_device(job.recipe.engine.device, key="train.engine.device")
    sampler = _sampler(job, manifest, fold, device)
    validator = _validator(job, manifest, fold, device)
    arithmetic = _arithmetic(job, manifest, sampler, validator, state)
    arithmetic.prepare()
    seed_everything(job.seed)
    model = arithmetic.place(_model(job))
    training = assemble(
        job.recipe, model, arithmetic, sampler, validator, spacing=_spacing(manifest, job)
    )
    if state:
        training.load(state)
        progress = training.progress
        log(f"resumes at epoch {progress.epoch}, step {progress.step} of {sampler.steps}")
    return training


def with_network(
    job: TrainingJob, manifest: Manifest, training: TrainingState, state: State
) -> TrainingState:
    """``training`` with the network of ``job`` instead of its own, at the point of ``state``.

    Data, arithmetic and random numbers do not change; ``state`` fits the new network.
    """
    if training.arithmetic.compile:
        torch.compiler.reset()  # after a few networks of one class it would compile no more
    model = training.arithmetic.place(build_for_task(job.model, job.task))
    changed = assemble(
        job.recipe,
        model,
        training.arithmetic,
        training.sampler,
        training.validator,
        spacing=_spacing(manifest, job),
    )
    changed.load(state)
    return changed


def assemble(
    recipe: Recipe,
    model: nn.Module,
    arithmetic: Arithmetic,
    sampler: Sampler,
    validator: Validator,
    *,
    spacing: Sequence[float] | None = None,
) -> TrainingState:
    """A training at its beginning, from a placed network and its data.

    ``spacing`` is that of :func:`build_augment`.
    """
    rising = recipe.monitor != "loss"
    task = validator.task
    training = TrainingState(
        model=model,
        task=task,
        recipe=recipe,
        arithmetic=arithmetic,
        sampler=sampler,
        validator=validator,
        objective=validator.objective,
        augment=build_augment(recipe.augmentation, task.dimensions, spacing=spacing),
        generator=torch.Generator().manual_seed(sampler.seed),
        optimiser=build_optimiser(model, recipe.optimiser, recorded=arithmetic.graph),
        schedule=LearningRate(
            recipe.schedule, recipe.optimiser.lr, recipe.epochs, higher_is_better=rising
        ),
        scaler=arithmetic.scaler(),
        ema=MovingAverage(model, recipe.ema) if recipe.ema.decay else None,
        forward=arithmetic.compiled(model, graphs=recipe.grad_accumulation == 1),
        progress=Progress(
            losses=torch.full((sampler.steps,), math.nan, device=sampler.volumes.device)
        ),
    )
    if arithmetic.graph:
        training.graph = GraphedStep(partial(whole_step, training), CudaGraph)
    return training


def _spacing(manifest: Manifest, job: TrainingJob) -> tuple[float, ...] | None:
    """mm per axis of the samples, or None if the volumes have several spacings."""
    spacings = {case.spacing[: job.task.dimensions] for case in manifest.cases.values()}
    return spacings.pop() if len(spacings) == 1 else None


def _sampler(job: TrainingJob, manifest: Manifest, fold: Fold, device: torch.device) -> Sampler:
    volumes = _volumes(job, manifest, fold.train, device)
    return build_sampler(volumes, job.recipe, dimensions=job.task.dimensions, seed=job.seed)


def _validator(job: TrainingJob, manifest: Manifest, fold: Fold, device: torch.device) -> Validator:
    recipe = job.recipe
    objective = build_objective(
        recipe.loss,
        recipe.loss_options,
        task=job.task,
        deep_supervision=recipe.deep_supervision,
    )
    return build_validator(
        _volumes(job, manifest, fold.validation, device),
        job.task,
        objective,
        patch=recipe.patch,
        batch_size=recipe.batch_size,
    )


def _volumes(
    job: TrainingJob, manifest: Manifest, names: tuple[str, ...], device: torch.device
) -> Volumes:
    cases = [manifest.case(name) for name in names]
    recipe = job.recipe
    found = load_volumes(
        cases,
        job.task,
        device=device,
        place=recipe.resident,
        half=recipe.images == "fp16",
    )
    if recipe.resident == "auto" and not found.on_device:
        advice = "" if found.half else "; train.images: fp16 needs half of their memory"
        log(f"volumes do not fit on the device and stay on the {found.place}{advice}")
    return found


def _model(job: TrainingJob) -> nn.Module:
    model = build_for_task(job.model, job.task)
    if job.init:
        fresh = initialise(model, job.init)
        log(f"starts from {job.init}" + (f", except {', '.join(fresh)}" if fresh else ""))
    return model


def _arithmetic(
    job: TrainingJob,
    manifest: Manifest,
    sampler: Sampler,
    validator: Validator,
    state: State | None,
) -> Arithmetic:
    """The arithmetic of the saved state, to resume bit for bit; else the preset's, else chosen."""
    if state and state["arithmetic"]["device"] == sampler.volumes.device.type:
        return Arithmetic(**state["arithmetic"])
    asked = _question(job, manifest, sampler, validator)
    given = read_engine(job.engine, asked, log) if job.engine else None
    chosen = given or choose_arithmetic(asked, cache=job.engine_cache, log=log)
    if chosen.device == "cuda":  # what was tried is no part of the training's peak
        torch.cuda.reset_peak_memory_stats()
    return chosen


def choose_engine(job: TrainingJob, manifest: Manifest, fold: Fold, out: Path) -> Arithmetic:
    """Choose the arithmetic of all trainings like ``job``, and write it to ``out``.

    Raises
    ------
    LunetError
        If data, recipe and network do not fit each other.
    """
    device = choose_device(job.recipe.engine.device, key="train.engine.device")
    sampler = _sampler(job, manifest, fold, device)
    validator = _validator(job, manifest, fold, device)
    return write_engine(out, _question(job, manifest, sampler, validator), log)


def _question(
    job: TrainingJob, manifest: Manifest, sampler: Sampler, validator: Validator
) -> Question:
    """What an arithmetic is chosen for."""

    def make() -> nn.Module:
        seed_everything(job.seed)  # the same run is always checked with the same weights
        return build_for_task(job.model, job.task)

    def training(arithmetic: Arithmetic) -> TrainingState:
        model = arithmetic.place(build_for_task(job.model, job.task))
        spacing = _spacing(manifest, job)
        return assemble(job.recipe, model, arithmetic, sampler, validator, spacing=spacing)

    return Question(
        engine=job.recipe.engine,
        model=dict(job.model),
        make=make,
        batch=sampler.batch(1, 0),
        objective=validator.objective,
        steps=sampler.steps * job.recipe.epochs,
        sizes=_sizes(sampler),
        # a graph has one size, and its step is a whole one
        may_graph=_sizes(sampler) == 1 and job.recipe.grad_accumulation == 1,
        training=training,
    )


def _sizes(sampler: Sampler) -> int:
    return 1 if sampler.size else len(set(sampler.volumes.shapes))


def build_augment(
    settings: Augmentation, ndim: int, *, spacing: Sequence[float] | None = None
) -> Augment | None:
    """The augmentation of a recipe; None if nothing is switched on.

    Parameters
    ----------
    ndim
        2 or 3.
    spacing
        mm per axis of the prepared volumes, so that rotations keep angles; None means isotropic.

    Raises
    ------
    ConfigError
        If an axis to flip does not exist.
    """
    if not active(settings):
        return None
    return Augmenter(settings, ndim, spacing=spacing)
