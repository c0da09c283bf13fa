"""Exponential moving average of a model's weights and of its normalisation statistics.

Averaged weights do not fit the raw model's BatchNorm statistics (the validation Dice of a small
target can fall to zero), so the running statistics are averaged, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lunet.errors import TrainingError
from lunet.training.recipe import Ema


class MovingAverage:
    """``a <- d a + (1 - d) w`` for each parameter and floating-point buffer w of a model.

    Integer buffers (BatchNorm's counter) are copied. d is ``settings.decay``, or during warm-up
    ``decay * step / warmup_steps``, so that the first step copies the model.
    """

    def __init__(self, model: nn.Module, settings: Ema) -> None:
        self.settings = settings
        self.step = 0
        self.average = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}

    def decay(self) -> float:
        """Decay of the next update."""
        warmup = self.settings.warmup_steps
        return self.settings.decay * min(1.0, self.step / warmup if warmup else 1.0)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the model's weights; call this after each optimiser step."""
        current = _tensors(model)
        floating = [name for name, tensor in current.items() if tensor.is_floating_point()]
        average = [self.average[name] for name in floating]
        torch._foreach_lerp_(average, [current[name] for name in floating], 1 - self.decay())
        whole = sorted(current.keys() - set(floating))
        if whole:
            torch._foreach_copy_(
                [self.average[name] for name in whole], [current[name] for name in whole]
            )
        self.step += 1

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Use the averaged weights in ``model`` within the block, and restore its own afterwards.

        The tensors keep their addresses, so compiled graphs stay valid.
        """
        own = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}
        _copy(self.average, model)
        try:
            yield
        finally:
            _copy(own, model)

    def state_dict(self) -> dict[str, Any]:
        """Step count and averaged tensors (references; clone them to keep them)."""
        return {"step": self.step, "average": dict(self.average)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` bit for bit.

        Raises
        ------
        TrainingError
            If names or shapes differ from this model's.
        """
        saved = state["average"]
        shapes = {name: tensor.shape for name, tensor in self.average.items()}
        if {name: tensor.shape for name, tensor in saved.items()} != shapes:
            raise TrainingError(
                where="EMA state",
                found="tensors other than the model's",
                expected="the same network",
            )
        for name, tensor in self.average.items():
            tensor.copy_(saved[name])
        self.step = int(state["step"])


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


@torch.no_grad()
def _copy(source: dict[str, Tensor], model: nn.Module) -> None:
    for name, tensor in _tensors(model).items():
        tensor.copy_(source[name])
