"""Let nnU-Net v2 train a preset: write a copy of its plans with this network and its patch size.

The new file lies next to PLANS, and nnU-Net reads the patch size from it in training and inference.
Install this package in nnU-Net's environment; nnU-Net's own trainer without deep supervision then
trains the network.

Example:
  lunet nnunet $nnUNet_preprocessed/Dataset137_BraTS2021/nnUNetPlans.json --preset slim_unetrv2_128
  nnUNetv2_train 137 3d_fullres 0 -p nnUNetPlans_slim_unetrv2_128 -tr nnUNetTrainerNoDeepSupervision
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import POSITIVE, add_settings, read_study
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet nnunet``."""
    parser.add_argument("plans", metavar="PLANS", help="nnU-Net's plans of the data set (JSON)")
    parser.add_argument("--configuration", default="3d_fullres", help="default: 3d_fullres")
    parser.add_argument(
        "--patch",
        type=POSITIVE,
        nargs="+",
        metavar="VOXELS",
        help="patch size, z y x (default: the recipe's, or else the plans')",
    )
    parser.add_argument("--batch-size", type=POSITIVE, help="default: the plans' batch size")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the plans and print the command that trains with them."""
    if arguments.preset is None:
        raise ConfigError(where="--preset", found="missing", expected="it names the network")
    from lunet.exchange.nnunet import TRAINER, export_plans

    study = read_study(arguments)
    patch = arguments.patch or study.presets[arguments.preset][1].patch
    out = export_plans(
        arguments.plans,
        study.sections("train", arguments.preset)["model"],
        configuration=arguments.configuration,
        # the recipe's patch is in the order of the file's axes
        patch=patch if arguments.patch or patch is None else patch[::-1],
        batch_size=arguments.batch_size,
    )
    print(out)
    print(f"nnUNetv2_train ID {arguments.configuration} FOLD -p {out.stem} -tr {TRAINER}")
