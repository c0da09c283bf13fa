"""State what a study compares before anything is trained: protocol.json, written once, for ever.

It holds metric, margin, reference or pairs, presets, folds and seeds, all settings that a result
depends on, and the digests of code, prepared data and splits (where they are there by now); a file
ro-crate-metadata.json beside it lets both be deposited. The workflow does the same before its first
training. Where something of it differs later, every table and sentence says so.

  lunet register --config config/config.yaml
  lunet register --config config/config.yaml --licence https://creativecommons.org/licenses/by/4.0/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_settings, read_study
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet register``."""
    add_settings(parser)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="of the prepared data")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="splits.json")
    parser.add_argument("--licence", default="", metavar="URL", help="of the deposited files")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="protocol.json (else in the study's results)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the protocol, or refuse to state something else than it does."""
    from lunet.study.protocol import check_same, register

    if arguments.config is None:
        raise ConfigError(
            where="--config",
            found="not given",
            expected="a study is registered by its configuration",
        )
    study = read_study(arguments)
    path = arguments.out or Path(study.results, "protocol.json")
    sections = study.sections("register")
    if path.exists():
        check_same(path, sections)
    lines = register(
        path,
        sections,
        manifest=arguments.manifest or Path(study.manifest),
        splits=arguments.splits or Path(study.results, "splits.json"),
        name=study.name,
        licence=arguments.licence,
    )
    print("\n".join(lines))
