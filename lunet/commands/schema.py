"""Write the JSON schema of the configuration, for editors and for the test that holds both equal.

Example: lunet schema --out workflow/schemas/config.schema.json
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet schema``."""
    parser.add_argument("--out", required=True, metavar="FILE", help="JSON file to write")


def run(arguments: argparse.Namespace) -> None:
    """Write the schema."""
    from lunet.files import write_json
    from lunet.study.config import json_schema

    write_json(arguments.out, json_schema())
