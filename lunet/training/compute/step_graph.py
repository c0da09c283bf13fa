"""A whole training step as one CUDA graph, so that the host launches it at once.

A step of a compact network is some 270 operators, each of which takes the host longer to launch
than the GPU to compute. Forward pass, loss, backward pass, clipping and the optimiser's step are
recorded once and then replayed on buffers of fixed addresses. The first steps are taken without a
graph, on the stream that will record it: they are steps of the training like any other, so a
resumed training, which begins with them again, ends as one that was not interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

WARM_UPS = 3
"""Steps before the recording: libraries choose kernels, and the optimiser makes its state."""


class Graph(Protocol):
    """Records a function without arguments, and carries it out again."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call the function where it will be recorded."""

    def record(self, function: Callable[[], None]) -> None:
        """Record the function; nothing is computed."""

    def replay(self) -> None:
        """Compute what was recorded."""


class CudaGraph:
    """A graph of CUDA, recorded on a stream of its own."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._graph = torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], None]) -> None:
        """Call the function on the stream, after and before all other work."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            function()
        torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> None:
        """Record the kernels that the function launches."""
        with torch.cuda.graph(self._graph, stream=self._stream):
            function()

    def replay(self) -> None:
        """Launch all kernels."""
        self._graph.replay()


class GraphedStep:
    """A training step that is recorded once and replayed from then on.

    Parameters
    ----------
    step
        Maps images (B, C, \\*S) and labels (B, \\*S) to the loss and updates the weights. It must
        never wait for the device, and keep all tensors that outlive it at their addresses.
    make
        Makes the graph.
    """

    def __init__(self, step: Callable[[Tensor, Tensor], Tensor], make: Callable[[], Graph]) -> None:
        self._step, self._graph = step, make()
        self._taken = 0
        self._buffers: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, image: Tensor, label: Tensor) -> Tensor:
        """Take a step on a batch, whose shape is always the same; its loss, on the device."""
        if self._buffers is None:
            loss = torch.zeros((), device=image.device)
            self._buffers = torch.empty_like(image), torch.empty_like(label), loss
        self._buffers[0].copy_(image)
        self._buffers[1].copy_(label)
        if self._taken < WARM_UPS:
            self._graph.warm_up(self._on_buffers)
        else:
            if self._taken == WARM_UPS:
                self._graph.record(self._on_buffers)
            self._graph.replay()
        self._taken += 1
        return self._buffers[2]

    def _on_buffers(self) -> None:
        assert self._buffers is not None
        image, label, loss = self._buffers
        loss.copy_(self._step(image, label))
