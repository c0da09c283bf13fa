"""Build one table of a study from its per-case files: BASE.csv, BASE.md, BASE.tex and BASE.json.

For the tables of a pruning, --inputs names the trajectory.csv files of the prunings.
The same files give the same bytes on any machine. Runs of one preset that were made with different
settings or code are refused.

  lunet table accuracy --results results/hippocampus --presets unet_small_4f lunet_small_4f \\
      --folds 0 1 2 3 4 --out results/hippocampus/tables/accuracy
  lunet table failures --inputs runs/*/fold-*/seed-*/metrics.csv --out failures
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out, add_settings, read_settings
from lunet.reporting.command import add_sources, read_sources
from lunet.reporting.outputs import TABLES, names_help, table_row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lunet table`."""
    parser.epilog = names_help(TABLES)
    parser.add_argument("name", metavar="NAME", help="which table")
    add_sources(parser)
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="manifest.json of the prepared volumes, for the table `forecast`",
    )
    parser.add_argument(
        "--floor",
        type=Path,
        nargs="+",
        metavar="FILE",
        default=[],
        help="metrics.csv of the atlas prior, for the table `summary`, which names a network that "
        "is not above it",
    )
    add_out(parser, "BASE", "path without suffix", suffixes=(".csv", ".md", ".tex"))
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Build the table."""
    from dataclasses import replace

    from lunet.reporting.result_files import with_required

    row = table_row(arguments.name)
    if row.rule == "pruning_table":
        from lunet.reporting.tables.pruning import write_table
    else:
        from lunet.reporting.tables.index import write_table

    settings = read_settings(arguments, "table")
    kinds = with_required(row.needs, settings.get("statistics"))
    sources = replace(read_sources(arguments, kinds), floor=tuple(arguments.floor))
    for path in write_table(arguments.name, sources, settings, arguments.out):
        print(path)
