"""Make a synthetic data set with structures, look-alikes and noise; a seed gives the same bytes.

Example:
  lunet phantom --kind hippocampus --subjects 12 --seed 0 --out work/phantom
"""

from __future__ import annotations

import argparse
import typing

from lunet.commands.arguments import POSITIVE, SEED, add_out, real
from lunet.data.settings import PhantomSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments; a configuration has the same defaults."""
    hints = typing.get_type_hints(PhantomSettings)
    default = PhantomSettings()
    parser.add_argument("--kind", choices=typing.get_args(hints["kind"]), default=default.kind)
    parser.add_argument("--subjects", type=POSITIVE, default=default.subjects, metavar="N")
    parser.add_argument("--seed", type=SEED, default=default.seed, metavar="N")
    parser.add_argument(
        "--difficulty", type=real, default=default.difficulty, help="scale of noise and bias field"
    )
    parser.add_argument(
        "--scale", type=real, default=default.scale, help="size relative to the real data"
    )
    parser.add_argument(
        "--layout", choices=typing.get_args(hints["layout"]), default=default.layout
    )
    add_out(parser, "DIR", "new folder")


def run(arguments: argparse.Namespace) -> None:
    """Write the data set and print where."""
    from lunet.data.phantoms.make import make_phantom
    from lunet.settings import build_settings, plain

    chosen = {key: getattr(arguments, key) for key in plain(PhantomSettings())}
    folder = make_phantom(build_settings(PhantomSettings, chosen, "phantom"), arguments.out)
    print(f"{chosen['subjects']} {chosen['kind']} subjects in {folder}")
