"""Cases that a trained network finds unlike all others: a swapped or shifted label, mostly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lunet.training.progress import Training
from lunet.training.validation import build_validator

_EPOCHS = 10  # before that everything is unlike everything
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
            f"case {self.case} ({self.part}) has Dice {self.dice:.2f} where the median is "
            f"{self.median:.2f}: do its image and label belong together?"
        )


def suspects(training: Training) -> list[Suspect]:
    """Run the trained network once over all cases and name the outliers.

    An outlier lies below the median by 5 robust standard deviations (median absolute deviation)
    and by 0.15. Short or unsuccessful trainings name nobody.
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
        with training.learned() as model:
            outcome = validator.run(model, training.arithmetic.forward, stop=lambda: False)
        if outcome is not None:
            found += _outliers(outcome.case_dice, validator.volumes.names, part)
    return found


def _outliers(case_dice: torch.Tensor, names: tuple[str, ...], part: str) -> list[Suspect]:
    """Suspects by their mean Dice over structures; (cases, structures)."""
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
