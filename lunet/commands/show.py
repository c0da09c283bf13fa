"""Draw an image with its segmentation: a PNG of one slice or several.

The segmentation comes from a file or from a trained network:

    lunet show --segmentation mask.nii.gz scan.nii.gz --axis 1 --slices 6 --out scan.png
    lunet show --weights results/x/runs/lunet_small_4f/fold-0/seed-0 scan.nii.gz --out scan.png
"""

from __future__ import annotations

import argparse
from typing import Any

from lunet.commands.arguments import AXIS, NATURAL, POSITIVE, add_network, add_out
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    parser.add_argument("image", nargs="+", metavar="IMAGE", help="image, or a file per channel")
    text = "picture to write (default: <image>.png in the working folder)"
    add_out(parser, "PNG", text, suffixes=("",), required=False)
    parser.add_argument("--segmentation", metavar="FILE", help="label file on the image's grid")
    parser.add_argument("--weights", metavar="W", help="run, release, .safetensors or .onnx")
    add_network(parser)
    parser.add_argument("--axis", type=AXIS, default=2, help="0 sagittal, 1 coronal, 2 axial")
    parser.add_argument(
        "--slices", type=POSITIVE, default=4, help="1 draws an overlay, more draw a montage"
    )
    parser.add_argument("--channel", type=NATURAL, default=0, help="channel to show")
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="NAME=INDEX", help="names for the legend"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    from pathlib import Path

    import numpy as np

    from lunet.data.io.images import stem_of
    from lunet.inference.show import show, write_picture
    from lunet.own_files import claim_files

    picture = show(
        arguments.image,
        arguments.segmentation,
        model=_model(arguments),
        axis=arguments.axis,
        slices=arguments.slices,
        channel=arguments.channel,
        labels=_names(arguments.labels),
    )
    path = Path(arguments.out or f"{stem_of(arguments.image[0])}.png")
    # with --out the command line has claimed the file already
    with claim_files([] if arguments.out else [path], step="show", inputs=arguments.image):
        write_picture(path, np.asarray(picture))
    print(path)


def _model(arguments: argparse.Namespace) -> Any:
    from lunet.inference.load import load_model

    weights = arguments.weights
    return load_model(weights, network=arguments.network) if weights else None


def _names(words: list[str]) -> dict[str, int]:
    names = {}
    for word in words:
        name, _, index = word.partition("=")
        if not index.isdigit():
            raise ConfigError(
                where="--labels", found=f"found {word!r}", expected="NAME=INDEX is expected"
            )
        names[name] = int(index)
    return names
