"""The training loop; read it from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lunet.errors import Interrupted
from lunet.gpu_energy import joules_of_one_run
from lunet.training.callbacks import ProgressReporter
from lunet.training.checkpoint import Checkpoint, State
from lunet.training.diagnostics import check_losses
from lunet.training.history import Row, columns, score, value
from lunet.training.optim import set_learning_rate
from lunet.training.signals import StopRequest
from lunet.training.state import TrainingState, copy_weights

_SAVING_SHARE = 0.01  # of the training time
_STEPS_BETWEEN_CHECKS = {"cpu": 1, "cuda": 32}  # reading a loss makes the CPU wait for CUDA


@dataclass
class CheckpointSaver:
    """Saves the state of a training, as often as its cost allows.

    Attributes
    ----------
    checkpoint, stamp
        Files of the state, and the digest of what it is valid for.
    interval
        Seconds between saves at the ends of epochs; None: 100 times the duration of a save.
    more
        Returns further entries of the state, for code that calls the loop (pruning).
    """

    checkpoint: Checkpoint
    stamp: str
    interval: float | None = None
    more: Callable[[], State] = dict
    saved_at: float = -math.inf
    cost: float = 0.0

    def save(self, training: TrainingState) -> None:
        """Save now."""
        start = time.perf_counter()
        self.checkpoint.save(training.state() | self.more(), stamp=self.stamp)
        self.saved_at = time.perf_counter()
        self.cost = self.saved_at - start

    def save_if_due(self, training: TrainingState) -> None:
        """Save if enough time has passed since the last save."""
        interval = self.cost / _SAVING_SHARE if self.interval is None else self.interval
        if time.perf_counter() - self.saved_at >= interval:
            self.save(training)


def train(
    training: TrainingState,
    *,
    saver: CheckpointSaver,
    request: StopRequest,
    reporter: ProgressReporter,
    snapshot: Callable[[int], None],
    until: int | None = None,
) -> None:
    """Train until all epochs (or ``until``) are done or early stopping ends the training.

    Continues from the progress of ``training``, even in the middle of an epoch. Afterwards
    ``training.progress`` holds the history and the best weights.

    Parameters
    ----------
    training
        All parts of the training; changed in place.
    saver, request, reporter
        Saves states, asks the training to stop, shows its progress.
    snapshot
        Called with the number of each epoch whose weights the recipe keeps.

    Raises
    ------
    TrainingError
        If a loss is not finite; the last good state stays on disk.
    Interrupted
        If a signal asked to stop; the state was saved.
    """
    recipe, progress = training.recipe, training.progress
    request.start_saving_on_request()
    last = recipe.epochs if until is None else min(until, recipe.epochs)
    while progress.epoch <= last and not progress.stopped:
        rate = training.schedule.at(progress.epoch - 1)
        set_learning_rate(training.optimiser, rate)
        train_epoch(training, request=request, reporter=reporter)
        row = finish_epoch(training, rate, request=request)
        if row is None:
            raise save_and_stop(training, saver=saver, request=request)
        reporter.epoch(training, row)
        if recipe.save_every and progress.epochs_done % recipe.save_every == 0:
            snapshot(progress.epochs_done)
        saver.save_if_due(training)


def train_epoch(
    training: TrainingState, *, request: StopRequest, reporter: ProgressReporter
) -> None:
    """Take the remaining steps of the current epoch, or stop earlier on request."""
    progress, sampler = training.progress, training.sampler
    device = training.arithmetic.device
    start, energy = time.perf_counter(), joules_of_one_run(device)
    training.model.train()
    while progress.step < sampler.steps and not request.pending:
        train_step(training)
        if progress.step % _STEPS_BETWEEN_CHECKS[device] == 0:
            check_losses(training)
        reporter.step(training)
    check_losses(training)
    progress.training_seconds += time.perf_counter() - start
    progress.joules += joules_of_one_run(device) - energy


def train_step(training: TrainingState) -> None:
    """Forward and backward pass of one batch; an optimiser step at the end of a group of batches.

    The gradient of a group is the mean over its batches, so that ``grad_accumulation`` batches of n
    samples give the gradient of one batch of ``grad_accumulation * n`` samples if the loss is a
    mean over samples (batch normalisation and losses pooled over a batch see only n samples).
    """
    progress, recipe = training.progress, training.recipe
    batch = training.sampler.batch(progress.epoch, progress.step)
    image, label = batch.image, batch.label
    if training.augment:
        image, label = training.augment(image, label, training.generator)
    first = progress.step - progress.step % recipe.grad_accumulation
    group = min(recipe.grad_accumulation, training.sampler.steps - first)
    is_last = progress.step + 1 == first + group
    if training.graph:
        loss = training.graph(image, label)
    else:
        loss = add_gradients(training, image, label, group)
        if is_last:
            update_weights(training)
    if is_last and training.ema:
        training.ema.update(training.model)
    progress.losses[progress.step] = loss
    progress.step += 1
    progress.samples += len(batch.cases)


def whole_step(training: TrainingState, image: Tensor, label: Tensor) -> Tensor:
    """Gradients and update of a step of one batch; its loss."""
    loss = add_gradients(training, image, label, 1)
    update_weights(training)
    return loss


def add_gradients(training: TrainingState, image: Tensor, label: Tensor, group: int) -> Tensor:
    """Add the gradients of one of the ``group`` batches of an optimiser step; its loss."""
    with training.arithmetic.autocast():
        outputs = training.forward(training.arithmetic.arrange(image))
        loss = training.objective(outputs, label)
    training.scaler.scale(loss / group).backward()
    return loss.detach()


def update_weights(training: TrainingState) -> None:
    """Clip the gradients, take a step of the optimiser, reset the gradients."""
    if training.recipe.clip_norm:
        training.scaler.unscale_(training.optimiser)
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), training.recipe.clip_norm)
    training.scaler.step(training.optimiser)
    training.scaler.update()
    training.optimiser.zero_grad(set_to_none=True)


def finish_epoch(training: TrainingState, rate: float, *, request: StopRequest) -> Row | None:
    """Validate, keep the best weights, update the schedule, advance to the next epoch.

    Returns the epoch's row of the history; None if a signal came before all this was done. In that
    case everything is as it was after the last step.
    """
    progress, recipe = training.progress, training.recipe
    if request.pending:
        return None
    row: Row = dict.fromkeys(columns(training.task))
    row |= {"epoch": progress.epoch, "lr": rate, "train_loss": float(progress.losses.mean())}
    if progress.epoch % recipe.validate_every == 0 or progress.epoch == recipe.epochs:
        device = training.arithmetic.device
        start, energy = time.perf_counter(), joules_of_one_run(device)
        with training.ema_weights() as model:
            found = training.validator.run(
                model, training.arithmetic.forward, stop=lambda: request.pending
            )
            if found is None:
                return None
            row |= {"val_loss": found.loss, "dice": found.mean_dice}
            row |= {f"dice_{name}": value for name, value in found.dice.items()}
            keep_best(training, row, model)
        training.schedule.observe(value(row, recipe.monitor))
        progress.validation_seconds += time.perf_counter() - start
        progress.joules += joules_of_one_run(device) - energy
    progress.history.append(row)
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.losses = torch.full_like(progress.losses, math.nan)
    return row


def keep_best(training: TrainingState, row: Row, model: nn.Module) -> None:
    """Keep the weights if they are strictly better; count validations without improvement."""
    progress, recipe = training.progress, training.recipe
    reached = score(row, recipe.monitor)
    if reached > progress.best_score:
        progress.best_score, progress.best_epoch = reached, progress.epoch
        progress.best_weights = copy_weights(model)
    stopping = recipe.early_stopping
    if score(row, stopping.metric) > progress.stop_score + stopping.min_delta:
        progress.stop_score, progress.epochs_without_improvement = score(row, stopping.metric), 0
    else:
        progress.epochs_without_improvement += 1
    progress.stopped = 0 < stopping.patience <= progress.epochs_without_improvement


def save_and_stop(
    training: TrainingState, *, saver: CheckpointSaver, request: StopRequest
) -> Interrupted:
    """Save the state in the middle of an epoch; returns the error that ends the process."""
    request.cancel_deadline()
    saver.save(training)
    progress = training.progress
    where = f"epoch {progress.epoch}, step {progress.step} of {training.sampler.steps}"
    return request.interruption(saver.checkpoint.folder, f"state saved at {where}")
