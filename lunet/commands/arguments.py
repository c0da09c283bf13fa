"""Where a step's settings come from: JSON from a rule, or a configuration named by a person."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.errors import ConfigError, shown
from lunet.reading import parse_json
from lunet.settings import LARGEST_SEED, LONGEST_AXIS

if TYPE_CHECKING:
    from lunet.task import Task

_UNNAMED = {"name": "unnamed", "path": ".", "labels": {"foreground": 1}, "channels": ["image"]}
_BY_HAND = {"study": "by-hand", "dataset": _UNNAMED}


def whole(minimum: int, maximum: int = LONGEST_AXIS) -> Callable[[str], int]:
    """The type of an argument that is a whole number within bounds (inclusive)."""

    def number(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or not minimum <= int(text) <= maximum:
            expected = f"a whole number from {minimum} to {maximum} is expected"
            raise argparse.ArgumentTypeError(f"found {shown(text)}, {expected}")
        return int(text)

    return number


SEED, AXIS, NATURAL, POSITIVE = whole(0, LARGEST_SEED), whole(0, 2), whole(0), whole(1)


def real(text: str) -> float:
    """The type of an argument that is a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"found {shown(text)}, a finite number is expected")
    return value


def positive(text: str) -> float:
    """The type of an argument that is a finite number above 0."""
    value = real(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"found {shown(text)}, a number above 0 is expected")
    return value


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a step's settings."""
    group = parser.add_argument_group("settings (rules pass the first two options)")
    group.add_argument("--settings", metavar="JSON", help="the sections that the step reads")
    group.add_argument("--code", metavar="DIGEST", default="", help="digest of the step's code")
    group.add_argument("--config", metavar="FILE", help="configuration of a study (YAML)")
    group.add_argument("--preset", metavar="NAME", help="preset or variant")
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="changes",
        help="change one key of the configuration, e.g. train.optimiser.lr=1e-3",
    )


def add_out(
    parser: argparse.ArgumentParser,
    metavar: str,
    help: str,
    *,
    suffixes: Sequence[str] | None = None,
    required: bool = True,
) -> None:
    """Add ``--out``.

    Parameters
    ----------
    suffixes
        The step writes one file per suffix: the value of ``--out`` plus the suffix (``("",)`` for
        a single file). The command line refuses to overwrite files that the step did not write.
        None for a folder, where the step claims its own files (:mod:`lunet.own_files`).
    """
    parser.add_argument("--out", required=required, type=Path, metavar=metavar, help=help)
    parser.set_defaults(out_suffixes=suffixes)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``: standard output is then one JSON value, and all else goes to stderr."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


@contextmanager
def only_json(arguments: argparse.Namespace) -> Iterator[None]:
    """With ``--json``, what is printed within the block goes to stderr."""
    with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
        yield


def print_json(value: Any) -> None:
    """Print strict JSON (no NaN, no infinity) with sorted keys."""
    print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False))


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names the code of a network that is not in the package."""
    parser.add_argument(
        "--network",
        metavar="FILE.py",
        help="file of the network's class, if it is not in lunet; its code is run",
    )


def network_of(arguments: argparse.Namespace, model: Mapping[str, Any]) -> str | None:
    """The file of the network's class: as given, else as the configuration's ``model`` names it."""
    from lunet.own_code import is_file

    module = model.get("module", "")
    given: str | None = arguments.network
    return given or (module if is_file(module) else None)


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a plan."""
    parser.add_argument("--plan", metavar="FILE", help="plan whose values override the settings")


def read_settings(arguments: argparse.Namespace, step: str) -> dict[str, Any]:
    """The sections that ``step`` reads, as plain values.

    ``--settings`` (a rule's JSON) is taken as it is. Otherwise the sections come from
    ``--config``, ``--preset`` and ``--set``, and are validated like the settings of a study.

    Raises
    ------
    ConfigError
        If the JSON, the configuration or a change is wrong.
    """
    if arguments.settings is not None:
        sections = _from_json(arguments.settings)
    else:
        sections = read_study(arguments).sections(step, arguments.preset)
    return planned(sections, getattr(arguments, "plan", None))


def planned(sections: dict[str, Any], path: str | None) -> dict[str, Any]:
    """The sections, with the values that ``lunet plan`` proposed overriding their own."""
    if path is None:
        return sections
    from lunet.study.config import PLANNED, read_plan
    from lunet.study.topology import with_topology

    plan = read_plan(path)
    for name in PLANNED:
        section = "recipe" if name == "train" else name
        if section in sections:
            sections[section] = {**sections[section], **plan.get(name, {})}
    if "model" in sections:
        model = sections["model"]
        arguments = with_topology(model["arguments"], plan.get("topology", {}))
        sections["model"] = {**model, "arguments": arguments}
    if "training_step" in sections:
        step = sections["training_step"]
        sections["training_step"] = {k: plan.get("train", {}).get(k, v) for k, v in step.items()}
    return _with_planned_size(sections, plan)


def _with_planned_size(sections: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
    """Measure the cost at the input size that the plan chose for training."""
    size = plan.get("train", {}).get("patch") or plan.get("preprocess", {}).get("size")
    if "efficiency" not in sections or not size:
        return sections
    return {**sections, "efficiency": {**sections["efficiency"], "size": size}}


def read_study(arguments: argparse.Namespace) -> Any:
    """The :class:`lunet.study.study.Study` of ``--config``, ``--preset`` and ``--set``.

    A preset that the study does not list is added to it, unless it is an external row or a rival.

    Without ``--config`` the study is about the data set that the command reads, as described by
    its ``dataset.json``; without that, about one image channel and one label ``foreground``.
    """
    from lunet.study.config import parse, read_mapping
    from lunet.study.study import study_of

    mapping = read_mapping(arguments.config) if arguments.config else _by_hand(arguments)
    for change in arguments.changes:
        _change(mapping, change)
    if arguments.preset and not arguments.config and "presets" not in mapping:
        mapping["presets"] = [arguments.preset]
    elif arguments.preset:
        config = parse(mapping)  # its presets may be a default, or the candidates of a search
        if arguments.preset not in (*config.presets, *config.external):
            mapping["presets"] = [*config.presets, arguments.preset]
    return study_of(mapping)


def _by_hand(arguments: argparse.Namespace) -> dict[str, Any]:
    """The configuration of a command that was run without ``--config``."""
    from lunet.data.dataset_json import declared_task

    raw = getattr(arguments, "raw", None)
    if raw is None or declared_task(raw) is None:
        return dict(_BY_HAND)
    return {**_BY_HAND, "dataset": {"name": "unnamed", "path": str(raw)}}


def prepared_of(arguments: argparse.Namespace, what: str) -> tuple[Path, Path]:
    """Paths of manifest and splits, from their options or from ``--config``.

    Parameters
    ----------
    what
        What needs them, for messages ("the training").

    Raises
    ------
    ConfigError
        If neither names them, or the files of the configuration's study do not exist.
    """
    manifest, splits = arguments.manifest, arguments.splits
    if arguments.config and not (manifest and splits):
        study = read_study(arguments)
        manifest = manifest or Path(study.work, "prepared", "manifest.json")
        splits = splits or Path(study.results, "splits.json")
        for path in (manifest, splits):
            if not path.is_file():
                words = f"snakemake --cores all {study.results}/splits.json"
                action = f"`{words} --configfile {arguments.config}` prepares them"
                raise ConfigError(
                    where=path,
                    found="is missing",
                    expected=f"{what} needs prepared data",
                    action=action,
                )
    for name, value in (("--manifest", manifest), ("--splits", splits)):
        if value is None:
            action = f"Give {name}, or the --config of a study whose data are prepared"
            raise ConfigError(
                where=name, found="missing", expected=f"{what} needs its data", action=action
            )
    return manifest, splits


def task_of(arguments: argparse.Namespace, sections: dict[str, Any], manifest: Path) -> Task:
    """The task of the settings; without any, the task that the prepared volumes record."""
    from lunet.data.prepared import read_manifest
    from lunet.task import task_from_dict

    by_volumes = arguments.settings is None and arguments.config is None
    return read_manifest(manifest).task if by_volumes else task_from_dict(sections["task"])


def by_hand_folders(arguments: argparse.Namespace) -> dict[str, Path]:
    """``results`` and ``work`` of what a person runs: the folder ``by-hand`` of the study's own.

    Without ``--config`` there is no study, and the folder is ``by-hand`` below the working folder's
    ``results`` and ``work``.
    """
    if not arguments.config:
        return {"results": Path("results", "by-hand"), "work": Path("work", "by-hand")}
    study = read_study(arguments)
    return {"results": Path(study.results, "by-hand"), "work": Path(study.work, "by-hand")}


def _from_json(text: str) -> dict[str, Any]:
    value = parse_json(text, "--settings", ConfigError)
    if not isinstance(value, dict):
        raise ConfigError(
            where="--settings", found=f"found {shown(value)}", expected="an object is needed"
        )
    return _Sections(value)


class _Sections(dict[str, Any]):
    """Sections by name; a missing one is the caller's error, not a bug."""

    def __missing__(self, name: str) -> Any:
        raise ConfigError(
            where="--settings", found=f"no section {name!r}", expected="this step reads it"
        )


def _change(mapping: dict[str, Any], change: str) -> None:
    """Apply one ``a.b.c=value``; the value is read as YAML."""
    from lunet.reading_yaml import parse_yaml  # the steps of a study need none

    key, sign, text = change.partition("=")
    if not sign or not key:
        raise ConfigError(
            where="--set", found=f"found {change!r}", expected="KEY=VALUE is expected"
        )
    *parents, last = key.split(".")
    place = mapping
    for parent in parents:
        inside = place.get(parent) or {}
        if not isinstance(inside, dict):
            raise ConfigError(
                where="--set",
                found=f"{key}: {parent} is {shown(inside)}",
                expected="no key below it",
            )
        place[parent] = dict(inside)
        place = place[parent]
    place[last] = parse_yaml(text, f"--set {key}")
