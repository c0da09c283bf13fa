"""Test a trained network on another labelled data set, whose labels may have other names.

Rules pass everything in --settings. You can choose an entry of a configuration's `transfer:` with
--config and --target. Every labelled case of that data set is segmented and evaluated in native
space:

    lunet transfer --config config/claims.yaml --target harp --raw work/claims/transfer/harp/raw \\
        --weights results/claims/runs/lunet_small_4f/fold-0/seed-0 --out results/by-hand/harp
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from lunet.commands.arguments import (
    NATURAL,
    SEED,
    add_network,
    add_out,
    add_plan,
    add_settings,
    network_of,
    planned,
    read_settings,
    read_study,
)
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet transfer``."""
    add_settings(parser)
    add_plan(parser)
    add_network(parser)
    parser.add_argument("--target", metavar="NAME", help="entry of `transfer:`, with --config")
    parser.add_argument("--raw", required=True, type=Path, metavar="DIR", help="the raw data set")
    parser.add_argument("--weights", required=True, metavar="W", help="a run's folder, or a file")
    parser.add_argument("--fold", type=NATURAL, default=0)
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    add_out(parser, "DIR", "folder to write")


def run(arguments: argparse.Namespace) -> None:
    """Test one network on one data set."""
    from lunet.evaluation.pairs import EvaluatedRun
    from lunet.evaluation.transfer import Test, transfer
    from lunet.inference.settings import PredictSettings, TransferSettings
    from lunet.metrics.settings import EvaluateSettings
    from lunet.settings import build_settings
    from lunet.task import task_from_dict

    found = _sections(arguments)
    given = {"dataset": found["dataset"], "map": found["map"]}
    predict = build_settings(PredictSettings, found["predict"], "predict")
    if arguments.device:
        predict = dataclasses.replace(predict, device=arguments.device)
    test = Test(
        arguments.raw,
        build_settings(TransferSettings, given, "transfer"),
        task_from_dict(found["task"]),
        predict,
        build_settings(EvaluateSettings, found["evaluate"], "evaluate"),
    )
    transfer(
        arguments.weights,
        test,
        run=EvaluatedRun(found["model"]["preset"], arguments.fold, arguments.seed),
        out=arguments.out,
        code=arguments.code,
        network=network_of(arguments, found["model"]),
    )


def _sections(arguments: argparse.Namespace) -> dict[str, Any]:
    from lunet.study.transfer import target_sections

    if arguments.settings is not None:
        return read_settings(arguments, "transfer")
    if arguments.target is None:
        raise ConfigError(
            where="--target",
            found="missing",
            expected="an entry of the configuration's `transfer:`",
        )
    study = read_study(arguments)
    sections = target_sections(study, "transfer", arguments.target, _preset(arguments))
    return planned(sections, arguments.plan)


def _preset(arguments: argparse.Namespace) -> str:
    """The preset that the description of the weights names."""
    from lunet.inference.description import description_of
    from lunet.inference.load import load_model

    model = load_model(arguments.weights, network=arguments.network)
    return str(description_of(model).model["preset"])
