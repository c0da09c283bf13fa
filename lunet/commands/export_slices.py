"""Write 2D slices of volumes as 8-bit PNG images and labels, for other tools.

Makes images/CASE_slice_0000.png, labels/ with equal names and slices.csv, which keeps the pixel
size that a PNG loses. Lunet's own 2D studies cut prepared volumes on the fly instead.

Windows (LOW HIGH, Hounsfield units): lung -1350 150, liver -160 240, bone -500 1300.

    lunet export-slices Task06_Lung --window -1350 150 --empty 0.1 --white --out slices
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import AXIS, NATURAL, SEED, add_out, add_settings, real


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet export-slices``."""
    parser.add_argument("raw", metavar="RAW", help="data set, in any layout that is read")
    add_out(parser, "DIR", "new folder")
    parser.add_argument(
        "--window", required=True, type=real, nargs=2, metavar=("LOW", "HIGH"), help="to 0, 255"
    )
    parser.add_argument("--axis", type=AXIS, default=2, help="array axis that is cut across")
    parser.add_argument("--channel", type=NATURAL, default=0, help="channel that is shown")
    parser.add_argument(
        "--empty", type=real, default=1.0, help="share of slices without label that is kept"
    )
    parser.add_argument("--seed", type=SEED, default=42, help="of the choice among those")
    parser.add_argument("--white", action="store_true", help="labels 0 and 255, not class indices")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Cut the slices."""
    from lunet.commands.raw import open_raw
    from lunet.exchange.slices import SliceExport, export_slices

    settings = SliceExport(
        window=(arguments.window[0], arguments.window[1]),
        channel=arguments.channel,
        axis=arguments.axis,
        empty=arguments.empty,
        seed=arguments.seed,
        white=arguments.white,
    )
    count = export_slices(open_raw(arguments, "preprocess"), settings, arguments.out)
    print(f"{count} slices in {arguments.out}")
