"""Measures the memory of a training step at several batch sizes, to find the largest batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lunet.efficiency.memory import measured_peak
from lunet.efficiency.room import Room
from lunet.models.live_memory import meta_copy, peak_bytes
from lunet.training.memory import available_memory

_SHARE = 0.5  # of the free memory; a measurement that needs more is not tried

Step = Callable[[nn.Module, Tensor], object]


def training_memory(
    model: nn.Module,
    shape: Sequence[int],
    batches: Sequence[int],
    step: Step,
    *,
    device: str,
    room: Room | None = None,
) -> list[dict[str, int | None]]:
    """Total bytes that one training step needs, at each batch size.

    Parameters
    ----------
    model
        Network on the CPU.
    shape
        Input (channel, \\*spatial) of one sample.
    batches
        Batch sizes.
    step
        Function of network and input that does the step, or two steps to include the optimiser's
        state.
    device
        Device of the measurement, ``cpu`` or ``cuda``.
    room
        Records steps that run out of memory.

    Returns
    -------
    Per batch size ``batch``, ``counted_bytes`` (weights, input and the peak of live tensors in the
    step, counted on meta tensors) and ``measured_bytes`` (weights, input and the growth while the
    step runs: of CUDA's allocator, or of the resident set, which includes kernels' scratch memory).
    The latter is None where it cannot be measured, runs out of memory, or is not tried because the
    count exceeds half of the free memory.
    """
    room = room or Room(device)
    tensors = [*model.parameters(), *model.buffers()]
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    points: list[dict[str, int | None]] = []
    for batch in batches:
        whole = (batch, *shape)
        given = weights + 4 * int(torch.Size(whole).numel())
        counted = given + peak_bytes(meta_copy(model).train(), whole, step)
        growth = None
        if counted < _SHARE * available_memory(torch.device(device)):
            name = f"training_memory at batch {batch}"
            growth = room.measure(name, partial(_growth, model, whole, step, device))
        measured = None if growth is None else given + growth
        points.append({"batch": batch, "counted_bytes": counted, "measured_bytes": measured})
    return points


def _growth(model: nn.Module, shape: Sequence[int], step: Step, device: str) -> int | None:
    """Memory of the step besides network and input, which are freed before the next batch size."""
    network, x = copy.deepcopy(model).to(device), torch.randn(*shape).to(device)
    return measured_peak(lambda: step(network, x), device)


def describe(points: Sequence[dict[str, Any]]) -> str:
    """One line for a reader: MiB by batch size, measured if possible, else counted."""
    words = []
    for point in points:
        measured = point["measured_bytes"]
        value = point["counted_bytes"] if measured is None else measured
        mark = " (counted)" if measured is None else ""
        words.append(f"{point['batch']}: {value / 2**20:.4g} MiB{mark}")
    return ", ".join(words)
