"""After a crash: show the left-over jobs of this checkout, end or await them, and unlock.

A Snakemake that was killed leaves its SLURM jobs running, and starting it again would run the same
jobs beside them. This lists them (by the job-name prefix of the profile), cancels them (--cancel)
or awaits them (--wait), removes Snakemake's lock, and says what will go on.

Examples: lunet recover
          lunet recover --cancel
          lunet recover --wait --prefix lunet
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet recover``."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cancel", action="store_true", help="cancel the left-over jobs")
    what.add_argument("--wait", action="store_true", help="wait until they have ended")
    parser.add_argument("--prefix", help="job-name prefix; else that of profiles/slurm")
    parser.add_argument("--profile", default="profiles/slurm", help="profile that holds the prefix")
    parser.add_argument("--work", default="work", help="folder of the resume states")


def run(arguments: argparse.Namespace) -> int:
    """Recover; exit code 1 while jobs are still running."""
    from lunet.study.recover import recover

    action = "cancel" if arguments.cancel else "wait" if arguments.wait else "list"
    return recover(action, arguments.prefix, arguments.profile, arguments.work)
