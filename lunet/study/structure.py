"""The structure of a network on file, for variants that train it from scratch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError
from lunet.files import read_json
from lunet.study.presets import Preset


def read_structure(path: str | Path, base: Preset, where: str) -> dict[str, Any]:
    """Arguments of the network that a file describes.

    Parameters
    ----------
    path
        ``run.json`` of a pruning, whose chosen network is taken, or a JSON object with
        ``arguments`` (and, to be checked, ``module`` and ``name``), as the section ``model`` has.
    base
        The preset whose network it must be.
    where
        Key in the configuration, for messages.

    Raises
    ------
    ConfigError
        If the file is missing or no such description, or is of another network than the base.
    DataError
        If it is not JSON.
    """
    section = _section(path, where)
    for key, expected in (("module", base.module), ("name", base.network)):
        found = section.get(key, expected)
        if found != expected:
            raise ConfigError(where, f"{path} is of {found}", f"the base {base.name} is {expected}")
    return dict(section["arguments"])


def _section(path: str | Path, where: str) -> Mapping[str, Any]:
    if not Path(path).is_file():
        action = "Prune the other study first (`snakemake pruning`), or correct the path"
        raise ConfigError(where, f"{path} is missing", "the structure is read at the start", action)
    content = read_json(path)
    chosen = content.get("chosen", {}) if isinstance(content, Mapping) else {}
    section = chosen.get("model", content)
    if not isinstance(section, Mapping) or not isinstance(section.get("arguments"), Mapping):
        found = f"{path} has neither chosen.model nor arguments"
        raise ConfigError(where, found, "run.json of a pruning, or {arguments: {widths: ...}}")
    return section
