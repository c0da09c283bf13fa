"""Which data set a step on raw data reads: from settings, or from the data set's own files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.commands.arguments import positive, read_settings, real
from lunet.errors import ConfigError

if TYPE_CHECKING:
    from lunet.data.dataset import Dataset
    from lunet.data.settings import DatasetSettings


def raw_sections(arguments: argparse.Namespace, step: str) -> dict[str, Any]:
    """The settings' sections; empty if none are given and ``dataset.json`` describes the data."""
    is_bare = arguments.settings is None and arguments.config is None and not arguments.changes
    if is_bare and getattr(arguments, "plan", None) is None:
        return {}
    return read_settings(arguments, step)


def open_raw(arguments: argparse.Namespace, step: str) -> Dataset:
    """The data set in ``arguments.raw``, with the settings that were given, if any."""
    from lunet.data.dataset import LISTING, read_dataset
    from lunet.data.layouts.open import open_dataset
    from lunet.data.settings import UNNAMED, DatasetSettings
    from lunet.settings import build_settings
    from lunet.task import task_from_dict

    sections = raw_sections(arguments, step)
    if sections and arguments.settings is None and arguments.config is None:
        # everything that `--set` does not name comes from the data set's own files
        named = {change.partition("=")[0] for change in arguments.changes}
        given = {k: value for k, value in sections["dataset"].items() if _is_named(k, named)}
        own = given | {"name": UNNAMED, "path": str(arguments.raw)}
        chosen_settings = build_settings(DatasetSettings, own, "dataset")
        return open_dataset(arguments.raw, chosen_settings, getattr(arguments, "layout", None))
    settings = build_settings(DatasetSettings, sections["dataset"], "dataset") if sections else None
    task = task_from_dict(sections["task"]) if sections else None
    layout = getattr(arguments, "layout", None)
    if layout is None and settings is not None and (Path(arguments.raw) / LISTING).exists():
        return read_dataset(arguments.raw, settings, task)  # rules read the project's layout
    return open_dataset(arguments.raw, settings, layout)


def _is_named(key: str, named: set[str]) -> bool:
    """Whether ``--set`` names this key of the data set, or something above or below it."""
    path = f"dataset.{key}."
    return any(f"{name}.".startswith(path) or path.startswith(f"{name}.") for name in named)


def add_description(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the arguments that describe a data set: what :func:`by_hand` reads."""
    parser.add_argument("--layout", default="auto", help="name of the layout (default: auto)")
    parser.add_argument("--name", default=None, help="name of the data set")
    parser.add_argument("--labels", nargs="+", metavar="NAME=INDEX", help="foreground labels")
    parser.add_argument(
        "--remap", nargs="+", metavar="FOUND=INDEX", help="class index of each value in the files"
    )
    parser.add_argument("--channels", nargs="+", metavar="NAME", help="channel names, in order")
    parser.add_argument(
        "--threshold", type=real, help="soft or lossy masks: values above it are foreground"
    )
    parser.add_argument(
        "--groups",
        metavar="REGEX",
        help="its first group, matched in a case's name, is the subject",
    )
    parser.add_argument("--dimensions", type=int, default=3, choices=(2, 3))
    add_pixels(parser)


def add_pixels(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    default: str = "unknown, distances in px",
) -> None:
    """Add the argument that :func:`pixels_of` reads."""
    parser.add_argument(
        "--pixel-mm",
        nargs="+",
        type=positive,
        metavar="MM",
        help=f"pixel size of pictures, one number or x and y (default: {default})",
    )


def pixels_of(arguments: argparse.Namespace) -> tuple[float, float] | None:
    """Size of a pixel along x and y, from ``--pixel-mm``."""
    given: list[float] | None = arguments.pixel_mm
    if given is not None and len(given) > 2:
        raise ConfigError(
            where="--pixel-mm", found=f"{len(given)} numbers", expected="one, or two for x and y"
        )
    return (given[0], given[-1]) if given else None


def by_hand(arguments: argparse.Namespace) -> DatasetSettings:
    """The settings of a data set, from the arguments of :func:`add_description`."""
    from lunet.data.settings import UNNAMED, DatasetSettings
    from lunet.settings import build_settings

    values = {
        "name": arguments.name or UNNAMED,
        "path": arguments.source,
        "dimensions": arguments.dimensions,
        "labels": _pairs("--labels", arguments.labels),
        "remap": _pairs("--remap", arguments.remap) or {},
        "channels": arguments.channels,
        "mask_threshold": arguments.threshold,
        "groups": arguments.groups,
        "pixel_mm": pixels_of(arguments),
    }
    return build_settings(DatasetSettings, values, "dataset")


def _pairs(option: str, texts: list[str] | None) -> dict[str, int] | None:
    """``a=1 b=2`` as a mapping."""
    if texts is None:
        return None
    pairs = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        if not sign or not number.lstrip("-").isdecimal():
            raise ConfigError(
                where=option, found=f"found {text!r}", expected="NAME=NUMBER is expected"
            )
        pairs[name] = int(number)
    return pairs
