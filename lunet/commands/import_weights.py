"""Import published weights into a preset, tensor by tensor in order; no code of FILE is executed.

FILE is a .safetensors file, or a file of torch.save that holds tensors (a state, or a checkpoint
that contains one; --key names it). The network is the preset's, built for the channels and labels
of --config or --set; without them, for one channel and one label. The result can be used wherever
the folder of a run can.

Examples:
  lunet import-weights lunet_small.pth --preset lunet_small_4f --out published/lunet_small_4f
  lunet import-weights model.pth --key state_dict --config config/brats2021.yaml \\
      --preset slim_unetrv2_128 --out published/slim_128
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out, add_settings, read_study
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet import-weights``."""
    parser.add_argument("file", metavar="FILE", help="weights of the same network from other code")
    add_out(parser, "DIR", "new folder")
    parser.add_argument("--key", metavar="NAME", help="key of the state in a checkpoint")
    parser.add_argument("--names", action="store_true", help="print old and new tensor names")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Import the weights and print how many tensors there are."""
    if arguments.preset is None:
        raise ConfigError(
            where="--preset", found="missing", expected="needed to know which network this is"
        )
    from lunet.exchange.import_weights import import_weights

    study = read_study(arguments)
    sections = study.sections("train", arguments.preset) | study.sections("preprocess")
    chosen = {key: sections[key] for key in ("task", "preprocess", "model")}
    pairs = import_weights(arguments.file, chosen, arguments.out, key=arguments.key)
    if arguments.names:
        for theirs, ours in pairs:
            print(f"{theirs} -> {ours}")
    print(f"{len(pairs)} tensors of {arguments.file} imported as {arguments.preset}")
    print(arguments.out)
