"""Write the first configuration of a study of your own data, ready to run.

The folder is only read: nothing is copied, moved or changed. The study asks how small a network
may be; both `lunet smallest` and Snakemake can run it.

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
    add_description(parser.add_argument_group("the data, if the folder does not describe them"))
    add_wishes(parser)


def add_wishes(parser: argparse.ArgumentParser) -> None:
    """Arguments for the question of the first study."""
    group = parser.add_argument_group("the question")
    reference = "the network to compare with (unet_small_8f)"
    group.add_argument("--reference", metavar="PRESET", help=reference)
    families = "of the candidates (unet_small lunet_small)"
    group.add_argument("--families", nargs="+", metavar="FAMILY", help=families)
    widths = "of the candidates (1 2 4 6 8)"
    group.add_argument("--widths", nargs="+", type=POSITIVE, metavar="N", help=widths)
    group.add_argument("--cost", help="the cost to minimise (macs)")
    group.add_argument("--margin", type=positive, help="loss of Dice that is tolerated (0.01)")
    group.add_argument("--recipe", help="how all networks are trained (strong)")
    group.add_argument("--epochs", type=POSITIVE, help="epochs of each training (as in the recipe)")
    group.add_argument("--budget-hours", type=positive, metavar="H", help="most device hours")


def run(arguments: argparse.Namespace) -> None:
    """Read the folder, write the configuration, print the next commands."""
    path = write_configuration(arguments, arguments.out, step="init")
    print(f"\npreview the runs: snakemake --profile profiles/local --configfile {path} -n -q rules")
    print(f"find the answer:  lunet smallest --config {path}")


def write_configuration(arguments: argparse.Namespace, out: str | None, *, step: str) -> Path:
    """Write the configuration that the arguments ask for; returns its path."""
    from lunet.data.dataset_json import locate
    from lunet.data.layouts.open import open_dataset
    from lunet.data.left_out import count_lines
    from lunet.data.subjects import subject_lines
    from lunet.study.first_study import Wishes, study_name, write_first_study

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
    labelled = [(case.id, case.group) for case in dataset.cases if case.labelled]
    first, *hints = subject_lines(labelled)
    print(f"{dataset.name}: {first}")
    for line in hints:
        print(line)
    print(f"written: {path}")
    return path
