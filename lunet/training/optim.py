"""Optimisers and learning-rate schedules.

The learning rate is a pure function of the epoch, so it needs no saved state. The plateau
schedule is the exception; its state is three numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from lunet.errors import ConfigError, TrainingError
from lunet.training.recipe import Optimiser, Schedule

_PLATEAU_GAIN = 1e-4  # a smaller relative gain does not count, as in torch's ReduceLROnPlateau


def build_optimiser(model: nn.Module, settings: Optimiser, *, recorded: bool = False) -> Optimizer:
    """The optimiser of all trainable parameters of ``model``, with torch's fused kernels.

    ``adam`` has L2 weight decay, ``adamw`` a decoupled one. If its steps will be ``recorded`` in a
    graph, the learning rate is a tensor beside the parameters, which a graph reads anew.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    common: dict[str, Any] = {
        "lr": torch.tensor(settings.lr, device=parameters[0].device) if recorded else settings.lr,
        "weight_decay": settings.weight_decay,
        "fused": True,  # for hundreds of tiny tensors it takes a quarter of the time
    }
    if settings.name == "sgd":
        return SGD(parameters, momentum=settings.momentum, nesterov=settings.nesterov, **common)
    kind = Adam if settings.name == "adam" else AdamW
    return kind(parameters, betas=settings.betas, capturable=recorded, **common)


def set_learning_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the learning rate of all groups; a tensor keeps its address, which a graph knows."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def extendable(schedule: Schedule) -> bool:
    """Whether the rates of the first epochs stay the same if there are more epochs.

    True for ``constant``, ``step`` and ``plateau``; the others depend on the number of epochs.
    """
    return schedule.name in ("constant", "step", "plateau")


class LearningRate:
    """The learning rate of each epoch.

    Parameters
    ----------
    schedule
        The schedule; before it, the rate rises linearly to ``base`` in ``warmup_epochs``.
    base
        Learning rate of the optimiser settings.
    epochs
        Length of the training, including the warm-up.
    higher_is_better
        Direction of the metric given to :meth:`observe` (False for a loss).
    """

    def __init__(
        self, schedule: Schedule, base: float, epochs: int, *, higher_is_better: bool = True
    ) -> None:
        if schedule.warmup_epochs >= epochs:
            raise ConfigError(
                where="train.schedule.warmup_epochs",
                found=f"found {schedule.warmup_epochs}",
                expected=f"fewer than the {epochs} epochs are expected",
            )
        self.schedule, self.base, self.epochs = schedule, base, epochs
        self.higher_is_better = higher_is_better
        self.best: float | None = None
        self.epochs_without_improvement = 0
        self.reductions = 0

    def at(self, epoch: float) -> float:
        """Rate of an epoch (0-based; a fraction gives the rate within the epoch).

        Warm-up: epoch e of w has ``base (e + 1) / (w + 1)``, so that no epoch has rate 0.
        """
        warmup = self.schedule.warmup_epochs
        if epoch < warmup:
            return self.base * (epoch + 1) / (warmup + 1)
        rate = self._course(epoch - warmup, self.epochs - warmup)
        return max(rate, min(self.schedule.floor, self.base))

    def observe(self, metric: float) -> None:
        """Pass the metric of the validated epoch to the plateau schedule.

        After more than ``patience`` observations without improvement the rate is multiplied by
        ``factor``, as in torch's ``ReduceLROnPlateau``. A metric that is not finite is no
        improvement.
        """
        if self._gains(metric):
            self.best, self.epochs_without_improvement = metric, 0
            return
        self.epochs_without_improvement += 1
        if self.epochs_without_improvement > self.schedule.patience:
            self.reductions, self.epochs_without_improvement = self.reductions + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """The plateau's state: plain numbers."""
        return {
            "best": self.best,
            "waited": self.epochs_without_improvement,
            "reductions": self.reductions,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`.

        Raises
        ------
        TrainingError
            If the entries of the state differ.
        """
        if set(state) != {"best", "waited", "reductions"}:
            raise TrainingError(
                where="schedule", found=f"a state with {sorted(state)}", expected="another state"
            )
        self.best, self.epochs_without_improvement = state["best"], int(state["waited"])
        self.reductions = int(state["reductions"])

    def _gains(self, metric: float) -> bool:
        if not math.isfinite(metric):
            return False
        if self.best is None:
            return True
        if self.higher_is_better:
            return metric > self.best * (1 + _PLATEAU_GAIN)
        return metric < self.best * (1 - _PLATEAU_GAIN)

    def _course(self, epoch: float, epochs: int) -> float:
        schedule, share = self.schedule, min(epoch / epochs, 1.0)
        if schedule.name == "step":
            return self.base * schedule.factor ** int(epoch // schedule.step_epochs)
        if schedule.name == "cosine":
            floor = min(schedule.floor, self.base)
            return floor + (self.base - floor) * (1 + math.cos(math.pi * share)) / 2
        if schedule.name == "polynomial":
            return self.base * (1 - share) ** schedule.power
        if schedule.name == "plateau":
            return self.base * schedule.factor**self.reductions
        return self.base
