"""Compact segmentation networks: build, train, evaluate and compare them.

The public names are imported when they are first used, so that ``import lunet`` is fast.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "build_loss": "lunet.training.losses.build",
    "build_model": "lunet.study.networks",
    "evaluate_case": "lunet.metrics.case",
    "load_model": "lunet.inference.load",
    "predict": "lunet.inference.predict",
}

__all__ = ["build_loss", "build_model", "evaluate_case", "load_model", "predict"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lunet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
