"""Divide the labelled cases into cross-validation folds; cases of one subject stay together.

Example:
  lunet folds --config config/quick.yaml --manifest work/prepared/manifest.json --out splits.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lunet.commands.arguments import add_out, add_settings, read_settings, read_study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument(
        "--manifest", required=True, metavar="FILE", help="manifest.json of the prepared volumes"
    )
    add_out(parser, "FILE", "splits.json to write", suffixes=("",))


def run(arguments: argparse.Namespace) -> None:
    """Write the folds and print how large they are."""
    from lunet.data.custom_splits import own_splits, unused_cases
    from lunet.data.folds import make_splits, read_cases, write_splits
    from lunet.data.prepared import crop_line, read_manifest
    from lunet.data.rare_classes import missing_classes
    from lunet.data.settings import SplitSettings
    from lunet.settings import build_settings

    settings = build_settings(
        SplitSettings, read_settings(arguments, "folds").get("split", {}), "split"
    )
    cases = read_cases(arguments.manifest)
    if settings.file:
        splits = own_splits(settings.file, cases, settings)
        if unused := unused_cases(splits, cases):
            print(f"{len(unused)} labelled case(s) are in no part of {settings.file}")
    else:
        splits = make_splits(cases, settings)
    write_splits(arguments.out, splits)
    for number, fold in enumerate(splits.folds):
        sizes = f"{len(fold.train)} train, {len(fold.validation)} validation, {len(fold.test)} test"
        print(f"fold {number}: {sizes}")
    if splits.held_out:
        print(f"held out: {len(splits.held_out)}")
    manifest = read_manifest(arguments.manifest).content
    cropped = crop_line(manifest["cases"], manifest["preprocess"].get("size") or ())
    for line in [cropped, *missing_classes(arguments.manifest, splits), *_warnings(arguments)]:
        if line:
            print(f"warning: {line}")


def _warnings(arguments: argparse.Namespace) -> list[str]:
    """What the study cannot resolve with the subjects that these folds test on."""
    from lunet.study.protocol import handed_over, warnings_of_files

    sections = handed_over()
    if arguments.config is not None:
        sections = read_study(arguments).sections("register")
    files = Path(arguments.manifest), Path(arguments.out)
    return warnings_of_files(sections, *files) if sections else []
