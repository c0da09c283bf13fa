"""Choose the arithmetic of a preset's trainings: precision, layout and compilation.

What `train.engine` leaves open (`auto`) is measured with a few training steps, and its gradients
are compared with those of float32. All folds and seeds of the preset are then trained with the
file, so that they are computed alike. Example:

    lunet engine --config config/config.yaml --preset lunet_small_4f --out engine.json
    lunet train --config config/config.yaml --preset lunet_small_4f --engine engine.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import (
    NATURAL,
    add_out,
    add_plan,
    add_settings,
    prepared_of,
    read_settings,
    task_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet engine``."""
    add_settings(parser)
    add_plan(parser)
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="manifest.json of the data")
    parser.add_argument("--splits", type=Path, metavar="FILE", help="splits.json")
    parser.add_argument("--fold", type=NATURAL, default=0, help="fold to measure with (default 0)")
    add_out(parser, "JSON", "file to write", suffixes=("",))


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    import tempfile

    from lunet.devices import claimed_gpu
    from lunet.settings import build_settings
    from lunet.training.job import TrainingJob
    from lunet.training.recipe import Recipe
    from lunet.training.run import run_engine

    sections = read_settings(arguments, "train")
    recipe = build_settings(Recipe, sections["recipe"], "train")
    manifest, splits = prepared_of(arguments, "the measurement")
    with claimed_gpu(recipe.engine.device), tempfile.TemporaryDirectory() as folder:
        job = TrainingJob(
            task=task_of(arguments, sections, manifest),
            model=sections["model"],
            recipe=recipe,
            code=arguments.code,
            manifest=manifest,
            splits=splits,
            fold=arguments.fold,
            seed=0,
            work=Path(folder),
            out=Path(folder),
        )
        chosen = run_engine(job, arguments.out)
    print(f"{sections['model']['preset']}: {chosen}", flush=True)
