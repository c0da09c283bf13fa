"""Release a trained network: one folder with weights, ONNX, plan, labels, licence and model card.

The ONNX file takes any size and is checked against torch on random ones. Measured results and the
data's licence get into the card from the files that are named (or lie in the run's folder):

    lunet export results/x/runs/lunet_small_4f/fold-0/seed-0 \\
        --manifest work/x/prepared/manifest.json --out release/

`lunet predict --weights release/ SCANS --out masks/` then segments new scans.

--pt2 adds model.pt2 for torch.export.load, with free batch and sizes where the network allows them.
Loading such a file may unpickle parts of it, so `lunet predict` does not take it.
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or its weights.safetensors")
    add_out(parser, "DIR", "release folder")
    parser.add_argument("--metrics", metavar="CSV", help="metrics.csv; else the run's own")
    parser.add_argument("--manifest", metavar="JSON", help="of the prepared data: their licence")
    parser.add_argument("--no-onnx", action="store_true", help="leave the ONNX file out")
    parser.add_argument("--pt2", action="store_true", help="write model.pt2 (torch.export) too")


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    from pathlib import Path

    from lunet.exchange.release import ReleaseSources, export_release

    sources = ReleaseSources(
        *(Path(name) if name else None for name in (arguments.metrics, arguments.manifest))
    )
    export_release(
        arguments.run,
        arguments.out,
        sources=sources,
        with_onnx=not arguments.no_onnx,
        with_program=arguments.pt2,
    )
