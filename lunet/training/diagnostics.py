"""Diagnoses failed trainings: losses that are not finite or do not fall, unusual cases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from lunet.errors import TrainingError
from lunet.training.state import TrainingState
from lunet.training.validation import build_validator


def check_losses(training: TrainingState) -> None:
    """Check the losses of the steps done in this epoch.

    Raises
    ------
    TrainingError
        If one of them is NaN or infinite.
    """
    progress = training.progress
    losses = progress.losses[: progress.step]
    if bool(torch.isfinite(losses).all()):
        return
    step = int(torch.nonzero(~torch.isfinite(losses))[0])
    raise _explanation(training, step, float(losses[step]))


def _explanation(training: TrainingState, step: int, loss: float) -> TrainingError:
    recipe, epoch = training.recipe, training.progress.epoch
    batch = training.sampler.batch(epoch, step)
    cases = ", ".join(batch.cases)
    damaged = sorted({n for n, i in zip(batch.cases, batch.image, strict=True) if not _finite(i)})
    if damaged:
        cause = "values that are not finite in the image of " + ", ".join(damaged)
        action = "Check the raw file with `lunet audit`, then repair it or leave out the case"
    else:
        cause = "the previous step made the weights too large or not finite"
        if all(map(_finite, training.model.parameters())):
            cause = "the images and weights are finite"
        action = (
            f"Lower train.optimiser.lr (now {recipe.optimiser.lr:g}) or set train.clip_norm"
            + (" or train.engine.precision: bf16" if recipe.engine.precision == "fp16" else "")
        )
    kind = "NaN" if math.isnan(loss) else "infinite"
    where = f"epoch {epoch}, step {step + 1} of {training.sampler.steps}"
    return TrainingError(
        where=where,
        found=f"the loss is {kind}",
        expected=f"{cause}; cases of the batch: {cases}",
        action=action,
    )


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def no_progress(training: TrainingState) -> str | None:
    """A warning if the training loss is no lower in the later epochs than in the first."""
    losses = [float(row["train_loss"] or 0) for row in training.progress.history]
    if len(losses) < 4:
        return None
    first, later = losses[0], median(losses[len(losses) // 2 :])
    if later < first - 0.01 * abs(first):
        return None
    return (
        f"nothing was learnt: the training loss was {first:.4f} at first and is {later:.4f} now; "
        f"train.optimiser.lr ({training.recipe.optimiser.lr:g}) is probably too large (or far too "
        "small), or labels and images do not belong together"
    )


_EPOCHS = 10  # fewer epochs do not suffice to recognise unusual cases
_SOLID_DICE = 0.5
_SPREADS, _LEAST_GAP = 5.0, 0.15


@dataclass(frozen=True)
class Suspect:
    """A case whose Dice is far below the median of its part (``train`` or ``validation``)."""

    case: str
    part: str
    dice: float
    median: float

    def __str__(self) -> str:
        return (
            f"case {self.case} ({self.part}) has Dice {self.dice:.2f}, while the median is "
            f"{self.median:.2f}: do its image and label belong together?"
        )


def suspects(training: TrainingState) -> list[Suspect]:
    """Run the trained network once over all cases and return the outliers.

    An outlier is below the median by at least 5 robust standard deviations (median absolute
    deviation) and by at least 0.15. Short or unsuccessful trainings have no outliers.
    """
    if training.progress.epochs_done < _EPOCHS:
        return []
    check, recipe = training.validator, training.recipe
    own = build_validator(
        training.sampler.volumes,
        training.task,
        training.objective,
        patch=recipe.patch,
        batch_size=recipe.batch_size,
    )
    found: list[Suspect] = []
    for part, validator in (("train", own), ("validation", check)):
        with training.ema_weights() as model:
            outcome = validator.run(model, training.arithmetic.forward, stop=lambda: False)
        if outcome is not None:
            found += _outliers(outcome.case_dice, validator.volumes.names, part)
    return found


def _outliers(case_dice: torch.Tensor, names: tuple[str, ...], part: str) -> list[Suspect]:
    """Suspects by their mean Dice over structures; ``case_dice`` is (cases, structures)."""
    dice = case_dice.nanmean(dim=1)
    known = dice[~dice.isnan()]
    if len(known) < 4 or float(known.median()) < _SOLID_DICE:
        return []
    middle = float(known.median())
    spread = 1.4826 * float((known - middle).abs().median())
    limit = middle - max(_SPREADS * spread, _LEAST_GAP)
    blank = Suspect("", part, 0.0, middle)
    pairs = zip(names, dice.tolist(), strict=True)
    return [replace(blank, case=name, dice=value) for name, value in pairs if value < limit]
