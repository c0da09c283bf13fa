"""Counts the bytes of live tensors while a network runs on meta tensors, without arithmetic."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# network -> input shape -> bytes: the cases of a study often have the same shape
_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = (
    weakref.WeakKeyDictionary()
)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operators create, until each is freed.

    Storages that exist before the block (weights, input) are not counted. Scratch memory inside a
    kernel (im2col, oneDNN reorders) is not visible here, only in measurements of the process.

    Attributes
    ----------
    live, peak
        Bytes alive now, and the largest such number.
    """

    def __init__(self, *existing: Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}
        self._kept = [tensor.untyped_storage() for tensor in existing]
        self._given = {storage._cdata for storage in self._kept}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._enter(leaf.untyped_storage())
        return result

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known or key in self._given:
            return
        size = storage.nbytes()
        self._known[key] = weakref.ref(storage, lambda _: self._leave(key, size))
        self.live += size
        self.peak = max(self.peak, self.live)

    def _leave(self, key: int, size: int) -> None:
        self._known.pop(key, None)
        self.live -= size


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose tensors have shapes but no memory."""
    return copy.deepcopy(model).to("meta")


def forward_bytes(model: nn.Module, shape: Sequence[int]) -> int:
    """Peak bytes of live tensors in one forward pass, without gradients, weights and input.

    Parameters
    ----------
    model
        Any network; a meta copy of it is run.
    shape
        Input shape (batch, channel, \\*spatial), float32.
    """
    known = _KNOWN.setdefault(model, {})
    key = tuple(shape)
    if key not in known:
        known[key] = peak_bytes(meta_copy(model).eval(), shape, _forward)
    return known[key]


def peak_bytes(
    meta_model: nn.Module, shape: Sequence[int], step: Callable[[nn.Module, Tensor], object]
) -> int:
    """Peak bytes of live tensors of ``step(meta_model, input)``, without weights and input."""
    x = torch.empty(tuple(shape), device="meta")
    weights = [*meta_model.parameters(), *meta_model.buffers()]
    with LiveBytes(x, *weights) as counter:
        step(meta_model, x)
    return counter.peak


def _forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)
