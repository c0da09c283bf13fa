"""Settings of the cost measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.errors import ConfigError
from lunet.settings import LONGEST_AXIS, MOST_THREADS, setting


@dataclass(frozen=True)
class EfficiencySettings:
    """Which costs of a network are measured, and how often."""

    size: tuple[int, ...] = setting(
        (64, 64, 64), doc="input size in voxels", minimum=1, maximum=LONGEST_AXIS
    )
    batches: tuple[int, ...] = setting(
        (1, 2), doc="batch sizes of the latency", minimum=1, maximum=65536
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", doc="device to measure on")
    precisions: tuple[Literal["fp32", "bf16"], ...] = setting(("fp32",), doc="number formats")
    engines: tuple[Literal["eager", "compiled", "onnx", "openvino"], ...] = setting(
        ("eager",), doc="how the network is run"
    )
    threads: int = setting(1, doc="CPU threads", minimum=1, maximum=MOST_THREADS)
    warmups: int = setting(50, doc="runs before measuring", minimum=1, maximum=1_000_000)
    repeats: int = setting(200, doc="measured runs per process", minimum=5, maximum=1_000_000)
    processes: int = setting(5, doc="fresh processes", minimum=1, maximum=1000)
    budget_s: float = setting(
        10.0, doc="seconds per series and process, at least 5 runs; 0 is no limit", minimum=0
    )
    throughput_batch: int = setting(
        16, doc="largest batch tried for the throughput; 0 leaves it out", minimum=0, maximum=65536
    )
    training_step: bool = setting(True, doc="also measure a training step")
    memory_batches: tuple[int, ...] = setting(
        (2, 4, 8),  # not 1: a CPU convolves single samples differently, with more memory
        doc="batch sizes at which the memory of a training step is measured: a line fitted to them "
        "gives the largest batch of a budget; empty leaves it out",
        minimum=1,
        maximum=65536,
    )

    def __post_init__(self) -> None:
        batches = self.memory_batches
        if len(batches) == 1 or list(batches) != sorted(set(batches)):
            found = f"found {list(batches)}"
            expected = "two or more rising sizes, or none, are expected"
            raise ConfigError(where="efficiency.memory_batches", found=found, expected=expected)
