"""Checks that the steps of a graph are those that would be taken without it, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lunet.training.checkpoint import seed_everything
from lunet.training.compute.arithmetic import Arithmetic
from lunet.training.compute.step_graph import WARM_UPS
from lunet.training.loop import train_step
from lunet.training.optim import set_learning_rate
from lunet.training.state import TrainingState

_REPLAYS = 4


def find_graph_fault(
    training: Callable[[Arithmetic], TrainingState], choice: Arithmetic
) -> str | None:
    """Why whole steps must not be replayed from a graph; None if they change nothing.

    Parameters
    ----------
    training
        Builds the training at its beginning.
    choice
        An arithmetic with a graph. The learning rate changes between the replays.
    """
    choice.prepare()
    plain = _steps(training(choice), graph=False)
    graphed = _steps(training(choice), graph=True)
    for (name, expected), (_, found) in zip(plain, graphed, strict=True):
        if not torch.equal(expected.nan_to_num(), found.nan_to_num()):
            return f"{name} differs between a step of the graph and one without it"
    return None


def _steps(training: TrainingState, *, graph: bool) -> list[tuple[str, Tensor]]:
    """What some steps lead to: losses, weights, moments and averages, on the CPU."""
    seed_everything(0)
    if not graph:
        training.graph = None
    training.model.train()
    found = []
    for step in range(WARM_UPS + _REPLAYS):
        set_learning_rate(training.optimiser, training.recipe.optimiser.lr / (1 + step // 2))
        training.progress.step %= training.sampler.steps
        position = training.progress.step
        train_step(training)
        loss = training.progress.losses[position]
        found.append((f"the loss of step {step + 1}", loss.to("cpu", copy=True)))
    return [*found, *((name, value.to("cpu", copy=True)) for name, value in _state(training))]


def _state(training: TrainingState) -> Iterator[tuple[str, Tensor]]:
    yield from training.model.state_dict().items()
    for number, moments in enumerate(training.optimiser.state.values()):
        for name, value in moments.items():
            if isinstance(value, Tensor):
                yield f"{name} of weight {number} in the optimiser", value
    if training.ema:
        yield from training.ema.average.items()
