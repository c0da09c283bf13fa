"""Examine a data set before anything is trained on it.

Writes findings.csv, summary.json and audit.html. The exit code is 2 if a finding is an error. With
--config, the voxels that the study's `preprocess.size` would cut off labels are findings, too.

Examples: lunet audit data/Task04_Hippocampus --out audit
          lunet audit my_nnunet_folder --layout nnunet --splits splits.json --out audit
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_json, add_out, add_settings, only_json, print_json

_LEVEL = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet audit``."""
    parser.add_argument("raw", metavar="RAW", help="folder of the data set, or one image")
    add_out(parser, "DIR", "folder of the audit's files")
    parser.add_argument("--layout", help="layout of the folder (default: detected)")
    parser.add_argument("--splits", metavar="FILE", help="split file to check for leaks")
    add_json(parser)
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Audit, write, print, and fail if there are errors."""
    from lunet.commands.raw import open_raw, raw_sections
    from lunet.data.audit.audit import (
        audit,
        audit_lines,
        audit_summary,
        require_sound,
        write_audit,
    )
    from lunet.data.audit.crop import with_crop
    from lunet.data.settings import PreprocessSettings
    from lunet.settings import build_settings
    from lunet.statistics.attainable import smallest_p

    with only_json(arguments):
        dataset = open_raw(arguments, "audit")
        result = audit(dataset, splits=arguments.splits, log=print)
        if crop := raw_sections(arguments, "audit").get("crop"):
            result = with_crop(result, build_settings(PreprocessSettings, crop, "preprocess"))
        write_audit(result, arguments.out)
        print("\n".join(audit_lines(result)))
        subjects = len({case.group for case in dataset.cases if case.labelled})
        if smallest_p(subjects) > _LEVEL:
            print(
                f"{subjects} labelled subjects are too few to compare networks that are trained "
                f"once each: the smallest possible p is {smallest_p(subjects):.2g}"
            )
    if arguments.json:
        rows = [finding.as_row() for finding in result.findings]
        print_json({"summary": audit_summary(result), "findings": rows})
    require_sound(result, arguments.out)
