"""Write 2D slices of volumes as 8-bit PNG images and labels, for other tools.

Writes images/CASE_slice_0000.png, labels/ with the same names, and slices.csv, which keeps the
pixel size that a PNG loses. LUNet's own 2D studies do not need this: they cut prepared volumes on
the fly.

Common windows (LOW HIGH, Hounsfield units): lung -1350 150, liver -160 240, bone -500 1300.

    lunet export-slices Task06_Lung --window -1350 150 --empty 0.1 --white --out slices
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import AXIS, NATURAL, SEED, add_out, add_settings, real


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet export-slices``."""
    parser.add_argument("raw", metavar="RAW", help="data set, in any layout that lunet reads")
    add_out(parser, "DIR", "new folder")
    parser.add_argument(
        "--window",
        required=True,
        type=real,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="intensities that become 0 and 255",
    )
    parser.add_argument("--axis", type=AXIS, default=2, help="array axis to cut across")
    parser.add_argument("--channel", type=NATURAL, default=0, help="channel to write")
    parser.add_argument(
        "--empty", type=real, default=1.0, help="share of slices without a label to keep"
    )
    parser.add_argument(
        "--seed", type=SEED, default=42, help="seed of the choice of slices without a label"
    )
    parser.add_argument(
        "--white", action="store_true", help="write labels as 0 and 255, not as class indices"
    )
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
