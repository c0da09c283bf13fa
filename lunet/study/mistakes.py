"""Finds the other mistakes of a configuration after the first: the rest of it is checked alone."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lunet.errors import ConfigError, LunetError, parts_of

# key of a mistake -> other keys that its check reads
_READS = {
    "statistics.reference": ("presets", "variants", "smallest", "prior", "external", "rivals"),
    "statistics.pairs": (
        "presets",
        "variants",
        "smallest",
        "prior",
        "transfer",
        "external",
        "rivals",
    ),
    "statistics.metric": ("evaluate.tolerances",),
    "report.metrics": ("evaluate.tolerances",),
    "overrides": ("presets", "smallest"),
    "folds": ("split",),
    "prune.folds": ("split",),
    "predict.probabilities": ("lesions",),
    "presets": ("variants", "smallest", "dataset", "external", "rivals"),
    "transfer": ("dataset",),
    "external": ("dataset", "presets", "split", "statistics", "rivals"),
    "rivals": ("presets", "variants", "external"),
    "train.monitor": ("dataset",),
    "train.early_stopping": ("dataset",),
}


def further_mistakes(
    mapping: Mapping[str, Any], error: ConfigError, build: Callable[[Mapping[str, Any]], object]
) -> list[ConfigError]:
    """Mistakes that were not reached yet because of ``error``.

    The faulty keys are left out, so that they have their defaults, and the rest is built again. A
    mistake of a key whose check reads one that was left out is not reported: it may be a
    consequence.

    Parameters
    ----------
    mapping
        The configuration.
    error
        What :func:`build` has reported for it.
    build
        Checks a configuration.
    """
    found: list[ConfigError] = []
    left_out: list[str] = []
    current = list(parts_of(error))
    while current:
        smaller = mapping
        for fault in current:
            left_out.append(fault.where)
            for key in (fault.where, *_reads(fault.where)):  # another key if this one is not there
                part = _without(smaller, key)
                if part != smaller:
                    left_out.append(key)
                    smaller = part
                    break
        if smaller == mapping:
            break
        mapping, current = smaller, []
        try:
            build(mapping)
        except ConfigError as other:
            current = list(parts_of(other))
            found += [fault for fault in current if not _follows(fault.where, left_out)]
        except LunetError:  # a file that the rest names is not readable
            break
    return found


def _without(mapping: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A copy of the mapping without the key of this dotted path.

    The section that should have the key is left out if the key is missing.
    """
    kept = dict(mapping)
    for key, value in mapping.items():
        if where == key or where.startswith((f"{key}.", f"{key}[", f"{key},")):
            del kept[key]
            if isinstance(value, Mapping) and where.startswith(f"{key}."):
                inner = _without(value, where.removeprefix(f"{key}."))
                kept |= {key: inner} if inner != value else {}
            break
    return kept


def _follows(where: str, left_out: Sequence[str]) -> bool:
    """Whether a mistake may be a consequence of keys that were left out."""
    return any(_related(key, gone) for key in (where, *_reads(where)) for gone in left_out)


def _reads(where: str) -> list[str]:
    return [key for name, keys in _READS.items() if _related(name, where) for key in keys]


def _related(key: str, other: str) -> bool:
    """Whether one key lies inside the other, or is a misspelling of it."""
    one, two = f"{key}.", f"{other.replace('[', '.')}."
    inside = one.startswith(two) or two.startswith(one)
    return inside or bool(difflib.get_close_matches(key, [other], cutoff=0.8))
