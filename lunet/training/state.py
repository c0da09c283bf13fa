"""The parts and the progress of a training, and their conversion to and from a resume state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lunet.task import Task
from lunet.training.augmentation.batched import Augment
from lunet.training.checkpoint import State, random_state, set_random_state
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.step_graph import GraphedStep
from lunet.training.ema import MovingAverage
from lunet.training.history import Row
from lunet.training.losses.build import Objective
from lunet.training.optim import LearningRate
from lunet.training.recipe import Recipe
from lunet.training.sampling import Sampler
from lunet.training.validation import Validator

Weights = dict[str, Tensor]


@dataclass
class Progress:
    """The numbers that change during a training.

    Attributes
    ----------
    epoch, step
        The current epoch (from 1) and the number of its finished batches.
    losses
        (steps,) float32: loss of each batch of this epoch, NaN if not yet known.
    history
        Rows of the finished epochs.
    best_score, best_epoch, best_weights
        Score, epoch and weights of the best validation so far; no weights before the first.
    stop_score, epochs_without_improvement
        Best score and number of validations without improvement, for early stopping.
    stopped
        Whether early stopping has ended the training.
    training_seconds, validation_seconds
        Time so far, over all processes of the training.
    joules
        Energy of the GPU in that time; NaN if it is not known.
    samples
        Number of samples trained on.
    """

    losses: Tensor
    epoch: int = 1
    step: int = 0
    history: list[Row] = field(default_factory=list)
    best_score: float = -math.inf
    best_epoch: int = 0
    best_weights: Weights = field(default_factory=dict)
    stop_score: float = -math.inf
    epochs_without_improvement: int = 0
    stopped: bool = False
    training_seconds: float = 0.0
    validation_seconds: float = 0.0
    joules: float = 0.0
    samples: int = 0

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return self.epoch - 1


@dataclass
class TrainingState:
    """Everything that one training works with, built and checked.

    ``generator`` is the random generator of the augmentation. ``graph`` takes whole steps, if the
    arithmetic has one.
    """

    model: nn.Module
    task: Task
    recipe: Recipe
    arithmetic: Arithmetic
    sampler: Sampler
    validator: Validator
    objective: Objective
    augment: Augment | None
    generator: torch.Generator
    optimiser: torch.optim.Optimizer
    schedule: LearningRate
    scaler: torch.amp.GradScaler
    ema: MovingAverage | None
    forward: Callable[[Tensor], Any]
    progress: Progress
    graph: GraphedStep | None = None

    @contextmanager
    def ema_weights(self) -> Iterator[nn.Module]:
        """The network to validate and keep: with averaged weights if there are any."""
        with self.ema.applied(self.model) if self.ema else nullcontext():
            yield self.model

    def state(self) -> State:
        """Everything that the next start needs to resume as if it had not been interrupted."""
        parameters = self.model.named_parameters()
        gradients = {n: p.grad for n, p in parameters if p.grad is not None}
        return {
            "model": self.model.state_dict(),
            "gradients": gradients if self._is_within_group else {},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.state_dict() if self.ema else {},
            "arithmetic": asdict(self.arithmetic),
            "generator": self.generator.get_state(),
            "random": random_state(),
            "progress": dict(vars(self.progress)),
        }

    def load(self, state: State) -> None:
        """Restore a :meth:`state`."""
        self.model.load_state_dict(state["model"])
        for name, parameter in self.model.named_parameters():
            saved = state["gradients"].get(name)
            parameter.grad = None if saved is None else saved.to(parameter.device)
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):  # a saved one is on the CPU
                group["lr"] = group["lr"].to(self.arithmetic.device)
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.load_state_dict(state["ema"])
        self.generator.set_state(state["generator"])
        self.progress = Progress(**state["progress"])
        self.progress.losses = self.progress.losses.to(self.arithmetic.device)
        set_random_state(state["random"])  # last, because building and loading may draw numbers

    @property
    def _is_within_group(self) -> bool:
        step = self.progress.step
        return step % self.recipe.grad_accumulation != 0 and step < self.sampler.steps


def copy_weights(model: nn.Module) -> Weights:
    """A copy on the CPU that later steps do not change."""
    return {n: t.detach().to("cpu", copy=True) for n, t in model.state_dict().items()}
