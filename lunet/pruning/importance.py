"""Scores the importance of channels as STAMP does, comparable between layers.

STAMP: Dinsdale et al., "STAMP: Simultaneous Training and Model Pruning for low data regimes in
medical image segmentation", Medical Image Analysis 81, 2022.

Scores of a channel with activation a (after the ReLU) and gradient g of the loss, in evaluation
mode over one pass of the training set, weights untouched:

* ``taylor``: mean of a g over samples and space, signed until the absolute value at the end,
* ``l1``, ``l2``: L1 or L2 norm of a over space, mean over samples,
* ``l1_std``: L1 norm of a minus its own mean over space, mean over samples. The exact form of
  STAMP's variant is not known; in this one, a channel that is constant over space scores 0,
  because a bias could replace it,
* ``random``: uniform numbers.

All but ``random`` are then divided by the L2 norm of the layer's scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lunet.pruning.channel_groups import Layer

Scores = dict[str, list[float]]
"""Layer name -> score of each of its channels."""
Samples = Iterable[tuple[Tensor, Tensor]]
Objective = Callable[[Tensor | Sequence[Tensor], Tensor], Tensor]


def channel_scores(
    model: nn.Module,
    layers: Mapping[str, Layer],
    samples: Samples,
    *,
    mode: str,
    objective: Objective,
    rng: np.random.Generator,
) -> Scores:
    """Score every channel of ``layers``, normalised by layer.

    Parameters
    ----------
    model
        The network; its mode, weights and gradients do not change.
    samples
        Images (batch, channel, \\*spatial) and labels (batch, \\*spatial).
    mode
        ``taylor``, ``l1``, ``l2``, ``l1_std`` or ``random``.
    objective
        Loss of logits and labels; only ``taylor`` needs it.
    rng
        Generator of the scores for ``random``.

    Returns
    -------
    Non-negative scores; all 0 in a layer whose channels are all silent.
    """
    if mode == "random":
        return {name: rng.random(layer.width).tolist() for name, layer in layers.items()}
    sums = {name: torch.zeros(layer.width, dtype=torch.float64) for name, layer in layers.items()}
    was_training = model.training
    model.eval()
    measure = _taylor if mode == "taylor" else _norms
    for image, label in samples:
        for name, values in measure(model, layers, image, label, objective, mode).items():
            sums[name] += values
    model.train(was_training)
    return {name: _normalised(values) for name, values in sums.items()}


def _normalised(values: Tensor) -> list[float]:
    length = torch.linalg.vector_norm(values)
    return (values.abs() / length).tolist() if length > 0 else [0.0] * len(values)


def _taylor(
    model: nn.Module,
    layers: Mapping[str, Layer],
    image: Tensor,
    label: Tensor,
    objective: Objective,
    mode: str,
) -> dict[str, Tensor]:
    """Sum over the samples of a batch of the spatial mean of activation times gradient."""
    signals = dict.fromkeys(layers, torch.empty(0))

    def keep(name: str, signal: Tensor) -> None:
        signals[name] = signal

    with torch.enable_grad(), _listening(model, layers, keep):
        loss = objective(model(image), label)
        gradients = torch.autograd.grad(loss, list(signals.values()))
    products = (
        signal.detach().double() * gradient.double()
        for signal, gradient in zip(signals.values(), gradients, strict=True)
    )
    means = (product.flatten(2).mean(2).sum(0).cpu() for product in products)
    # the gradient of a batch's mean loss is 1 / n of a sample's
    return {name: mean * len(image) for name, mean in zip(signals, means, strict=True)}


def _norms(
    model: nn.Module,
    layers: Mapping[str, Layer],
    image: Tensor,
    label: Tensor,
    objective: Objective,
    mode: str,
) -> dict[str, Tensor]:
    """Sum over the samples of a batch of the spatial norm of the activation."""
    found: dict[str, Tensor] = {}

    def measure(name: str, signal: Tensor) -> None:
        flat = signal.flatten(2).double()
        if mode == "l1_std":
            flat = flat - flat.mean(dim=2, keepdim=True)
        order = 2 if mode == "l2" else 1
        found[name] = torch.linalg.vector_norm(flat, ord=order, dim=2).sum(0).cpu()

    with torch.no_grad(), _listening(model, layers, measure):
        model(image)
    return found


class _listening:
    """Within the block, each forward pass calls ``hear(layer name, activation)``."""

    def __init__(
        self, model: nn.Module, layers: Mapping[str, Layer], hear: Callable[[str, Tensor], None]
    ) -> None:
        self._model, self._layers, self._hear = model, layers, hear
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        for name, layer in self._layers.items():
            module = self._model.get_submodule(layer.signal)
            self._handles.append(module.register_forward_hook(self._hook(name)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: self._hear(name, output)
