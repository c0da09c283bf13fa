"""Counts and measures the memory of a forward pass and of a training step."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lunet.models.live_memory import forward_bytes, meta_copy, peak_bytes

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def count_memory(model: nn.Module, shape: Sequence[int]) -> dict[str, int]:
    """Bytes that depend only on the network, counted on meta tensors.

    Parameters
    ----------
    model, shape
        Network and input (batch, channel, \\*spatial) of the forward pass.

    Returns
    -------
    ``weights_bytes`` (parameters and buffers), ``input_bytes``; ``peak_memory_bytes``: peak of the
    live tensors of the forward pass, without weights and input; ``activation_bytes``: what
    autograd keeps for the backward pass. None of them includes scratch memory inside kernels.
    """
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "weights_bytes": sum(t.numel() * t.element_size() for t in tensors),
        "input_bytes": 4 * int(torch.Size(shape).numel()),
        "peak_memory_bytes": forward_bytes(model, shape),
        "activation_bytes": _kept_bytes(meta_copy(model).train(), shape),
    }


def training_bytes(
    model: nn.Module, shape: Sequence[int], step: Callable[[nn.Module, Tensor], object]
) -> int:
    """Peak of the live tensors of ``step(network, input)``, counted on meta tensors, in bytes.

    It has activations, gradients and the optimiser's state, but not weights, input and the scratch
    memory inside kernels.
    """
    return peak_bytes(meta_copy(model).train(), shape, step)


def _kept_bytes(model: nn.Module, shape: Sequence[int]) -> int:
    """Bytes of storage that the graph of one forward pass keeps, without weights and input."""
    x = torch.empty(tuple(shape), device="meta")
    given = [x, *model.parameters(), *model.buffers()]
    known = {tensor.untyped_storage()._cdata for tensor in given}
    kept: dict[int, tuple[int, torch.UntypedStorage]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in known:
            kept[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(x)
    del output
    return sum(size for size, _ in kept.values())


def measured_peak(call: Callable[[], Any], device: str) -> int | None:
    """Peak growth of the process in bytes while ``call`` runs; see :class:`HighWater`."""
    mark = HighWater(device)
    call()
    return mark.growth()


class HighWater:
    """Largest memory growth in bytes since this was created; a new instance resets the mark.

    On CUDA it is the allocator's peak, on Linux the resident set's high-water mark (which includes
    kernels' scratch memory and the allocator's slack).
    """

    def __init__(self, device: str) -> None:
        self._on_cuda = device == "cuda"
        self._start: int | None
        if self._on_cuda:
            torch.cuda.synchronize()
            self._start = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        else:
            self._start = _status("VmRSS") if _reset_high_water() else None

    def growth(self) -> int | None:
        """Bytes; None where the system does not report them."""
        if self._start is None:
            return None
        if self._on_cuda:
            torch.cuda.synchronize()
            return int(torch.cuda.max_memory_allocated() - self._start)
        return max(0, _status("VmHWM") - self._start)


def process_bytes() -> int | None:
    """Resident memory of this process; None where the system does not report it."""
    return _status("VmRSS") if sys.platform == "linux" else None


def _reset_high_water() -> bool:
    if sys.platform != "linux":
        return False
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:  # some containers forbid it
        return False
    return True


def _status(key: str) -> int:
    line = next(text for text in _STATUS.read_text().splitlines() if text.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
