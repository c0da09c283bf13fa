"""Builds a network from its module, class and arguments; imports only that module."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from lunet.errors import ConfigError, nearest, shown
from lunet.models.own import build_own
from lunet.own_code import import_own, is_file, is_plugin
from lunet.task import Task

_LARGEST, _LONGEST = 2**20, 64
"""Limits of an argument: of a whole number, and of the length of a list, one item per level."""
_CHANNELS = ("in_channels", "out_channels")
_LISTS = re.compile(r"(?:Sequence|list|List|tuple|Tuple)\[(int|float|str|bool)(?:, \.\.\.)?\]")


def build_network(
    module: str,
    name: str,
    *,
    in_channels: int,
    out_channels: int,
    ndim: int,
    arguments: Mapping[str, Any],
) -> nn.Module:
    """The network of that class with freshly initialised weights.

    Code of the user is imported and run, so ``module`` must come from a configuration or from the
    command line and never from a file of weights.

    Parameters
    ----------
    module, name
        File name below ``lunet/models`` (without ``.py``), Python file of the user, or module of an
        installed plug-in; and class name.
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
    sizes = {"in_channels": in_channels, "out_channels": out_channels}
    for key, value in sizes.items():
        if value < 1:
            raise ConfigError(
                where=key, found=f"{value}", expected="at least one channel is needed"
            )
    if is_file(module) or is_plugin(module):
        where = f"{module}:{name}"
        make = _own_class(module, name)
        everything = {**({"ndim": ndim} if _takes(make, "ndim") else {}), **arguments}
        _check_own(make, where)
        _check_arguments(make, where, everything)
        build = partial(_build, make, where, {**sizes, **everything})
        return build_own(build, **sizes, ndim=ndim, where=where)
    make, where = _network_class(module, name), f"{module}.{name}"
    everything = {"ndim": ndim, **arguments}
    _check_arguments(make, where, everything)
    return _build(make, where, {**sizes, **everything})


def _build(make: Callable[..., nn.Module], where: str, everything: dict[str, Any]) -> nn.Module:
    try:
        return make(**everything)
    except (ValueError, ArithmeticError, LookupError, TypeError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" in str(error):
            raise  # too little memory is reported elsewhere
        reason = (str(error).splitlines() or [""])[0]
        given = {key: value for key, value in everything.items() if not key.endswith("_channels")}
        found = f"cannot be built with {shown(given)} ({reason:.200})"
        raise ConfigError(
            where=where, found=found, expected="other arguments are needed"
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


def _own_class(module: str, name: str) -> Callable[..., nn.Module]:
    found = getattr(import_own(module), name, None)
    if not inspect.isclass(found) or not issubclass(found, nn.Module):
        raise ConfigError(
            where=f"{module}:{name}",
            found="is no class of torch.nn.Module",
            expected="rule 1 of lunet.models: it is one",
        )
    return found


def _takes(make: Callable[..., nn.Module], name: str) -> bool:
    """Whether a class accepts an argument by this name."""
    parameters = inspect.signature(make).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _check_own(make: Callable[..., nn.Module], where: str) -> None:
    missing = [name for name in _CHANNELS if not _takes(make, name)]
    if missing:
        raise ConfigError(
            where=where,
            found=f"takes no argument {' and no '.join(missing)}",
            expected=f"rule 1 of lunet.models: it takes {' and '.join(_CHANNELS)}",
        )


def _check_arguments(make: Callable[..., nn.Module], where: str, given: Mapping[str, Any]) -> None:
    parameters = inspect.signature(make).parameters.values()
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters)
    by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    known = {p.name: p for p in parameters if p.kind in by_name and p.name not in _CHANNELS}
    for key, value in given.items():
        if key not in known and is_open:
            continue
        if key not in known:
            raise ConfigError(
                where=f"{where}.{key}",
                found="unknown argument",
                expected=nearest(key, known) if known else f"{where} has no further arguments",
            )
        kinds = _kinds(known[key])
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


def _kinds(parameter: inspect.Parameter) -> str:
    """The types of a parameter, joined by "|"; empty without an annotation."""
    found = parameter.annotation
    if found is inspect.Parameter.empty:
        return ""
    text = found if isinstance(found, str) else inspect.formatannotation(found)
    return re.sub(r"\b(?:typing|collections\.abc)\.", "", text)


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
    if match := _LISTS.fullmatch(kind):
        is_list = isinstance(value, list | tuple) and len(value) <= _LONGEST
        return is_list and all(_is_of(item, match[1]) for item in value)
    if kind == "None":
        return value is None
    return isinstance(value, Mapping) if kind.startswith("Mapping") else _is_small(value)


def _is_small(value: Any) -> bool:
    """Whether the numbers and lists in a value of any type stay within the limits."""
    if isinstance(value, list | tuple):
        return len(value) <= _LONGEST and all(map(_is_small, value))
    return not isinstance(value, int) or abs(value) <= _LARGEST
