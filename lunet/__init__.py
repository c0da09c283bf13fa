"""Compact segmentation networks: build, train, evaluate and compare them.

The public names are imported when they are first used, so that ``import lunet`` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lunet.api import Results, compare, results, train
    from lunet.errors import LunetError
    from lunet.inference.load import load_model
    from lunet.inference.predict import predict
    from lunet.inference.settings import PredictSettings
    from lunet.inference.show import show
    from lunet.metrics.case import evaluate_case
    from lunet.metrics.settings import StatisticsSettings
    from lunet.study.config import Config
    from lunet.study.networks import build_model
    from lunet.training.losses.build import build_loss
    from lunet.training.recipe import Recipe

    __version__: str

__all__ = [
    "Config",
    "LunetError",
    "PredictSettings",
    "Recipe",
    "Results",
    "StatisticsSettings",
    "build_loss",
    "build_model",
    "compare",
    "evaluate_case",
    "load_model",
    "predict",
    "results",
    "show",
    "train",
]

_PUBLIC = {
    "Config": "lunet.study.config",
    "LunetError": "lunet.errors",
    "PredictSettings": "lunet.inference.settings",
    "Recipe": "lunet.training.recipe",
    "Results": "lunet.api",
    "StatisticsSettings": "lunet.metrics.settings",
    "build_loss": "lunet.training.losses.build",
    "build_model": "lunet.study.networks",
    "compare": "lunet.api",
    "evaluate_case": "lunet.metrics.case",
    "load_model": "lunet.inference.load",
    "predict": "lunet.inference.predict",
    "results": "lunet.api",
    "show": "lunet.inference.show",
    "train": "lunet.api",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lunet")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lunet' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
