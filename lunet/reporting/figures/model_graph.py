"""Find the blocks of any network and their inputs with one forward pass.

A block is a child of the network, or a member of a child that is a list or dict of modules. Each
tensor is tracked with the names of the blocks that it comes from; the output of a block comes only
from this block. The pass uses meta tensors, which need no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from lunet.models.live_memory import meta_copy


@dataclass
class Traced:
    """A block as seen in the forward pass.

    Attributes
    ----------
    channels
        Number of channels of its output.
    level
        How often the resolution was halved between the image and its output; 0 is full resolution.
    sources
        Blocks that its input comes from; empty if the input is the image.
    """

    channels: int
    level: int
    sources: list[str] = field(default_factory=list)


class _Origins(TorchFunctionMode):
    """Passes the origins of a function's arguments on to its results."""

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, frozenset[str]] = {}
        self._kept: list[Tensor] = []  # kept alive, so that no other tensor gets the same id

    def of(self, values: Any) -> frozenset[str]:
        """Blocks that any tensor in ``values`` comes from."""
        tensors = (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))
        empty: frozenset[str] = frozenset()
        return empty.union(*(self._names.get(id(tensor), empty) for tensor in tensors))

    def set(self, values: Any, names: frozenset[str]) -> None:
        """Record that all tensors in ``values`` come from these blocks."""
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor):
                self._names[id(leaf)] = names
                self._kept.append(leaf)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.set(result, self.of((args, kwargs)))
        return result


def trace(model: nn.Module, *, channels: int, ndim: int, side: int = 64) -> dict[str, Traced]:
    """Blocks of a network by name, in the order in which they run.

    Parameters
    ----------
    model
        Any network that maps (B, channels, \\*spatial) to logits; a meta copy of it is run.
    side
        Voxels per axis of the image.
    """
    network, origins = meta_copy(model).eval(), _Origins()
    found: dict[str, Traced] = {}

    def enter(name: str, values: Any) -> None:
        sources = sorted(origins.of(values), key=list(found).index)
        known = found.setdefault(name, Traced(0, 0))
        known.sources += [source for source in sources if source not in known.sources]

    def leave(name: str, result: Any) -> None:
        output = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        found[name].channels = int(output.shape[1])
        found[name].level = round(math.log2(side / output.shape[2]))
        origins.set(result, frozenset((name,)))

    for name, block in blocks(network):
        block.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: enter(name, (args, kwargs)), with_kwargs=True
        )
        block.register_forward_hook(lambda _, args, result, name=name: leave(name, result))
    with origins, torch.no_grad():
        network(torch.empty(1, channels, *(side,) * ndim, device="meta"))
    return found


def blocks(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The network's children, or their members for lists and dicts, if they have parameters."""
    for name, child in model.named_children():
        several = isinstance(child, nn.ModuleList | nn.ModuleDict)
        members = child.named_children() if several else [("", child)]
        for key, member in members:
            if any(True for _ in member.parameters()):
                yield f"{name}.{key}" if several else name, member
