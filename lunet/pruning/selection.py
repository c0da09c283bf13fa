"""Selects the channels to remove by the three rules of the LUNet paper (arXiv 2512.03834).

``stamp`` removes the channels with the lowest scores in all layers, ``random_at_stamp_layer``
random channels of the layers that ``stamp`` would take them from, ``largest_layer`` random channels
of the layer that is widest at that moment. The paper leaves ties open. Here, of equally wide layers
the deepest is chosen, then the first in the order of layers; of equal scores the first. No layer
gets narrower than the least width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lunet.errors import ConfigError, nearest
from lunet.pruning.channel_groups import Layer
from lunet.pruning.settings import PRUNING

Chosen = dict[str, tuple[int, ...]]
"""Layer name -> channels to remove, ascending."""


def prunable(layers: Mapping[str, Layer], fixed: Sequence[str]) -> dict[str, Layer]:
    """The layers that may lose channels: all except the blocks in ``fixed``.

    ``fixed`` are blocks (``encoder.0``) or kinds of blocks (``up``, ``head``).
    """
    return {
        name: layer
        for name, layer in layers.items()
        if layer.block not in fixed and layer.block.split(".")[0] not in fixed
    }


def choose_channels(
    strategy: str,
    layers: Mapping[str, Layer],
    scores: Mapping[str, Sequence[float]],
    *,
    count: int,
    least: int,
    rng: np.random.Generator,
) -> Chosen:
    """Choose ``count`` channels to remove, or as many as there are above the least width.

    Parameters
    ----------
    strategy
        ``stamp``, ``random_at_stamp_layer`` or ``largest_layer``.
    layers, scores
        Layers that may lose channels, and the scores of their channels (not used by
        ``largest_layer``).
    least
        Fewest channels that each layer keeps, 1 or more.
    rng
        Generator for the random channels.

    Raises
    ------
    ConfigError
        If there is no such strategy, or ``least`` is below 1.
    """
    if strategy not in PRUNING:
        raise ConfigError(
            where="strategy", found=f"found {strategy!r}", expected=nearest(strategy, PRUNING)
        )
    if least < 1:
        raise ConfigError(
            where="prune.least_width", found=f"found {least}", expected="at least 1 is expected"
        )
    if strategy == "largest_layer":
        return _random(_widest(layers, count, least), layers, rng)
    lowest = _lowest(layers, scores, count, least)
    if strategy == "stamp":
        return lowest
    return _random({name: len(found) for name, found in lowest.items()}, layers, rng)


def _lowest(
    layers: Mapping[str, Layer], scores: Mapping[str, Sequence[float]], count: int, least: int
) -> Chosen:
    """The channels with the lowest scores, except in layers that already have the least width."""
    found: dict[str, list[int]] = {}
    left = count
    for name, channel in ranking(layers, scores):
        if left and layers[name].width - len(found.get(name, ())) > least:
            found.setdefault(name, []).append(channel)
            left -= 1
    return {name: tuple(sorted(channels)) for name, channels in found.items()}


def _widest(layers: Mapping[str, Layer], count: int, least: int) -> dict[str, int]:
    """Channels to remove per layer if each one is taken from the widest layer at that moment."""
    widths = {name: layer.width for name, layer in layers.items()}
    taken: dict[str, int] = {}
    for _ in range(count):
        open_layers = [name for name, width in widths.items() if width > least]
        if not open_layers:
            break
        # max returns the first of equal layers
        name = max(open_layers, key=lambda layer: (widths[layer], layers[layer].depth))
        widths[name] -= 1
        taken[name] = taken.get(name, 0) + 1
    return taken


def _random(
    counts: Mapping[str, int], layers: Mapping[str, Layer], rng: np.random.Generator
) -> Chosen:
    """The given number of random channels of each layer, drawn in the order of layers."""
    return {
        name: tuple(sorted(rng.choice(layer.width, counts[name], replace=False).tolist()))
        for name, layer in layers.items()
        if name in counts
    }


def ranking(
    layers: Mapping[str, Layer], scores: Mapping[str, Sequence[float]]
) -> list[tuple[str, int]]:
    """(layer, channel) of all channels, the least important first."""
    every = [(score, name, c) for name in layers for c, score in enumerate(scores[name])]
    return [(name, channel) for _, name, channel in sorted(every, key=lambda item: item[0])]


def targeted_dropout(
    layers: Mapping[str, Layer], scores: Mapping[str, Sequence[float]], largest: float
) -> dict[str, float]:
    """STAMP's targeted dropout: dropout module -> probability, from the ranks before pruning.

    Of N channels the least important weighs N - 1, the most important 0. The probability of a layer
    is the mean weight of its channels, divided by the largest such mean, times ``largest``.
    """
    order = ranking(layers, scores)
    sums = dict.fromkeys(layers, 0)
    for place, (name, _) in enumerate(order):
        sums[name] += len(order) - 1 - place
    means = {name: sums[name] / layer.width for name, layer in layers.items()}
    top = max(means.values()) or 1.0
    return {
        layer.dropout: largest * means[name] / top
        for name, layer in layers.items()
        if layer.dropout is not None
    }
