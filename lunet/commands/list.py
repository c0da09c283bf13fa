"""List the names that a configuration can use, with their sources.

Examples: lunet list presets; lunet list recipes; lunet list datasets; lunet list losses;
lunet list augmentations
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_json, only_json, print_json
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet list``."""
    known = ("presets", "recipes", "datasets", "losses", "augmentations")
    parser.add_argument("what", choices=known)
    add_json(parser)
    parser.add_argument("--config", metavar="FILE", help="show this study's presets and variants")


def run(arguments: argparse.Namespace) -> None:
    """Print one line per name."""
    if arguments.config and arguments.what != "presets":
        raise ConfigError(
            where="--config",
            found=f"given for {arguments.what}",
            expected="only presets depend on it",
        )
    from lunet.study import listing

    with only_json(arguments):
        records = listing.listing_records(arguments.what, arguments.config)
    if arguments.json:
        print_json(records)
        return
    for line in listing.listing_lines(records):
        print(line)
