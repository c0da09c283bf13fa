"""Write the report of a study: one HTML file with claims, tables, figures, methods, provenance.

Tables and figures are read from DIR/tables and DIR/figures, examples from
DIR/presets/PRESET/examples.png, where DIR is the results folder. The page needs no other file and
no network.

  lunet report --results results/hippocampus --presets unet_small_4f lunet_small_4f \\
      --folds 0 1 2 3 4 --out results/hippocampus/report.html
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out, add_settings, read_settings
from lunet.errors import ConfigError
from lunet.reporting.command import add_sources, read_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lunet report`."""
    add_sources(parser)
    parser.add_argument("--tables", type=Path, metavar="DIR", help="default: RESULTS/tables")
    parser.add_argument("--figures", type=Path, metavar="DIR", help="default: RESULTS/figures")
    parser.add_argument("--pruning", action="store_true", help="also report the pruning")
    parser.add_argument(
        "--targets",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also report the tests on these data sets of RESULTS/transfer",
    )
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="manifest.json of the prepared data"
    )
    add_out(parser, "FILE", "page to write", suffixes=("",))
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the report."""
    from lunet.reporting.html.report import example_pictures, write_report

    sources = read_sources(arguments, ("metrics", "runs", "efficiency", "protocol"))
    folders = {name: getattr(arguments, name) for name in ("tables", "figures")}
    for name, folder in folders.items():
        if folder is None and arguments.results is None:
            raise ConfigError(
                where=f"--{name}", found="not given", expected="needed together with --inputs"
            )
    if arguments.targets and arguments.results is None:
        raise ConfigError(
            where="--targets", found="given with --inputs", expected="--results names their folder"
        )
    others = {name: arguments.results / "transfer" / name for name in arguments.targets}
    write_report(
        sources,
        read_settings(arguments, "report"),
        arguments.out,
        tables=folders["tables"] or arguments.results / "tables",
        figures=folders["figures"] or arguments.results / "figures",
        results=arguments.results,
        examples=example_pictures(arguments.results, arguments.presets),
        manifest=arguments.manifest,
        others=others,
        pruning=arguments.pruning,
    )
    print(arguments.out)
