"""The profile that Snakemake was started with: how jobs run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
import yte

from lunet.errors import ConfigError


def read_profile(profile: str | Path) -> dict[str, Any]:
    """The settings of a profile, with its embedded expressions evaluated.

    Raises
    ------
    ConfigError
        If the file does not exist or cannot be evaluated.
    """
    path = Path(profile) / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        found = yte.process_yaml(text, require_use_yte=True)
    except OSError as error:
        raise ConfigError(
            where=path, found=error.strerror or str(error), expected="a profile is needed"
        ) from None
    except (UnicodeDecodeError, yaml.YAMLError, yte.exceptions.YteError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            where=path, found=f"cannot be read ({first})", expected="a profile is needed"
        ) from None
    if not isinstance(found, dict):
        raise ConfigError(where=path, found="is not a mapping", expected="a profile is needed")
    return found


def profile_of(words: Sequence[str]) -> str | None:
    """Folder of the profile that Snakemake's arguments name, if there is one in it."""
    named = _option(words, "--profile") or _option(words, "--workflow-profile")
    return named if named and Path(named, "config.yaml").exists() else None


def executor_of(words: Sequence[str]) -> str | None:
    """Name of the executor that Snakemake's arguments or their profile name; None for its own."""
    named = _option(words, "--executor") or _option(words, "-e")
    profile = profile_of(words)
    if named or profile is None:
        return named
    return read_profile(profile).get("executor")


def is_dry_run(words: Sequence[str]) -> bool:
    """Whether Snakemake's arguments ask it to run nothing."""
    return bool({"-n", "--dry-run", "--dryrun"} & set(words))


def _option(words: Sequence[str], name: str) -> str | None:
    """Value of ``--name value`` or ``--name=value``."""
    for word, following in zip(words, [*words[1:], None], strict=False):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None
