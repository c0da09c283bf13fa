"""Draw one figure of a study: BASE.svg, BASE.pdf, BASE.png, and its data as BASE.csv.

The figures `examples` and `side_by_side` show images and need --manifest. For the figures of a
pruning, --inputs names the trajectory.csv files of the prunings. `architecture` draws the network
of --preset.

  lunet figure pareto_parameters --results results/hippocampus --folds 0 1 2 3 4 \\
      --presets unet_small_4f lunet_small_4f --out results/hippocampus/figures/pareto_parameters
  lunet figure curves --inputs results/hippocampus/runs/lunet_small_4f --out curves
  lunet figure examples --inputs RUN/metrics.csv --manifest prepared/manifest.json \\
      --out examples
  lunet figure architecture --preset unetpp_small_4f --out unetpp_small_4f
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out, add_plan, add_settings, read_settings
from lunet.reporting.command import add_sources, read_sources
from lunet.reporting.outputs import FIGURES, figure_row, names_help


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `lunet figure`."""
    parser.epilog = names_help(FIGURES)
    parser.add_argument("name", metavar="NAME", help="which figure")
    add_sources(parser)
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE", help="manifest.json, for figures that show images"
    )
    add_out(parser, "BASE", "path without suffix", suffixes=(".svg", ".pdf", ".png", ".csv"))
    add_settings(parser)
    add_plan(parser)


def run(arguments: argparse.Namespace) -> None:
    """Draw the figure."""
    row = figure_row(arguments.name)
    if row.rule == "architecture":
        from lunet.reporting.figures.architecture import write_architecture

        for path in write_architecture(read_settings(arguments, "train"), arguments.out):
            print(path)
        return
    if row.rule == "pruning_figure":
        from lunet.reporting.figures.pruning import write_figure
    else:
        from lunet.reporting.figures.index import write_figure

    from lunet.reporting.result_files import with_required

    settings = read_settings(arguments, "figure")
    kinds = with_required(row.needs, settings.get("statistics"))
    sources = read_sources(arguments, kinds)
    manifest = arguments.manifest
    for path in write_figure(arguments.name, sources, settings, arguments.out, manifest=manifest):
        print(path)
