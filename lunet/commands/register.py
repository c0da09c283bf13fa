"""Record in protocol.json, before anything is trained, what a study compares; it never changes.

The file holds metric, margin, reference or pairs, presets, folds and seeds, all settings that a
result depends on, and the digests of code, prepared data and splits (if they exist already). With
ro-crate-metadata.json in the same folder it can be deposited. The workflow registers a study
automatically before its first training. If a statement changes later, every table and sentence of
the report mentions it.

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
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="manifest.json of the prepared data"
    )
    parser.add_argument("--splits", type=Path, metavar="FILE", help="splits.json")
    parser.add_argument(
        "--licence", default="", metavar="URL", help="licence of the deposited files"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="default: protocol.json in the study's results"
    )


def run(arguments: argparse.Namespace) -> None:
    """Write the protocol; refuse if one exists that states something else."""
    from lunet.study.protocol import check_same, register

    if arguments.config is None:
        raise ConfigError(
            where="--config",
            found="not given",
            expected="the configuration of the study to register",
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
