"""Get a data set from a local copy, a mirror or its origin; downloads resume and are verified.

Sources are tried in this order: dataset.path, $LUNET_DATA/<name> (a folder, or .tar, .tar.gz,
.zip), dataset.mirrors, the origin. The name `phantom` makes a synthetic data set.

Example:
  lunet download --name Task04_Hippocampus --path Task04_Hippocampus.tar --out work/raw
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_out, add_settings, read_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_settings(parser)
    parser.add_argument("--name", metavar="NAME", help="data set, instead of a configuration")
    parser.add_argument("--path", metavar="PATH", help="local folder or archive of the data set")
    parser.add_argument("--sha256", metavar="DIGEST", help="expected digest of the archive")
    add_out(parser, "DIR", "folder to create")
    parser.add_argument(
        "--cache", metavar="DIR", help="where archives are downloaded to (default: next to --out)"
    )
    parser.add_argument("--keep-archive", action="store_true", help="do not delete the archive")


def run(arguments: argparse.Namespace) -> None:
    """Make the folder."""
    from functools import partial

    from lunet.data.download.download import download
    from lunet.data.settings import DatasetSettings
    from lunet.settings import build_settings

    direct = {key: getattr(arguments, key) for key in ("name", "path", "sha256")}
    given = {key: value for key, value in direct.items() if value is not None}
    if arguments.name is None:
        given = read_settings(arguments, "download").get("dataset", {}) | given
    download(
        build_settings(DatasetSettings, given, "dataset"),
        arguments.out,
        cache=arguments.cache,
        keep_archive=arguments.keep_archive,
        log=partial(print, flush=True),
    )
