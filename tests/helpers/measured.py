"""An ``efficiency.json``, a manifest and a ``run.json`` with round numbers, for forecasts."""

from __future__ import annotations

import copy
from typing import Any

from lunet.settings import build_settings, plain
from lunet.training.recipe import Recipe

MIB = 2**20
PRESET = "lunet_small_1f"


def cost(**changes: Any) -> dict[str, Any]:
    """What was measured: 2 samples of 1000 voxels take 100 ms (bf16: 50 ms) and 30 MiB."""
    content = {
        "preset": PRESET,
        "macs": 1,
        "size": [10, 10, 10],
        "weights_bytes": MIB,
        "device": {"type": "cpu"},
        "settings": {"device": "auto", "threads": 1},
        "training_memory": [
            {"batch": 2, "counted_bytes": 30 * MIB, "measured_bytes": 30 * MIB},
            {"batch": 4, "counted_bytes": 50 * MIB, "measured_bytes": 50 * MIB},
        ],
        "training_engine": {
            "batch": 2,
            "process_bytes": 300 * MIB,
            "tried": [
                {
                    "precision": precision,
                    "memory_format": "contiguous",
                    "compile": False,
                    "step_ms": milliseconds,
                    "growth_bytes": growth * MIB,
                }
                for precision, milliseconds, growth in (("fp32", 100.0, 60), ("bf16", 50.0, 90))
            ],
        },
    }
    return copy.deepcopy(content | changes)


def manifest(shape: tuple[int, ...] = (10, 10, 10), *, dimensions: int = 3) -> dict[str, Any]:
    return {
        "task": {"channels": ["MRI"], "dimensions": dimensions},
        "cases": [{"labelled": True, "shape": list(shape)}, {"labelled": False, "shape": [1] * 3}],
    }


def recipe(**changes: Any) -> dict[str, Any]:
    fields = {"epochs": 10, "batch_size": 2} | changes
    return plain(build_settings(Recipe, fields, "train"))


def broken(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = cost()
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


def run(seconds: float = 8.0, peak: float = 722 * MIB + 110_000, **changes: Any) -> dict[str, Any]:
    return {
        "preset": PRESET,
        "settings": {"recipe": recipe(epochs=99), "model": {}},
        "epochs": 10,  # it stopped early
        "cases": {"train": 8, "validation": 3},
        "engine": {"device": "cpu", "threads": 1},
        "device_seconds": seconds,
        "peak_memory_bytes": peak,
    } | changes
