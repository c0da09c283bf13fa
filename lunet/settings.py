"""Typed, frozen settings: dataclasses built from plain mappings; unknown keys are refused.

Each subpackage defines its settings as frozen dataclasses with :func:`setting` fields.
:func:`build_settings` converts a mapping (YAML, JSON) into one and reports each mistake with its
full key; :func:`plain` converts it back; :func:`schema` describes it as JSON schema.

Files that lunet reads but does not define are described by a ``TypedDict`` and checked by
:func:`convert`, which keeps further keys unchanged.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, TypeVar, Union

from lunet.errors import ConfigError, nearest, shown, together

Settings = TypeVar("Settings")
_MISSING = dataclasses.MISSING
LARGEST_SEED = 2**32 - 1
"""Generators use 32 bits of a seed, so a larger seed would repeat the numbers of a smaller one."""
LONGEST_AXIS, MOST_THREADS = 2**16, 1024
"""Bounds of settings: voxels along an axis; threads that a process may start."""
_LARGEST = 2**63 - 1
"""The largest whole number that NumPy and torch can hold."""


@dataclass(frozen=True)
class Within:
    """Inclusive bounds of a number in a type: ``Annotated[int, Within(0, 255)]``."""

    minimum: float | None = None
    maximum: float | None = None


Size = Annotated[int, Within(1, 2**20)]
"""Voxels along an axis."""
Millimetres = Annotated[float, Within(1e-6, 1e6)]
"""Size of a voxel."""


def setting(
    default: Any = _MISSING,
    *,
    doc: str,
    minimum: float | None = None,
    maximum: float | None = None,
    was: str | None = None,
    changes: type | None = None,
) -> Any:
    """A dataclass field with its documentation and inclusive bounds.

    Parameters
    ----------
    default
        May be a dict, which is copied for each object, or a dataclass instance. Without a default
        the key is required.
    doc
        What the key means; shown in the schema and in the manual of the configuration.
    minimum, maximum
        Bounds of the value.
    was
        The former name of the key; the error for a configuration that still uses it names the new
        one.
    changes
        The settings whose keys a free table may change, so that a misplaced key is found in it.
    """
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum, "was": was, "changes": changes}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build_settings(cls: type[Settings], value: Any, where: str = "") -> Settings:
    """Build the dataclass ``cls`` from a mapping.

    Parameters
    ----------
    cls
        A frozen dataclass whose fields are plain types, other such dataclasses, tuples or dicts.
    value
        The mapping, as read from YAML or JSON. Numbers are converted to the declared type, so that
        ``1`` and ``1.0`` give the same settings.
    where
        Dotted path of this mapping, for messages.

    Raises
    ------
    ConfigError
        If a key is unknown (the message suggests the nearest known key, or the section that has
        it) or missing, or if a value has the wrong type or is out of bounds. All mistakes are
        reported together.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(
            where=where or "configuration",
            found=f"found {shown(value)}",
            expected="a mapping is expected",
        )
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    faults = [_unknown(cls, where, str(key)) for key in value if key not in fields]
    chosen = {}
    for name, field in fields.items():
        place = _join(where, name)
        if name in value:
            try:
                chosen[name] = _convert(hints[name], value[name], place, field.metadata)
            except ConfigError as error:
                faults.append(error)
        elif field.default is _MISSING and field.default_factory is _MISSING:
            faults.append(
                ConfigError(where=place, found="missing", expected="this key is required")
            )
    if faults:
        raise together(faults)
    return cls(**chosen)


def convert(form: Any, value: Any, where: str = "") -> Any:
    """A value of a file, converted to the type ``form``; ``where`` is its key.

    Parameters
    ----------
    form
        A plain type, ``list``, ``dict``, ``tuple``, union or ``Literal`` of such types, a settings
        dataclass, or a ``TypedDict``; keys that it does not name are kept unchecked. ``Annotated``
        with :class:`Within` bounds a number.

    Raises
    ------
    ConfigError
        If a key is missing or has another type, or if a number is out of bounds.
    """
    return _convert(form, value, where, {})


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _convert_keys(form: type, value: Any, where: str) -> dict[str, Any]:
    """Convert a mapping to the ``TypedDict`` ``form``."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected="a mapping is expected"
        )
    found = dict(value)
    for key, hint in _hints(form).items():
        is_optional = typing.get_origin(hint) is NotRequired
        if key in value:
            inner = typing.get_args(hint)[0] if is_optional else hint
            found[key] = _convert(inner, value[key], _join(where, key), {})
        elif not is_optional:
            raise ConfigError(
                where=_join(where, key), found="missing", expected="this key is required"
            )
    return found


def _unknown(cls: Any, where: str, key: str) -> ConfigError:
    """The error for an unknown key: its new name, the section that has it, or the nearest key."""
    path, fields = _join(where, key), dataclasses.fields(cls)
    for field in fields:
        if field.metadata.get("was") == key:
            return ConfigError(
                where=path, found=f"this key is now called {field.name!r}", expected="rename it"
            )
    names = [field.name for field in fields]
    advice, deeper = nearest(key, names), next(_sections_with(cls, key), None)
    if deeper and not difflib.get_close_matches(key, names, cutoff=0.8):
        advice = f"did you mean {_join(where, deeper)!r}"
    return ConfigError(where=path, found="unknown key", expected=advice)


def _sections_with(cls: Any, key: str) -> Iterator[str]:
    """Dotted paths of the settings inside ``cls`` that have this name."""
    for field in dataclasses.fields(cls):
        hint = _hints(cls)[field.name]
        is_union = typing.get_origin(hint) in (Union, types.UnionType)
        for section in (field.metadata.get("changes"), hint, *typing.get_args(hint) * is_union):
            if isinstance(section, type) and dataclasses.is_dataclass(section):
                if key in _hints(section):
                    yield f"{field.name}.{key}"
                yield from (f"{field.name}.{rest}" for rest in _sections_with(section, key))


def replace(settings: Settings, changes: Mapping[str, Any], where: str = "") -> Settings:
    """A validated copy of ``settings`` with some keys changed.

    Nested settings are merged; a free table (``loss: {bce: 1}``) is replaced as a whole.
    """
    return build_settings(type(settings), _merge(settings, changes), where)


def plain(value: Any) -> Any:
    """Plain JSON values of settings: dataclasses to dicts, tuples to lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def schema(cls: type) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a settings dataclass; unknown keys are not allowed."""
    hints = _hints(cls)  # type: ignore[arg-type]
    properties, required = {}, []
    for field in dataclasses.fields(cls):
        entry = _schema_of(hints[field.name]) | {"description": field.metadata.get("doc", "")}
        for bound in ("minimum", "maximum"):
            if field.metadata.get(bound) is not None:
                entry[bound] = field.metadata[bound]
        if field.default is not _MISSING:
            entry["default"] = plain(field.default)
        elif field.default_factory is not _MISSING:
            entry["default"] = plain(field.default_factory())
        else:
            required.append(field.name)
        properties[field.name] = entry
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _join(where: str, key: object) -> str:
    name = key if isinstance(key, str) and len(key) < 100 else shown(key)
    return f"{where}.{name}" if where else name


def _merge(base: Any, changes: Any) -> Any:
    if not (dataclasses.is_dataclass(base) and isinstance(changes, Mapping)):
        return changes
    merged = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    return merged | {key: _merge(merged.get(key), item) for key, item in changes.items()}


def _convert(hint: Any, value: Any, where: str, metadata: Mapping[str, Any]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(arguments, value, where, metadata)
    if origin is Literal:
        if isinstance(value, bool) and "on" in arguments:
            value = "on" if value else "off"  # YAML 1.1 reads these words as true and false
        if value not in arguments or isinstance(value, bool) != isinstance(arguments[0], bool):
            known = [str(argument) for argument in arguments]
            raise ConfigError(
                where=where, found=f"found {shown(value)}", expected=nearest(str(value), known)
            )
        return value
    if origin is Annotated:
        return _convert(arguments[0], value, where, vars(arguments[1]))
    if origin is tuple:
        return _convert_tuple(arguments, value, where, metadata)
    if origin is list:
        return list(_convert_tuple((arguments[0], ...), value, where, metadata))
    if typing.is_typeddict(hint):
        return _convert_keys(hint, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(
                where=where, found=f"found {shown(value)}", expected="a mapping is expected"
            )
        return _convert_table(arguments[1], value, where, metadata)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build_settings(hint, value, where)
    return _convert_scalar(hint, value, where, metadata)


def _convert_table(
    hint: Any, value: Mapping[Any, Any], where: str, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    found, faults = {}, []
    for key, item in value.items():
        try:
            found[str(key)] = _convert(hint, item, _join(where, key), metadata)
        except ConfigError as error:
            faults.append(error)
    if faults:
        raise together(faults)
    return found


def _convert_union(
    options: tuple[Any, ...], value: Any, where: str, metadata: Mapping[str, Any]
) -> Any:
    if value is None and type(None) in options:
        return None
    others = [option for option in options if option is not type(None)]
    faults = []
    for option in others:
        try:
            return _convert(option, value, where, metadata)
        except ConfigError as error:
            faults.append(error)
    inside = [fault for fault in faults if fault.where != where]
    if inside or len(faults) == 1:  # the value has the outline of one option
        raise (inside or faults)[-1]
    expected = " or ".join(fault.expected.removesuffix(" is expected") for fault in faults)
    raise ConfigError(where=where, found=faults[-1].found, expected=f"{expected} is expected")


def _convert_tuple(
    arguments: tuple[Any, ...], value: Any, where: str, metadata: Mapping[str, Any]
) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(where=where, found=f"found {shown(value)}", expected="a list is expected")
    open_ended = len(arguments) == 2 and arguments[1] is Ellipsis
    kinds = [arguments[0]] * len(value) if open_ended else list(arguments)
    if len(kinds) != len(value):
        raise ConfigError(
            where=where, found=f"{len(value)} values", expected=f"{len(kinds)} are expected"
        )
    return tuple(
        _convert(kind, item, f"{where}[{i}]", metadata)
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _convert_scalar(hint: Any, value: Any, where: str, metadata: Mapping[str, Any]) -> Any:
    if hint is Any:
        return value
    names = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}
    if isinstance(value, bool) != (hint is bool):
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected=f"{names[hint]} is expected"
        )
    if hint is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a text
        try:
            value = float(value)
        except ValueError:
            raise ConfigError(
                where=where, found=f"found {shown(value)}", expected="a number is expected"
            ) from None
    if hint is float and isinstance(value, int) and abs(value) <= _LARGEST:
        value = float(value)
    if value is None or not isinstance(value, hint):
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected=f"{names[hint]} is expected"
        )
    if hint in (int, float):
        _check_bounds(value, where, metadata)
    return value


def _check_bounds(value: float, where: str, metadata: Mapping[str, Any]) -> None:
    minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ConfigError(
            where=where,
            found=f"found {shown(value)}",
            expected="a number of up to 63 bits is expected",
        )
    if not math.isfinite(value):
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected="a finite number is expected"
        )
    if minimum is not None and value < minimum:
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected=f"at least {minimum:g} is expected"
        )
    if maximum is not None and value > maximum:
        raise ConfigError(
            where=where, found=f"found {shown(value)}", expected=f"at most {maximum:g} is expected"
        )


def _schema_of(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema_of(argument) for argument in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return {"type": "array", "items": _schema_of(arguments[0])}
        items = [_schema_of(argument) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1])}
    if dataclasses.is_dataclass(hint):
        return schema(hint)  # type: ignore[arg-type]
    if hint is Any:
        return {}
    names = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    return {"type": names[hint]}
