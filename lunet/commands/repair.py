"""Mend what an audit found and can be mended safely, into a new folder, with a log.

Files that need nothing are linked; repairs.csv tells what was done and what is left.

Example: lunet repair data/Task04_Hippocampus --out data/fixed
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out, add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet repair``."""
    parser.add_argument("raw", metavar="RAW", help="folder of the data set; it stays as it is")
    add_out(parser, "DIR", "new folder")
    parser.add_argument(
        "--trust-image-header",
        action="store_true",
        help="labels and further channels of equal shape that lie elsewhere get the affine of the "
        "case's first image file",
    )
    parser.add_argument(
        "--fill-non-finite",
        action="store_true",
        help="NaN and -inf become the smallest finite value, +inf the largest",
    )
    parser.add_argument(
        "--leave-out", action="store_true", help="do not list cases whose errors are left"
    )
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Audit, mend, print what was done and what is left."""
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
