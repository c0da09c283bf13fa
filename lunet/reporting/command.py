"""The arguments that `lunet table`, `figure` and `report` share: which files to report."""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.errors import ConfigError
from lunet.reporting.result_files import Grid, ResultFiles, from_grid, from_inputs


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the two ways to name the input files: a grid in a results folder, or a list."""
    group = parser.add_argument_group("what to report (--results with a grid, or --inputs)")
    group.add_argument("--results", type=Path, metavar="DIR", help="results folder of a study")
    group.add_argument(
        "--presets", nargs="+", default=[], metavar="NAME", help="presets, in the order of the rows"
    )
    group.add_argument("--folds", nargs="+", type=int, default=[0], metavar="K", help="folds")
    group.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="S", help="seeds")
    group.add_argument(
        "--external",
        nargs="+",
        default=[],
        metavar="NAME",
        help="those of the presets whose predictions were made elsewhere; they have only seed 0",
    )
    group.add_argument(
        "--inputs",
        nargs="+",
        metavar="FILE",
        help="metrics.csv, history.csv, run.json, efficiency.json; folders that contain them; or "
        "@list.txt, a list of such names",
    )


def read_sources(arguments: argparse.Namespace, kinds: tuple[str, ...]) -> ResultFiles:
    """The files that the arguments name, of the given kinds.

    Raises
    ------
    ConfigError
        If neither or both of ``--results`` and ``--inputs`` are given.
    DataError
        If a file is missing or of an unknown kind.
    """
    if bool(arguments.results) == bool(arguments.inputs):
        raise ConfigError(
            where="arguments", found="--results and --inputs", expected="give one of them"
        )
    if arguments.inputs:
        return from_inputs(arguments.inputs)
    if not arguments.presets:
        raise ConfigError(
            where="--presets", found="none given", expected="--results needs the presets to report"
        )
    presets, folds, seeds = arguments.presets, arguments.folds, arguments.seeds
    manifest = getattr(arguments, "manifest", None)
    external = tuple(arguments.external)
    grid = Grid(arguments.results, tuple(presets), tuple(folds), tuple(seeds), manifest, external)
    return from_grid(grid, kinds)
