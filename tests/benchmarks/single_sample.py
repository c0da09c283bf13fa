"""Processor time of a forward pass of one volume, one thread: PyTorch's choice against oneDNN.

python tests/benchmarks/single_sample.py
"""

from __future__ import annotations

import time

import torch
from torch import nn

from lunet.models.single_sample import fast_copy
from lunet.study.networks import build_model

NETWORKS = (
    "lunet_small_4f",
    "unet_small_4f",
    "unet_small_8f",
    "unetpp_small_2f",
    "lunet_large_12f",
)
SIZES = ((48, 64, 48), (24, 32, 24))


def milliseconds(network: nn.Module, x: torch.Tensor, runs: int = 8) -> float:
    """Least processor time of several runs."""
    with torch.inference_mode():
        network(x)
        times = []
        for _ in range(runs):
            start = time.process_time()
            network(x)
            times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """Print a row per network and size."""
    torch.set_num_threads(1)
    print(f"{'network':16} {'size':14} plain (ms)  oneDNN (ms)  ratio  two samples, each (ms)")
    for name in NETWORKS:
        for size in SIZES:
            plain = build_model(name, in_channels=1, out_channels=3).eval()
            x = torch.randn(1, 1, *size)
            slow, fast = milliseconds(plain, x), milliseconds(fast_copy(plain), x)
            pair = milliseconds(plain, torch.cat([x, x])) / 2
            print(
                f"{name:16} {'x'.join(map(str, size)):14} {slow:10.1f} {fast:12.1f}"
                f" {slow / fast:6.2f} {pair:14.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
