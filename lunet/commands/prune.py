"""Remove channels of one preset step by step and retrain, on one fold with one seed.

STRATEGY is stamp, random_at_stamp_layer or largest_layer, or one of two controls: `scratch` trains
the final network of stamp from scratch, `flat` trains the LUNet with the nearest number of
parameters. Both train for as many epochs as the stamp run; --like names its run.json. The network
is chosen on validation cases.

Writes weights.safetensors (the chosen network), last.safetensors, trajectory.csv, history.csv,
test_curve.csv and run.json. On a signal the state is saved; the same command resumes from it.

Examples:
  lunet prune --config config/pruning.yaml --strategy stamp
  lunet prune --config config/pruning.yaml --strategy scratch \\
      --like results/pruning/by-hand/pruning/unet_small_2f/stamp/fold-0/seed-0/run.json
  lunet prune --config config/pruning.yaml --strategy stamp --init trained/weights.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lunet.commands.arguments import (
    NATURAL,
    SEED,
    add_plan,
    add_settings,
    by_hand_folders,
    prepared_of,
    read_settings,
    read_study,
    real,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet prune``."""
    add_settings(parser)
    add_plan(parser)
    parser.add_argument("--strategy", required=True, help="selection rule or control")
    parser.add_argument(
        "--like", type=Path, metavar="FILE", help="for a control: run.json of the stamp run"
    )
    parser.add_argument("--init", type=Path, metavar="FILE", help="prune these trained weights")
    data = parser.add_argument_group("data and folders (default: from the study of --config)")
    data.add_argument("--manifest", type=Path, metavar="FILE", help="manifest.json of the volumes")
    data.add_argument("--splits", type=Path, metavar="FILE", help="splits.json")
    data.add_argument("--fold", type=NATURAL, default=0, help="which fold, from 0 (default 0)")
    data.add_argument("--seed", type=SEED, default=0, help="seed of everything random (default 0)")
    data.add_argument("--work", type=Path, metavar="DIR", help="folder of the resume state")
    data.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
    data.add_argument(
        "--engine-cache", type=Path, metavar="FILE", help="measured choices of the engine"
    )
    data.add_argument(
        "--keep-results",
        action="store_true",
        help="also keep the results in --work, from where a further attempt takes them",
    )
    data.add_argument(
        "--save-interval", type=real, metavar="S", help="seconds between saved states"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prune one network."""
    from lunet.devices import claimed_gpu
    from lunet.pruning.job import PruneJob
    from lunet.pruning.run import run_pruning
    from lunet.pruning.settings import PruneSettings
    from lunet.settings import build_settings
    from lunet.task import task_from_dict
    from lunet.training.compute.device import choose_device
    from lunet.training.job import TrainingJob
    from lunet.training.recipe import Recipe

    sections = _sections(arguments)
    places = _places(arguments, sections["model"]["preset"])
    training = TrainingJob(
        task=task_from_dict(sections["task"]),
        model=sections["model"],
        recipe=build_settings(Recipe, sections["recipe"], "train"),
        code=arguments.code or _code(arguments, sections["model"]["preset"]),
        fold=arguments.fold,
        seed=arguments.seed,
        init=arguments.init,
        save_interval=arguments.save_interval,
        manifest=places["manifest"],
        splits=places["splits"],
        work=places["work"],
        out=places["out"],
        engine_cache=places["engine_cache"],
        finished="both" if arguments.keep_results else "out",
    )
    settings = build_settings(PruneSettings, sections["prune"], "prune")
    with claimed_gpu(training.recipe.engine.device):
        choose_device(training.recipe.engine.device, key="train.engine.device")
        run_pruning(PruneJob(training, settings, arguments.strategy, arguments.like))


def _sections(arguments: argparse.Namespace) -> dict[str, Any]:
    """A rule's sections, or the configuration's, whose ``prune.preset`` is the default preset."""
    if arguments.settings is None and arguments.preset is None:
        study = read_study(arguments)
        return dict(study.sections("prune", study.config.prune.preset))
    return read_settings(arguments, "prune")


def _code(arguments: argparse.Namespace, preset: str) -> str:
    """Digest of the code, so that a manual run never resumes from a state of different code."""
    if arguments.settings is not None:
        return ""
    return str(read_study(arguments).digest("prune", preset))


def _places(arguments: argparse.Namespace, preset: str) -> dict[str, Path]:
    """Files and folders; a manual run reads the study's volumes but writes to ``by-hand``."""
    end = f"fold-{arguments.fold}/seed-{arguments.seed}"
    run = Path("pruning", preset, arguments.strategy, end)
    manifest, splits = prepared_of(arguments, "pruning")
    by_hand = by_hand_folders(arguments)
    work = arguments.work or by_hand["work"] / run
    return {
        "manifest": manifest,
        "splits": splits,
        "work": work,
        "out": arguments.out or by_hand["results"] / run,
        "engine_cache": arguments.engine_cache or work.parent.parent / "engine.json",
    }
