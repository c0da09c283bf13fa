"""The protocol table: what was done, with which settings and versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lunet.files import canonical_json
from lunet.reporting.markup import Column, Table, cell


def protocol(runs: Iterable[Mapping[str, Any]], settings: Mapping[str, Any]) -> Table:
    """A row per setting of the study and per version or device of its runs.

    Parameters
    ----------
    runs
        Provenance of the runs (``run.json``).
    settings
        Sections of the configuration; all of them are listed.
    """
    rows = [
        (f"{name}.{key}", value) for name, part in settings.items() for key, value in leaves(part)
    ]
    facts = [(key, value) for run in runs for key, value in _facts(run)]
    merged: dict[str, list[str]] = {}
    for key, value in [*rows, *facts]:
        known = merged.setdefault(key, [])
        if value not in known:
            known.append(value)
    records = tuple({"key": key, "value": "; ".join(values)} for key, values in merged.items())
    return Table(
        name="protocol",
        caption="Protocol: settings, data, versions and devices of the reported runs.",
        columns=(Column("Key", text=True), Column("Value", text=True)),
        rows=tuple((cell(row["key"]), cell(row["value"])) for row in records),
        records=records,
    )


def leaves(value: Any, prefix: str = "") -> Iterable[tuple[str, str]]:
    """Dotted key and text of every leaf; a list is a leaf."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else canonical_json(value)


def _facts(run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What a run records, except what differs from run to run (times, epochs, scores)."""
    preset, settings = run["preset"], run.get("settings") or {}
    yield from leaves(settings.get("task") or {}, "task")
    yield "data.digest", str(run.get("data"))
    yield from leaves(run.get("provenance") or {}, "made_with")
    yield f"{preset}.code", str(run.get("code"))
    for section in ("model", "recipe", "engine"):
        yield from leaves(settings.get(section) or run.get(section) or {}, f"{preset}.{section}")
