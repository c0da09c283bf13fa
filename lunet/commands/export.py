"""Release a trained network: one folder with weights, ONNX, plan, labels, licence and model card.

The ONNX file accepts any input size and is checked against PyTorch on random sizes. The card shows
measured results and the licence of the data, which are read from --metrics and --manifest (or from
the files in the run's folder):

    lunet export results/x/runs/lunet_small_4f/fold-0/seed-0 \\
        --manifest work/x/prepared/manifest.json --out release/

`lunet predict --weights release/ SCANS --out masks/` then segments new scans.

--pt2 adds model.pt2 for torch.export.load; batch and size stay free where the network allows it.
Loading such a file may unpickle parts of it, so `lunet predict` does not accept it.
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_network, add_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    parser.add_argument("run", metavar="RUN", help="folder of a run, or its weights.safetensors")
    add_out(parser, "DIR", "release folder")
    parser.add_argument("--metrics", metavar="CSV", help="metrics.csv (default: the run's own)")
    parser.add_argument(
        "--manifest", metavar="JSON", help="manifest of the prepared data, which has their licence"
    )
    add_network(parser)
    parser.add_argument("--no-onnx", action="store_true", help="do not write the ONNX file")
    parser.add_argument("--pt2", action="store_true", help="also write model.pt2 (torch.export)")


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
        network=arguments.network,
    )
