"""Removes channels from weights, statistics, skips, up-convolutions and the optimiser's state.

The result is a plain network whose arguments hold its widths, so that it is built, saved, loaded,
exported and counted like any preset. Every tensor with a slice for a removed channel loses it: all
five tensors of a batch norm, the right slice of each concatenation, the moments of the optimiser.
No other number changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lunet.errors import ConfigError, nearest
from lunet.pruning.channel_groups import Layer, arguments_of, layers_of_network

Cut = Mapping[str, Collection[int]]
"""Layer name -> channels to remove."""
Removal = Mapping[str, Mapping[int, frozenset[int]]]
"""Tensor name -> axis -> indices to remove."""
Section = dict[str, Any]


def cut_section(model: nn.Module, section: Mapping[str, Any], cut: Cut) -> Section:
    """The ``model`` section of a network without some of its channels.

    Parameters
    ----------
    model
        The network, which does not change.
    section
        Its ``model`` section: preset, module, name, arguments.
    cut
        Layer name -> channels to remove; at least one of each layer must stay.

    Returns
    -------
    The section with the new widths in its arguments. It builds the smaller network;
    :func:`cut_tensors` gives its tensors.

    Raises
    ------
    ConfigError
        If a layer or channel is unknown, a layer would be empty, or the architecture cannot be cut.
    """
    layers = layers_of_network(model)
    check_cut(layers, cut)
    widths = {name: layer.width - len(set(cut.get(name, ()))) for name, layer in layers.items()}
    return {**section, "arguments": arguments_of(model, section["arguments"], widths)}


def check_cut(layers: Mapping[str, Layer], cut: Cut) -> None:
    """Refuse unknown layers, unknown channels and an emptied layer.

    Raises
    ------
    ConfigError
        If there is one; the message names the layer.
    """
    for name, channels in cut.items():
        if name not in layers:
            raise ConfigError(
                where=f"cut {name!r}", found="no such layer", expected=nearest(name, layers)
            )
        width = layers[name].width
        beyond = sorted(channel for channel in channels if not 0 <= channel < width)
        if beyond:
            raise ConfigError(
                where=f"cut {name!r}",
                found=f"channels {beyond}",
                expected=f"0 to {width - 1} exist",
            )
        if len(set(channels)) >= width:
            raise ConfigError(
                where=f"cut {name!r}",
                found=f"all {width} channels",
                expected="at least one has to stay",
            )


def removal(layers: Mapping[str, Layer], cut: Cut) -> Removal:
    """The indices to remove from each axis of each tensor."""
    found: dict[str, dict[int, frozenset[int]]] = defaultdict(dict)
    for name, channels in cut.items():
        for place in layers[name].places:
            gone = frozenset(place.offset + channel for channel in channels)
            former = found[place.tensor].get(place.axis, frozenset())
            found[place.tensor][place.axis] = former | gone
    return dict(found)


def cut_tensor(tensor: Tensor, axes: Mapping[int, frozenset[int]]) -> Tensor:
    """A copy without some indices of some axes."""
    for axis, gone in axes.items():
        kept = [index for index in range(tensor.shape[axis]) if index not in gone]
        tensor = tensor.index_select(axis, torch.tensor(kept, device=tensor.device))
    return tensor


def cut_tensors(tensors: Mapping[str, Tensor], gone: Removal) -> dict[str, Tensor]:
    """Cut tensors with the names of the network's state (weights, gradients, averages)."""
    return {
        name: cut_tensor(tensor.detach(), gone.get(name, {})) for name, tensor in tensors.items()
    }


def cut_optimiser(
    state: Mapping[str, Any], parameters: Sequence[tuple[str, tuple[int, ...]]], gone: Removal
) -> dict[str, Any]:
    """The state of an optimiser whose parameters were cut; surviving channels keep their moments.

    Moments (any tensor of a parameter's shape: both of Adam, momentum of SGD) are cut like their
    parameter; step counts stay.

    Parameters
    ----------
    state
        ``optimiser.state_dict()``.
    parameters
        Name and shape of each parameter before the cut, in the optimiser's order.
    gone
        The indices to remove.
    """
    moments = {
        index: {
            key: cut_tensor(value, gone.get(parameters[index][0], {}))
            if isinstance(value, Tensor) and tuple(value.shape) == parameters[index][1]
            else value
            for key, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    return {**state, "state": moments}


def trained_parameters(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each parameter that an optimiser holds, in the optimiser's order."""
    return [(n, tuple(p.shape)) for n, p in model.named_parameters() if p.requires_grad]


def set_dropout(model: nn.Module, probabilities: Mapping[str, float]) -> None:
    """Set the probabilities of the named dropout layers; no layer is added."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d | nn.Dropout3d):
            module.p = probabilities.get(name, module.p)
