"""Take somebody else's finished predictions as a row of a study: nnU-Net's, a tool's, a reader's.

The rules of a study call it for each fold. The predictions are checked (names, grids, labels, and
with nnU-Net that no case was predicted by a model that trained on it) and written in the labels of
the data set, with their record run.json. Without --manifest it writes the costs that the
configuration states.

    lunet external --config study.yaml --preset second_reader --fold 0 \\
        --manifest work/x/prepared/manifest.json --splits results/x/splits.json \\
        --out results/x/runs/second_reader/fold-0/seed-0/predictions
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import NATURAL, add_out, add_settings, read_settings
from lunet.errors import ConfigError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    add_settings(parser)
    add_out(parser, "PATH", "folder for the masks; without --manifest the file of the costs")
    parser.add_argument("--predictions", metavar="DIR", help="folder instead of the configured one")
    parser.add_argument("--manifest", help="manifest.json of the prepared data set")
    parser.add_argument("--splits", help="splits.json of the study")
    parser.add_argument("--fold", type=NATURAL, help="whose test cases are taken (default 0)")


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    from lunet.evaluation.external_settings import ExternalSettings
    from lunet.settings import build_settings

    name = arguments.preset
    if name is None:
        raise ConfigError(
            where="--preset", found="missing", expected="the name of the external row is needed"
        )
    if arguments.settings is None:
        _check_configured(arguments)
    step = "external" if arguments.manifest else "external_cost"
    section = read_settings(arguments, step)[step]
    if arguments.predictions:
        section = {**section, "predictions": arguments.predictions}
    settings = build_settings(ExternalSettings, section, f"external.{name}")
    if arguments.manifest is None and (arguments.splits or arguments.fold is not None):
        raise ConfigError(
            where="--manifest",
            found="missing",
            expected="the masks of a fold need it; the costs need neither --splits nor --fold",
        )
    if arguments.manifest is None:
        from lunet.evaluation.external_cost import write_cost
        from lunet.own_files import claim_files

        with claim_files([arguments.out], step="external"):
            write_cost(settings, name, arguments.out)
        return
    if arguments.splits is None:
        raise ConfigError(
            where="--splits", found="missing", expected="the folds of the study are needed"
        )
    from lunet.evaluation.external import SEED, take_predictions
    from lunet.evaluation.pairs import EvaluatedRun

    take_predictions(
        settings,
        run=EvaluatedRun(name, arguments.fold or 0, SEED),
        manifest_path=arguments.manifest,
        splits_path=arguments.splits,
        out=arguments.out,
        code=arguments.code,
    )


def _check_configured(arguments: argparse.Namespace) -> None:
    from lunet.study.config import read_mapping

    rows = (read_mapping(arguments.config) if arguments.config else {}).get("external") or {}
    if arguments.preset not in rows:
        known = nearest(arguments.preset, rows) if rows else "the configuration has none"
        raise ConfigError(
            where=f"external.{arguments.preset}", found="is not configured", expected=known
        )
