"""Forecast memory and time of a study's trainings, and compare with the runs that are finished.

The forecast is computed from `efficiency.json` of each preset (target `efficiency`), the manifest
of the prepared volumes and the splits; a line names each file that is missing. The columns
`requested` show what the workflow requests from its cluster at the first attempt; further attempts
request more.

Example: lunet forecast --config config/quick.yaml
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_json, add_settings, only_json, print_json, read_study
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet forecast``."""
    add_json(parser)
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print a row per preset."""
    from lunet.study.listing import forecast_lines, forecast_records

    if not arguments.config:
        raise ConfigError(
            where="--config", found="missing", expected="the configuration of a study is needed"
        )
    with only_json(arguments):
        records = forecast_records(read_study(arguments))
    if arguments.json:
        print_json(records)
        return
    for line in forecast_lines(records):
        print(line)
