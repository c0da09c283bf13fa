"""Write the JSON schema (.json) or the manual (.md) of the configuration.

Examples: lunet schema --out workflow/schemas/config.schema.json
          lunet schema --out config/README.md
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet schema``."""
    add_out(parser, "FILE", "file to write, .json or .md", suffixes=())


def run(arguments: argparse.Namespace) -> None:
    """Write the schema or the manual."""
    from lunet.files import write_json, write_text
    from lunet.study.config import json_schema
    from lunet.study.config_docs import is_generated, manual, shipped

    path = Path(arguments.out)
    if path.exists() and not is_generated(path):
        expected = "a new file, or one that `lunet schema` wrote"
        raise ConfigError(
            where="--out",
            found=f"{path} exists and was not written by this command",
            expected=expected,
        )
    if path.suffix == ".json":
        write_json(path, json_schema())
    elif path.suffix == ".md":
        write_text(path, manual(shipped(path.parent)))
    else:
        raise ConfigError(
            where="--out", found=f"found {path.name!r}", expected="a name that ends in .json or .md"
        )
