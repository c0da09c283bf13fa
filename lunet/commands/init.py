"""Write the first configuration of a study of your own data, ready to run.

The folder is read as it lies there: nothing is copied, moved or changed. The study asks how small
a network may be; `lunet smallest` and Snakemake both run it.

Examples: lunet init my_data --labels spleen=1 --channels CT
          lunet init Dataset004_Hippocampus --layout nnunet --reference unet_small_16f
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lunet.commands.arguments import POSITIVE, positive
from lunet.commands.raw import add_description, by_hand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet init``."""
    parser.add_argument("source", metavar="DATA", help="folder, CSV listing, or nnU-Net number")
    parser.add_argument("--out", metavar="FILE", help="new configuration (config/NAME.yaml)")
    add_description(parser.add_argument_group("the data, where the folder does not say it"))
    add_wishes(parser)


def add_wishes(parser: argparse.ArgumentParser) -> None:
    """Arguments that say what the first study asks."""
    group = parser.add_argument_group("the question")
    group.add_argument("--reference", metavar="PRESET", help="must not be undercut (unet_small_8f)")
    group.add_argument("--families", nargs="+", metavar="FAMILY", help="unet_small lunet_small")
    group.add_argument("--widths", nargs="+", type=POSITIVE, metavar="N", help="1 2 4 6 8")
    group.add_argument("--cost", help="what is to be small (macs)")
    group.add_argument("--margin", type=positive, help="loss of Dice that is tolerated (0.01)")
    group.add_argument("--recipe", help="how all networks are trained (strong)")
    group.add_argument("--epochs", type=POSITIVE, help="of each training (the recipe's)")
    group.add_argument("--budget-hours", type=positive, metavar="H", help="device hours at most")


def run(arguments: argparse.Namespace) -> None:
    """Read the folder, write the configuration, print the next commands."""
    path = write_configuration(arguments, arguments.out, step="init")
    print(f"\nwhat would run:  snakemake --profile profiles/local --configfile {path} -n -q rules")
    print(f"the answer:      lunet smallest --config {path}")


def write_configuration(arguments: argparse.Namespace, out: str | None, *, step: str) -> Path:
    """Write the configuration that the arguments ask for; returns its path."""
    from lunet.data.dataset_json import locate
    from lunet.data.layouts.open import open_dataset
    from lunet.data.left_out import count_lines
    from lunet.study.first_study import Wishes, counted, study_name, write_first_study

    settings = by_hand(arguments)
    dataset = open_dataset(arguments.source, settings)
    name = study_name(arguments.name or dataset.name)
    path = Path(out or f"config/{name}.yaml")
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key in Wishes.__dataclass_fields__
        if (value := getattr(arguments, key)) is not None
    }
    source = locate(arguments.source)
    write_first_study(path, source, dataset, settings, wishes=Wishes(**given), step=step)
    for line in count_lines(dataset):
        print(line)
    print(f"{dataset.name}: {counted(dataset)}")
    if len({case.group for case in dataset.cases}) == len(dataset.cases):
        print("if several files come from one subject, name it: --groups '^(\\d+)_'")
    print(f"written: {path}")
    return path
