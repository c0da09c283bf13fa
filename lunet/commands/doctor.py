"""Check whether a profile fits this cluster: partitions, account, GPUs, file system, Python.

Each line shows what was found; a line with `!` also shows what to edit. No job of a study is
submitted: SLURM only tests the requests, and one job of a few seconds inspects a node (unless
--no-job is given).

Examples: lunet doctor
          lunet doctor --profile profiles/slurm --no-job
"""

from __future__ import annotations

import argparse

_SIGNS = {"ok": "+", "note": " ", "problem": "!"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet doctor``."""
    parser.add_argument("--profile", default="profiles/slurm", help="folder of the profile")
    parser.add_argument("--no-job", action="store_true", help="do not run a job on a node")


def run(arguments: argparse.Namespace) -> int:
    """Print the findings; exit code 1 if there is a problem."""
    from lunet.study.cluster_check import check_up

    problems = 0
    for finding in check_up(arguments.profile, job=not arguments.no_job):
        problems += finding.state == "problem"
        advice = f". {finding.advice}" if finding.advice else ""
        print(f"{_SIGNS[finding.state]} {finding.subject}: {finding.found}{advice}", flush=True)
    return int(problems > 0)
