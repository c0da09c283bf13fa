"""What to say when a loss is not finite: which epoch, step and cases, and the likely cause."""

from __future__ import annotations

import math
from statistics import median

import torch
from torch import Tensor, nn

from lunet.errors import TrainingError
from lunet.training.progress import Training


def check_losses(training: Training) -> None:
    """Look at the losses of the steps done in this epoch.

    Raises
    ------
    TrainingError
        One of them is NaN or infinite.
    """
    progress = training.progress
    losses = progress.losses[: progress.step]
    if bool(torch.isfinite(losses).all()):
        return
    step = int(torch.nonzero(~torch.isfinite(losses))[0])
    raise _explanation(training, step, float(losses[step]))


def _explanation(training: Training, step: int, loss: float) -> TrainingError:
    recipe, epoch = training.recipe, training.progress.epoch
    batch = training.sampler.batch(epoch, step)
    cases = ", ".join(batch.cases)
    damaged = sorted({n for n, i in zip(batch.cases, batch.image, strict=True) if not _finite(i)})
    if damaged:
        cause = "values that are not finite in the image of " + ", ".join(damaged)
        action = "Look at the raw file with `lunet audit`, mend or leave out the case"
    else:
        cause = "the step before left the weights too large or not finite"
        if _weights_finite(training.model):
            cause = "the images and weights are finite"
        action = (
            f"Lower train.optimiser.lr (now {recipe.optimiser.lr:g}) or set train.clip_norm"
            + (" or train.engine.precision: bf16" if recipe.engine.precision == "fp16" else "")
        )
    kind = "NaN" if math.isnan(loss) else "infinite"
    where = f"epoch {epoch}, step {step + 1} of {training.sampler.steps}"
    return TrainingError(
        where, f"the loss is {kind}", f"{cause}; cases of the batch: {cases}", action
    )


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _weights_finite(model: nn.Module) -> bool:
    return all(_finite(parameter) for parameter in model.parameters())


def no_progress(training: Training) -> str | None:
    """A warning if the training loss of the later epochs is no lower than that of the first."""
    losses = [float(row["train_loss"] or 0) for row in training.progress.history]
    if len(losses) < 4:
        return None
    first, later = losses[0], median(losses[len(losses) // 2 :])
    if later < first - 0.01 * abs(first):
        return None
    return (
        f"nothing was learnt: the training loss began with {first:.4f} and is {later:.4f}; "
        f"train.optimiser.lr ({training.recipe.optimiser.lr:g}) is probably too large (or far too "
        "small), or labels and images do not belong together"
    )
