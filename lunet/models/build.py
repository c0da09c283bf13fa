"""A network from its row in the table of presets; imports just the module that the row names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lunet.errors import ConfigError, nearest, shown

_LARGEST, _LONGEST = 2**20, 64
"""Of an argument: a whole number, and a list, one item per level."""


def build_network(
    module: str,
    name: str,
    *,
    in_channels: int,
    out_channels: int,
    ndim: int,
    arguments: Mapping[str, Any],
) -> nn.Module:
    """The network ``lunet.models.<module>.<name>`` with freshly initialised weights.

    Parameters
    ----------
    module, name
        File name below ``lunet/models`` (without ``.py``) and class name.
    in_channels, out_channels
        Channels of the image and of the logits.
    ndim
        2 or 3 spatial axes.
    arguments
        Further keyword arguments of the class, plain JSON values.

    Raises
    ------
    ConfigError
        If the module, the class or an argument does not exist, or a value is out of range.
    """
    make = _network_class(module, name)
    everything = {"ndim": ndim, **arguments}
    _check_arguments(make, f"{module}.{name}", everything)
    for key, value in (("in_channels", in_channels), ("out_channels", out_channels)):
        if value < 1:
            raise ConfigError(key, f"{value}", "at least one channel is needed")
    try:
        return make(in_channels, out_channels, **everything)
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" in str(error):
            raise  # too little memory is sorted elsewhere
        reason = (str(error).splitlines() or [""])[0]
        found = f"cannot be built with {shown(dict(everything))} ({reason:.200})"
        raise ConfigError(f"{module}.{name}", found, "other arguments are needed") from error


def _network_class(module: str, name: str) -> Callable[..., nn.Module]:
    files = {path.stem for path in Path(__file__).parent.glob("[a-z]*.py")}
    if module not in files:
        raise ConfigError(
            "model.module", repr(module), "no such model module", nearest(module, files)
        )
    found = vars(importlib.import_module(f"lunet.models.{module}"))
    networks = {
        key
        for key, value in found.items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not key.startswith("_")
    }
    if name not in networks:
        where = f"lunet.models.{module} has no such network"
        raise ConfigError("model.name", repr(name), where, nearest(name, networks))
    return found[name]


def _check_arguments(make: Callable[..., nn.Module], where: str, given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{where}.{key}", "unknown argument", "", nearest(key, known))
        if not _fits(value, known[key].annotation):
            wanted = f"a value of type {known[key].annotation} is needed"
            raise ConfigError(f"{where}.{key}", f"found {shown(value)}", wanted)
    for key, parameter in known.items():
        if key not in given and parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"{where}.{key}", "missing", "this argument is needed")


def _fits(value: Any, annotation: str) -> bool:
    """Whether a JSON value is one of the types that an annotation joins with ``|``."""
    return any(_is_of(value, kind.strip()) for kind in annotation.split("|"))


def _is_of(value: Any, kind: str) -> bool:
    scalars: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "float": (int, float),
        "str": str,
        "bool": bool,
    }
    if kind in scalars:
        is_kind = isinstance(value, scalars[kind]) and isinstance(value, bool) == (kind == "bool")
        return is_kind and not (isinstance(value, int) and abs(value) > _LARGEST)
    if kind == "Sequence[int]":
        is_list = isinstance(value, list | tuple) and len(value) <= _LONGEST
        return is_list and all(_is_of(item, "int") for item in value)
    return isinstance(value, Mapping)
