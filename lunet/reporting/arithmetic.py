"""Check that all runs of a preset were trained in the same arithmetic, unless mixing is allowed.

If some runs used bf16 on one partition and others float32 on another, the difference would be part
of the spread between seeds, and a comparison of presets would compare machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lunet.errors import DataError

_KEYS = ("device", "precision", "memory_format", "compile")


def mixed_arithmetic(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """For each preset with more than one arithmetic, its arithmetics in words.

    Parameters
    ----------
    runs
        Provenance of runs (``run.json``) with the key ``preset``. The number of threads is
        ignored, and so are runs without a record of their arithmetic (the atlas prior).
    """
    found: dict[str, set[str]] = {}
    for run in runs:
        if engine := run.get("engine"):
            found.setdefault(str(run["preset"]), set()).add(_words(engine))
    return {preset: sorted(words) for preset, words in found.items() if len(words) > 1}


def require_one_arithmetic(runs: Sequence[Mapping[str, Any]], *, allowed: bool) -> str:
    """A sentence that names the presets with mixed arithmetic; empty if there are none.

    Raises
    ------
    DataError
        If there are any and the configuration does not allow it.
    """
    mixed = mixed_arithmetic(runs)
    if not mixed:
        return ""
    named = "; ".join(f"{preset} in {' and in '.join(words)}" for preset, words in mixed.items())
    if not allowed:
        raise DataError(
            where="runs",
            found=f"not all runs of a preset were trained in one arithmetic: {named}",
            expected="each preset needs a single one",
            action=(
                "Fix train.engine.precision and memory_format, or set report.mixed_arithmetic: true"
            ),
        )
    return f"Trained in more than one arithmetic: {named}."


def _words(engine: Mapping[str, Any]) -> str:
    values = (engine.get(key) for key in _KEYS)
    device, precision, layout, compiled = values
    parts = [precision or "fp32", f"on {device}", layout or ""]
    return " ".join(filter(None, [*parts, "compiled" if compiled else ""]))
