"""Counts parameters and multiply-adds (MACs), with two counters and what each leaves out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from lunet.efficiency.room import Room
from lunet.models.live_memory import meta_copy

# operators without arithmetic: views, allocation, bookkeeping
_FREE = {
    "alias", "as_strided", "clone", "copy_", "detach", "empty", "empty_like", "expand", "permute",
    "select", "slice", "split", "split_with_sizes", "t", "transpose", "unsqueeze", "squeeze",
    "view", "_unsafe_view", "_to_copy", "new_empty", "unbind", "reshape", "_reshape_alias",
}  # fmt: skip


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Numbers of ``parameters``, of trained parameters, and of values in buffers."""
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "parameters_trained": sum(p.numel() for p in parameters if p.requires_grad),
        "buffers": sum(b.numel() for b in model.buffers()),
    }


_NOT_TRACED: dict[str, Any] = {
    "total": None,
    "by_operator": {},
    "left_out": {},
    "note": "not counted: the forward pass that fvcore needs ran out of memory",
}


def count_macs(model: nn.Module, shape: Sequence[int], room: Room | None = None) -> dict[str, Any]:
    """Multiply-adds of one forward pass in evaluation mode, by two counters.

    Parameters
    ----------
    model
        Network on the CPU.
    shape
        Input shape (batch, channel, \\*spatial). The network's padding to a legal size is included.
    room
        Records it if there is too little memory for fvcore's count.

    Returns
    -------
    ``macs`` (half of what torch's FlopCounterMode counts on meta tensors: convolutions, linear
    layers, matrix products), ``flops`` = 2 ``macs``, ``macs_fvcore`` (multiply-adds with fvcore's
    norm terms: batch norm 2, group and layer norm 5 per element; None if there is too little
    memory), and for each counter its operators and what it leaves out.
    """
    torch_count = _torch_counter(model, shape)
    room = room or Room("cpu")
    other = room.measure("macs_fvcore", lambda: _fvcore(model, shape)) or _NOT_TRACED
    total = sum(torch_count["by_operator"].values())
    return {
        "macs": total,
        "flops": 2 * total,
        "macs_fvcore": other["total"],
        "counters": {
            "torch": torch_count | {"unit": "MACs, half of FlopCounterMode's FLOPs"},
            "fvcore": {key: value for key, value in other.items() if key != "total"}
            | {"unit": "MACs, which fvcore calls flops"},
        },
    }


def _torch_counter(model: nn.Module, shape: Sequence[int]) -> dict[str, Any]:
    network, x = meta_copy(model).eval(), torch.empty(tuple(shape), device="meta")
    rest = _Uncounted()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x)
    with torch.no_grad(), rest:
        network(x)
    found = counter.get_flop_counts().get("Global", {})
    return {
        "by_operator": {_name(operator): flops // 2 for operator, flops in sorted_items(found)},
        "left_out": {
            name: {"calls": rest.calls[name], "elements": rest.elements[name]}
            for name in sorted(rest.calls)
        },
    }


def sorted_items(found: dict[Any, int]) -> list[tuple[Any, int]]:
    """Items in the order of their names."""
    return sorted(found.items(), key=lambda item: str(item[0]))


def _name(operator: Any) -> str:
    return str(operator).removeprefix("aten.")


class _Uncounted(TorchDispatchMode):
    """Calls and output elements of the arithmetic that FlopCounterMode has no formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.elements: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        name = _name(packet)
        if packet not in flop_registry and name not in _FREE:
            first = result[0] if isinstance(result, tuple | list) else result
            self.calls[name] += 1
            self.elements[name] += first.numel() if isinstance(first, torch.Tensor) else 0
        return result


def _fvcore(model: nn.Module, shape: Sequence[int]) -> dict[str, Any]:
    """fvcore traces the network, which meta tensors cannot do: one real forward pass."""
    was_training = model.training
    with _quiet("fvcore.nn.jit_analysis"), torch.no_grad():
        analysis = FlopCountAnalysis(model.eval(), torch.zeros(tuple(shape)))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        total = int(analysis.total())
        counted = {k: int(v) for k, v in sorted(analysis.by_operator().items())}
        left_out = {
            k.removeprefix("aten::"): {"calls": int(n)}
            for k, n in sorted(analysis.unsupported_ops().items())
        }
    model.train(was_training)
    ignored = "bias additions and element-wise activations are left out silently"
    return {"total": total, "by_operator": counted, "left_out": left_out, "note": ignored}


@contextmanager
def _quiet(name: str) -> Any:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
