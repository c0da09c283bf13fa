"""Runs one strategy from prepared volumes to a smaller network, as `lunet prune` does.

A pruning is one training that is interrupted by cuts: the engine, the optimiser's moments, the
order of batches and the learning rate schedule continue. So the state of a training and the
pruning schedule are all that is needed to resume. Cuts are functions of that state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
import time
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from lunet.data.folds import Fold
from lunet.data.prepared import Manifest
from lunet.files import sha256
from lunet.locks import owned
from lunet.own_files import claim
from lunet.pruning.channel_groups import layers_of_network
from lunet.pruning.importance import Scores, channel_scores
from lunet.pruning.job import PruneJob, starting_job
from lunet.pruning.results import FILES, Outcome, iteration_file, test_curve, write_pruning
from lunet.pruning.schedule import PruningSchedule, chosen_row, iteration_row, reason_to_stop
from lunet.pruning.selection import Chosen, choose_channels, prunable, targeted_dropout
from lunet.pruning.surgery import (
    Removal,
    cut_optimiser,
    cut_section,
    cut_tensors,
    removal,
    set_dropout,
    trained_parameters,
)
from lunet.settings import plain
from lunet.training.callbacks import log
from lunet.training.checkpoint import Checkpoint, State, stamp_of
from lunet.training.compute.arithmetic import keep_freed_memory
from lunet.training.history import check_metrics
from lunet.training.job import TrainingJob
from lunet.training.kept_results import bring_back, is_kept, keep
from lunet.training.loop import CheckpointSaver
from lunet.training.recipe import Schedule
from lunet.training.results import metadata
from lunet.training.run import build_within_memory, read_data, tidy, train_stage
from lunet.training.setup import with_network
from lunet.training.signals import StopRequest, stop_requests
from lunet.training.state import TrainingState, copy_weights
from lunet.training.weights import save_weights

_STREAM = 4  # of random numbers, separate from the sampler's streams


def run_pruning(task: PruneJob) -> None:
    """Prune or train a control; resumes from a saved state if there is a matching one.

    Raises
    ------
    LunetError
        One of the kinds in :mod:`lunet.errors`; no file is half-written then.
    """
    job = starting_job(task)
    check_metrics(job.recipe, job.task)
    with (
        owned(job.work) as lock,
        claim(job.out, FILES, step="prune", inputs=[job.init] if job.init else []),
        stop_requests() as request,
    ):
        keep_freed_memory()
        manifest, fold = read_data(job)
        course = PruningSchedule(dict(job.model))
        stamp = _stamp(task, job, manifest, fold)
        saver = CheckpointSaver(Checkpoint(job.work), stamp, job.save_interval, course.state)
        if _was_finished(job, stamp):
            _forget_state(job, saver.checkpoint)
            return
        training = _begin(job, course, manifest, fold, saver)
        training, reason = _walk(task, job, course, training, manifest, saver, request)
        log(f"the last iteration is {course.iteration}: {reason}")
        chosen = chosen_row(course.rows, task.settings)  # before any test case is read
        outcome = Outcome(chosen, test_curve(job, course.rows, training, manifest, fold), reason)
        request.cancel_deadline()
        lock.confirm()
        write_pruning(task, job, course, training, manifest, outcome)
        if job.finished != "out":
            keep(job.out, job.work, FILES, stamp=stamp)
        _forget_state(job, saver.checkpoint)


def _forget_state(job: TrainingJob, checkpoint: Checkpoint) -> None:
    """Remove the state, and then the iterations: without them the state is of no use."""
    checkpoint.remove()
    shutil.rmtree(iteration_file(job, 0).parent, ignore_errors=True)
    with contextlib.suppress(OSError):  # if results are kept in it
        job.work.rmdir()


def _was_finished(job: TrainingJob, stamp: str) -> bool:
    """Whether an earlier attempt has finished this pruning; its results are put in place."""
    if job.finished == "out" or (job.out / "run.json").is_file():
        return False
    if not is_kept(job.work, stamp=stamp, log=log):
        return False
    log(f"finished in an earlier attempt, whose results were kept in {job.work}")
    bring_back(job.work, job.out)
    return True


def _begin(
    job: TrainingJob,
    course: PruningSchedule,
    manifest: Manifest,
    fold: Fold,
    saver: CheckpointSaver,
) -> TrainingState:
    tidy(job.work)
    tidy(iteration_file(job, 0).parent)
    state = saver.checkpoint.load(stamp=saver.stamp, log=log)
    if state:
        course.load(state)
        log(f"resumes in iteration {course.iteration}")
    training = build_within_memory(course.job(job), manifest, fold, state)
    layers_of_network(training.model)  # refuses an architecture that cannot be cut
    set_dropout(training.model, course.dropouts)
    return training


def _stamp(task: PruneJob, job: TrainingJob, manifest: Manifest, fold: Fold) -> str:
    """The settings and data that a saved state is valid for."""
    recipe = plain(job.recipe)
    del recipe["source"]
    settings = plain(task.settings)
    for key in ("preset", "strategies", "folds", "seeds", "tolerance"):
        del settings[key]
    return stamp_of(
        {
            "task": job.task.as_dict(),
            "model": dict(job.model),
            "recipe": recipe,
            "prune": settings,
            "strategy": task.strategy,
            "code": job.code,
            "data": manifest.digest,
            "cases": [list(fold.train), list(fold.validation)],
            "seed": job.seed,
            "init": sha256(job.init) if job.init and job.init.is_file() else None,
        }
    )


def _walk(
    task: PruneJob,
    job: TrainingJob,
    course: PruningSchedule,
    training: TrainingState,
    manifest: Manifest,
    saver: CheckpointSaver,
    request: StopRequest,
) -> tuple[TrainingState, str]:
    """Train and cut in turn; returns the last iteration's training and why it is the last."""
    while True:
        end = task.last_epoch(course.iteration) if task.removes_channels else job.recipe.epochs
        # the learning rates are already set for the whole pruning
        training.recipe = dataclasses.replace(job.recipe, epochs=end, schedule=Schedule())
        present = course.job(job)
        train_stage(present, training, manifest, saver=saver, request=request)
        _close(present, course, training, manifest)
        reason = reason_to_stop(task, course.rows, can_shrink=_can_shrink(task, training))
        if reason:
            return training, reason
        training = _cut(task, job, course, training, manifest)
        saver.save_if_due(training)


def _close(
    job: TrainingJob, course: PruningSchedule, training: TrainingState, manifest: Manifest
) -> None:
    """Record the result of the iteration and keep its best weights on disk."""
    progress = training.progress
    epoch, weights = progress.best_epoch, progress.best_weights
    if not weights:  # Dice was undefined in every validation
        epoch = progress.epochs_done
        with training.ema_weights() as model:
            weights = copy_weights(model)
    course.rows.append(iteration_row(course, training, epoch))
    row, about = course.rows[-1], metadata(job, training, manifest, epoch)
    save_weights(iteration_file(job, course.iteration), weights, about)
    dice = math.nan if row["dice"] is None else row["dice"]
    log(
        f"iteration {course.iteration}: {row['parameters']:,} parameters, "
        f"{row['channels']} channels, validation Dice {dice:.4f}"
    )


def _can_shrink(task: PruneJob, training: TrainingState) -> bool:
    layers = prunable(layers_of_network(training.model), task.settings.fixed).values()
    return any(layer.width > task.settings.least_width for layer in layers)


def _choose(
    task: PruneJob, job: TrainingJob, course: PruningSchedule, training: TrainingState
) -> tuple[Chosen, Scores]:
    """The channels to remove next, and the scores if they are needed."""
    settings = task.settings
    layers = prunable(layers_of_network(training.model), settings.fixed)
    rng = np.random.default_rng([job.seed, _STREAM, course.iteration])
    scores: Scores = {}
    if task.strategy != "largest_layer" or _targeted(task):
        with training.ema_weights() as model:
            scores = channel_scores(
                model,
                layers,
                _samples(training),
                mode=settings.importance,
                objective=training.objective,
                rng=rng,
            )
    cut = choose_channels(
        task.strategy,
        layers,
        scores,
        count=settings.channels_per_step,
        least=settings.least_width,
        rng=rng,
    )
    return cut, scores


def _targeted(task: PruneJob) -> bool:
    return task.settings.targeted_dropout > 0 and task.strategy in task.settings.targeted_in


def _samples(training: TrainingState) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the training samples, as the last epoch drew them, without augmentation."""
    epoch = max(1, training.progress.epochs_done)
    for step in range(training.sampler.steps):
        batch = training.sampler.batch(epoch, step)
        yield training.arithmetic.arrange(batch.image), batch.label


def _cut(
    task: PruneJob,
    job: TrainingJob,
    course: PruningSchedule,
    training: TrainingState,
    manifest: Manifest,
) -> TrainingState:
    """Remove channels; returns the training of the smaller network, which continues from there."""
    start = time.perf_counter()
    layers = layers_of_network(training.model)
    cut, scores = _choose(task, job, course, training)
    course.model = cut_section(training.model, course.model, cut)
    course.iteration += 1
    course.removed = {name: list(channels) for name, channels in cut.items()}
    if _targeted(task):  # with the ranks from before the cut
        possible = prunable(layers, task.settings.fixed)
        course.dropouts = targeted_dropout(possible, scores, task.settings.targeted_dropout)
    moments = task.settings.optimiser_state == "keep"
    state = cut_state(training, removal(layers, cut), keep_moments=moments)
    changed = with_network(course.job(job), manifest, training, state)
    set_dropout(changed.model, course.dropouts)
    course.seconds += time.perf_counter() - start
    return changed


def cut_state(training: TrainingState, gone: Removal, *, keep_moments: bool) -> State:
    """The state of a training without some channels; the search for the best weights is reset.

    Weights, batch norm, moving average and, if they are kept, the optimiser's moments lose the same
    slices. Best scores and counters (of early stopping, of a plateau) are reset because they belong
    to the larger network.
    """
    state = training.state()
    optimiser = {**state["optimiser"], "state": {}}
    if keep_moments:
        names = trained_parameters(training.model)
        optimiser = cut_optimiser(state["optimiser"], names, gone)
    average = state["ema"] and {
        **state["ema"],
        "average": cut_tensors(state["ema"]["average"], gone),
    }
    reset = {"best_score": -math.inf, "best_epoch": 0, "best_weights": {}}
    reset |= {"stop_score": -math.inf, "epochs_without_improvement": 0, "stopped": False}
    return state | {
        "model": cut_tensors(state["model"], gone),
        "gradients": cut_tensors(state["gradients"], gone),
        "optimiser": optimiser,
        "ema": average,
        "schedule": state["schedule"] | {"best": None, "waited": 0},
        "progress": state["progress"] | reset,
    }
