"""Repair the findings of an audit that can be repaired safely, into a new folder, with a log.

Files that need no repair are linked. repairs.csv lists what was done and what is left.

Example: lunet repair data/Task04_Hippocampus --out data/fixed
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out, add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet repair``."""
    parser.add_argument("raw", metavar="RAW", help="folder of the data set; it is not changed")
    add_out(parser, "DIR", "new folder")
    parser.add_argument(
        "--trust-image-header",
        action="store_true",
        help="give labels and further channels whose shape matches but whose position differs the "
        "affine of the case's first image file",
    )
    parser.add_argument(
        "--fill-non-finite",
        action="store_true",
        help="replace NaN and -inf by the smallest finite value, +inf by the largest",
    )
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out cases that still have errors"
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Audit, repair, and print what was done and what is left."""
    from lunet.commands.raw import open_raw
    from lunet.data.audit.repair import LOG, RepairOptions, repair

    options = RepairOptions(
        trust_image_header=arguments.trust_image_header,
        fill_non_finite=arguments.fill_non_finite,
        leave_out=arguments.leave_out,
    )
    rows = repair(open_raw(arguments, "audit"), arguments.out, options)
    for row in rows:
        print(f"{row['outcome']}: {row['case']} {row['file']} {row['check']}: {row['done']}")
    count = sum(row["outcome"] == "repaired" for row in rows)
    print(f"{count} repaired, {len(rows) - count} left; see {arguments.out}/{LOG}")
