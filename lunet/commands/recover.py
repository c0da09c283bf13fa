"""After a crash: list, cancel or wait for the left-over jobs of this checkout, and unlock it.

A Snakemake that was killed leaves its jobs running, and starting it again would run the same
jobs a second time. This command finds them by the job-name prefix of the profile, cancels them
(--cancel) or waits for them (--wait), removes Snakemake's lock, and lists what will resume.
A profile with a site's own commands (profiles/generic) needs queue.sh beside its cancel.sh.

Examples: lunet recover
          lunet recover --cancel
          lunet recover --wait --prefix lunet
          lunet recover --profile profiles/generic
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet recover``."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--cancel", action="store_true", help="cancel the left-over jobs")
    what.add_argument("--wait", action="store_true", help="wait until they have ended")
    parser.add_argument("--prefix", help="job-name prefix (default: the profile's)")
    parser.add_argument("--profile", default="profiles/slurm", help="profile that holds the prefix")
    parser.add_argument("--work", default="work", help="folder of the resume states")


def run(arguments: argparse.Namespace) -> int:
    """Recover; exit code 1 while jobs are still running."""
    from lunet.study.recover import recover

    action = "cancel" if arguments.cancel else "wait" if arguments.wait else "list"
    return recover(action, arguments.prefix, arguments.profile, arguments.work)
