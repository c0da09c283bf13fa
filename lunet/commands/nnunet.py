"""Let nnU-Net v2 train a preset: its plans, with this network and its patch, in a file beside them.

nnU-Net reads the patch from there in training and in inference. This package must be installed in
nnU-Net's environment; its own trainer without deep supervision does the rest.

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
        help="z y x; else the recipe's, or theirs",
    )
    parser.add_argument("--batch-size", type=POSITIVE, help="else that of the plans")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the plans and say how to train with them."""
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
