"""Check that this machine computes correctly, in a few minutes and without any data.

A line per check says `ok`, `failed` or `not applicable`, and what was found: gradients of every
family of networks, determinism, resumption, half precision, memory layout, compilation, CUDA
graphs, messages for a full memory, speed against a plain loop, latency, energy. Times are reported
and not judged. The exit code is 1 if a check failed.

The report holds hardware, versions and results, but no names and no paths: attach it to an issue.

Examples: lunet selftest
          lunet selftest --device cuda --out selftest.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet selftest``."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="what to check"
    )
    add_out(parser, "FILE", "the report (default selftest.json)", suffixes=("",), required=False)
    parser.set_defaults(out=Path("selftest.json"))


def run(arguments: argparse.Namespace) -> int:
    """Carry out the checks; exit code 1 if one failed."""
    from lunet.devices import claimed_gpu
    from lunet.efficiency.selftest import report, run_checks
    from lunet.files import write_json
    from lunet.training.compute.device import choose_device

    with claimed_gpu(arguments.device):
        device = choose_device(arguments.device)
        outcomes = []
        for outcome in run_checks(device):
            outcomes.append(outcome)
            found = f"{outcome.check}: {outcome.found} ({outcome.seconds:.1f} s)"
            print(f"{outcome.state:<14} {found}", flush=True)
        content = report(device, outcomes)
    write_json(arguments.out, content)
    failed = content["failed"]
    print(f"{failed} of {len(outcomes)} checks failed; the report is {arguments.out}", flush=True)
    return int(failed > 0)
