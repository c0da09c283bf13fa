"""Builds a network from its module, class and arguments; imports only that module."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lunet.errors import ConfigError, nearest, shown
from lunet.task import Task

_LARGEST, _LONGEST = 2**20, 64
"""Limits of an argument: of a whole number, and of the length of a list, one item per level."""


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
            raise ConfigError(
                where=key, found=f"{value}", expected="at least one channel is needed"
            )
    try:
        return make(in_channels, out_channels, **everything)
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" in str(error):
            raise  # too little memory is reported elsewhere
        reason = (str(error).splitlines() or [""])[0]
        found = f"cannot be built with {shown(dict(everything))} ({reason:.200})"
        raise ConfigError(
            where=f"{module}.{name}", found=found, expected="other arguments are needed"
        ) from error


def build_for_task(model: Mapping[str, Any], task: Task) -> nn.Module:
    """The network that a ``model`` section describes, for a task, with fresh weights.

    Parameters
    ----------
    model
        ``module``, ``name`` and, if the network needs some, ``arguments``.
    task
        Defines image channels, logit channels and the number of spatial axes.

    Raises
    ------
    ConfigError
        If the section has no ``module`` or ``name``, or for the reasons of :func:`build_network`.
    """
    for key in ("module", "name"):
        if key not in model:
            raise ConfigError(
                where=f"model.{key}", found="missing", expected="a network's section needs it"
            )
    return build_network(
        model["module"],
        model["name"],
        in_channels=len(task.channels),
        out_channels=task.out_channels,
        ndim=task.dimensions,
        arguments=model.get("arguments", {}),
    )


def _network_class(module: str, name: str) -> Callable[..., nn.Module]:
    files = {path.stem for path in Path(__file__).parent.glob("[a-z]*.py")}
    if module not in files:
        raise ConfigError(
            where="model.module",
            found=repr(module),
            expected="no such model module",
            action=nearest(module, files),
        )
    full_name = f"lunet.models.{module}"
    networks: dict[str, Callable[..., nn.Module]] = {
        key: value
        for key, value in vars(importlib.import_module(full_name)).items()
        if inspect.isclass(value) and issubclass(value, nn.Module) and not key.startswith("_")
        if value.__module__ == full_name  # an imported base class does not count
    }
    if name not in networks:
        where = f"{full_name} has no such network"
        raise ConfigError(
            where="model.name", found=repr(name), expected=where, action=nearest(name, networks)
        )
    return networks[name]


def _check_arguments(make: Callable[..., nn.Module], where: str, given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters.values()
    known = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    for key, value in given.items():
        if key not in known:
            raise ConfigError(
                where=f"{where}.{key}",
                found="unknown argument",
                expected="",
                action=nearest(key, known),
            )
        kinds = known[key].annotation  # a string, which may join several types with "|"
        if not any(_is_of(value, kind.strip()) for kind in kinds.split("|")):
            wanted = f"a value of type {kinds} is needed"
            raise ConfigError(
                where=f"{where}.{key}", found=f"found {shown(value)}", expected=wanted
            )
    for key, parameter in known.items():
        if key not in given and parameter.default is inspect.Parameter.empty:
            raise ConfigError(
                where=f"{where}.{key}", found="missing", expected="this argument is needed"
            )


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
