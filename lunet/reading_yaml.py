"""Read YAML safely: size, depth and aliases are bounded, and each key may appear once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lunet.errors import ConfigError
from lunet.reading import DEEPEST, read_text

MOST_BYTES = 1 << 20
"""Largest configuration; PyYAML takes about ten seconds for it."""
MOST_VALUES = 100_000
"""Largest number of values in a configuration, after its aliases are expanded."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises
    ------
    ConfigError
        If the file is missing, :func:`parse_yaml` refuses it, or it holds anything else.
    """
    text = read_text(path, needed="a configuration (YAML)", most=MOST_BYTES, fault=ConfigError)
    value = parse_yaml(text, path)
    if not isinstance(value, dict):
        raise ConfigError(
            where=path, found=f"holds {type(value).__name__}", expected="a mapping is expected"
        )
    return value


def parse_yaml(text: str, where: object) -> Any:
    """The value of a YAML text; ``where`` is named in messages.

    Raises
    ------
    ConfigError
        If it is not YAML, gives a key twice, is nested too deeply, or has aliases of aliases that
        would expand to more than 100,000 values (a "YAML bomb").
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        twice = _repeated_keys(node)
        fault = _bomb(node)
        value = None if fault or node is None else loader.construct_document(node)
    except RecursionError as error:
        raise ConfigError(
            where=where, found="is nested too deeply", expected=f"at most {DEEPEST} levels"
        ) from error
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        OverflowError,
        LookupError,
        AttributeError,
    ) as error:
        # PyYAML's constructors raise plain errors for impossible dates and numbers
        raise ConfigError(
            where=where, found=f"is not YAML ({error})", expected="a configuration is needed"
        ) from error
    if twice:
        action = "Only the last one would count; join them"
        raise ConfigError(
            where=where, found=f"{twice[0]} given twice", expected="each key once", action=action
        )
    if fault:
        raise ConfigError(where=where, found=fault, expected="a plain configuration is needed")
    return value


def _repeated_keys(root: yaml.Node | None) -> list[str]:
    """Keys that a mapping gives twice, with their lines; PyYAML itself does not report them."""
    found: list[str] = []
    for node in _nodes(root):
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = key.value, key.start_mark.line + 1
            if name in lines:
                found.append(f"`{name:.60}` (lines {lines[name]} and {line})")
            lines[name] = line
    return found


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Each node of a YAML document once."""
    todo, seen = [root] if root is not None else [], set()
    while todo:
        node = todo.pop()
        if id(node) not in seen:  # otherwise it is an alias
            seen.add(id(node))
            yield node
            todo += _children(node)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _bomb(root: yaml.Node | None) -> str:
    """Why a document is too large once its aliases are expanded; empty if it is not."""
    sizes: dict[int, tuple[int, int] | None] = {}

    def measure(node: yaml.Node) -> tuple[int, int]:
        """Number of values and of levels of a node."""
        if id(node) in sizes:
            known = sizes[id(node)]
            return known if known is not None else (MOST_VALUES + 1, 0)  # it contains itself
        sizes[id(node)] = None
        parts = [measure(child) for child in _children(node)]
        size = 1 + sum(values for values, _ in parts), 1 + max((n for _, n in parts), default=0)
        sizes[id(node)] = size
        return size

    values, levels = measure(root) if root is not None else (0, 0)
    if values > MOST_VALUES:
        return f"its aliases expand to more than {MOST_VALUES} values"
    return f"is nested {levels} levels deep (at most {DEEPEST})" if levels > DEEPEST else ""
