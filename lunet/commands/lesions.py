"""Count lesions found, missed and wrongly predicted, per patient and threshold.

A lesion is a connected component of the reference. It is found if the prediction covers enough of
it (lesions.overlap). A predicted component that touches no lesion is a false positive. Writes a row
per case to --out, and to --froc the points of the FROC curve, which are computed from the
probabilities that a run keeps with `predict.probabilities: true`.

    lunet lesions --manifest work/lung/prepared/manifest.json --splits results/lung/splits.json \\
        --predictions RUN/predictions --preset unet2d_16f --out lesions.csv --froc froc.csv
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import NATURAL, SEED, add_out, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    add_settings(parser)
    parser.add_argument("--manifest", required=True, help="manifest.json of the prepared data set")
    parser.add_argument("--splits", help="splits.json; without it all labelled cases are expected")
    parser.add_argument("--predictions", required=True, help="folder of <case>.nii.gz")
    parser.add_argument("--fold", type=NATURAL, default=0)
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument(
        "--subset", choices=("test", "validation", "train", "held_out"), default="test"
    )
    add_out(parser, "CSV", "counts per case", suffixes=("",))
    parser.add_argument("--froc", required=True, metavar="CSV", help="counts per threshold")


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    from lunet.evaluation.lesions import lesions_of_run
    from lunet.evaluation.pairs import EvaluatedRun
    from lunet.metrics.settings import LesionSettings
    from lunet.settings import build_settings

    by_rule = arguments.settings is not None or arguments.config is not None or arguments.changes
    sections = read_settings(arguments, "lesions") if by_rule else {}
    lesions_of_run(
        arguments.manifest,
        arguments.splits,
        arguments.predictions,
        run=EvaluatedRun(arguments.preset or "unnamed", arguments.fold, arguments.seed),
        settings=build_settings(LesionSettings, sections.get("lesions", {}), "lesions"),
        out=arguments.out,
        froc=arguments.froc,
        subset=arguments.subset,
    )
