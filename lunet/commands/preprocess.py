"""Prepare a data set: unify orientation, spacing, intensities and size, as memory-mappable arrays.

Writes images/CASE.npy (float32), labels/CASE.npy (uint8) and, at the end, manifest.json.

Example: lunet preprocess data/Task04_Hippocampus --config config/config.yaml --out work/prepared
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out, add_plan, add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet preprocess``."""
    parser.add_argument("raw", metavar="RAW", help="data set in the project's layout")
    add_out(parser, "DIR", "folder for the prepared volumes")
    add_settings(parser)
    add_plan(parser)


def run(arguments: argparse.Namespace) -> None:
    """Read the data set, prepare it, write the manifest."""
    from lunet.commands.raw import open_raw, raw_sections
    from lunet.data.prepare import prepare_dataset
    from lunet.data.settings import PreprocessSettings
    from lunet.settings import build_settings

    dataset = open_raw(arguments, "preprocess")
    sections = raw_sections(arguments, "preprocess")
    settings = build_settings(PreprocessSettings, sections.get("preprocess") or {}, "preprocess")
    prepare_dataset(dataset, settings, arguments.out)
