"""Layers of narrow channels-last tensors on a CPU: torch's own beside lunet's, bfloat16.

Milliseconds of forward and backward of one layer, the best of some rounds, in computed time.

Example: python tests/benchmarks/narrow.py --threads 2
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from lunet.training.compute.arithmetic import keep_freed_memory
from lunet.training.compute.narrow_layers import NarrowLayers
from lunet.training.compute.voxel_views import laid_out


class Join(nn.Module):
    """The tensor beside itself."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, *S) to (N, 2 C, *S)."""
        return torch.cat([x, x], dim=1)


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=4, default=(16, 48, 64, 48), help="batch, voxels")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    batch, *size = arguments.size
    half = [side // 2 for side in size]
    layers: dict[str, tuple[nn.Module, int, list[int]]] = {
        "convolution 1 to 4": (nn.Conv3d(1, 4, 3, padding=1), 1, size),
        "convolution 4 to 4": (nn.Conv3d(4, 4, 3, padding=1), 4, size),
        "convolution 8 to 4": (nn.Conv3d(8, 4, 3, padding=1), 8, size),
        "convolution 8 to 8": (nn.Conv3d(8, 8, 3, padding=1), 8, size),
        "up-convolution 4 to 4": (nn.ConvTranspose3d(4, 4, 2, stride=2), 4, half),
        "batch norm of 4": (nn.BatchNorm3d(4), 4, size),
        "dropout of 4": (nn.Dropout3d(0.1), 4, size),
        "concatenation of 4 and 4": (Join(), 4, size),
    }
    print("| layer | torch, ms | lunet, ms | ratio |\n| --- | --- | --- | --- |")
    for name, (layer, channels, sides) in layers.items():
        image = laid_out(torch.randn(batch, channels, *sides).bfloat16())
        x = image.requires_grad_(channels > 1)
        seconds = [_best(_pass(layer, x, own=own), arguments) for own in (False, True)]
        theirs, ours = (1e3 * value for value in seconds)
        print(f"| {name} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |", flush=True)


def _pass(layer: nn.Module, x: Tensor, *, own: bool) -> Callable[[], object]:
    with NarrowLayers() if own else nullcontext(), torch.autocast("cpu"):
        gradient = torch.randn_like(layer(x))

    def run() -> None:
        with NarrowLayers() if own else nullcontext(), torch.autocast("cpu"):
            y = layer(x)
        y.backward(gradient)
        x.grad = None

    return run


def _best(run: Callable[[], object], arguments: argparse.Namespace) -> float:
    seconds = []
    for _ in range(arguments.rounds):
        start = time.process_time()
        run()
        seconds.append((time.process_time() - start) / arguments.threads)
    return min(seconds[1:])


if __name__ == "__main__":
    main()
