"""Compare predicted masks with references: Dice, surface distances, volume errors.

Distances are in millimetres, in the native space of each case; for pictures of unknown pixel size
they are in pixels, and the columns say so (hd95_px). The table has one row per case and
structure; a missing prediction counts as a missed structure. A run of a study, and any two folders:

    lunet evaluate --config config/quick.yaml --preset lunet_small_4f --fold 0 --out metrics.csv
    lunet evaluate --reference labels --prediction masks --labels anterior=1 posterior=2 \\
        --out metrics.csv

Without --labels, the names are those of --config, if it is given, else of a dataset.json in or
above the reference folder; if there is none, each value of the references is a label. A region is a
union of indices (whole=1,2,3).
--map and --reference-map translate the values in the files first, for example for a network that
was trained on another data set (--map 1=1 2=1). Probability maps of one structure become masks by
--threshold (0.5, for example).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from lunet.commands.arguments import (
    NATURAL,
    SEED,
    add_out,
    add_settings,
    prepared_of,
    read_settings,
    read_study,
    real,
)
from lunet.commands.raw import add_pixels, pixels_of
from lunet.errors import ConfigError
from lunet.reading import read_rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    add_settings(parser)
    add_out(parser, "CSV", "table to write", suffixes=("",))
    run = parser.add_argument_group("a study's run")
    run.add_argument("--manifest", help="manifest.json of the prepared data set (of --config)")
    run.add_argument("--splits", help="splits.json; without it all labelled cases are expected")
    run.add_argument("--predictions", help="folder of <case>.nii.gz")
    run.add_argument("--fold", type=NATURAL, default=0)
    run.add_argument("--seed", type=SEED, default=0)
    run.add_argument(
        "--subset", choices=("test", "validation", "train", "held_out"), default="test"
    )
    folders = parser.add_argument_group("any two folders")
    folders.add_argument("--reference", metavar="DIR", help="folder (or file) of true labels")
    folders.add_argument("--prediction", metavar="DIR", help="folder (or file) of predictions")
    folders.add_argument("--labels", nargs="+", default=[], metavar="NAME=INDEX[,INDEX...]")
    folders.add_argument(
        "--map", nargs="+", default=[], metavar="OLD=NEW", help="translate values of predictions"
    )
    folders.add_argument(
        "--reference-map",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="translate values of references",
    )
    folders.add_argument(
        "--tolerances",
        nargs="+",
        type=real,
        metavar="MM",
        help="tolerances of the NSD (px for pictures)",
    )
    folders.add_argument(
        "--threshold",
        type=real,
        help="predictions are maps of one structure (its probabilities); the mask is where they "
        "exceed this",
    )
    add_pixels(folders)
    folders.add_argument(
        "--ignore-extra", action="store_true", help="skip predictions that have no reference"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    if arguments.reference or arguments.prediction:
        _run_folders(arguments)
    else:
        _run_study(arguments)


def _run_study(arguments: argparse.Namespace) -> None:
    from lunet.evaluation.evaluation import EvaluatedRun, evaluate_run
    from lunet.metrics.settings import EvaluateSettings
    from lunet.settings import build_settings

    for name in ("threshold", "pixel_mm"):
        if getattr(arguments, name) is not None:
            raise ConfigError(
                where=f"--{name.replace('_', '-')}",
                found="given for a study's run",
                expected="it is for --reference and --prediction",
            )
    if arguments.config:
        _complete(arguments)
    for name in ("manifest", "predictions", "preset"):
        if not getattr(arguments, name):
            raise ConfigError(
                where=f"--{name}",
                found="missing",
                expected="needed unless --reference and --prediction are given",
                action="Or name the run with --config, --preset, --fold and --seed",
            )
    sections = read_settings(arguments, "evaluate")
    evaluate_run(
        arguments.manifest,
        arguments.splits,
        arguments.predictions,
        run=EvaluatedRun(arguments.preset, arguments.fold, arguments.seed),
        settings=build_settings(EvaluateSettings, sections.get("evaluate", {}), "evaluate"),
        out=arguments.out,
        subset=arguments.subset,
    )
    _print_means(arguments.out)


def _complete(arguments: argparse.Namespace) -> None:
    """Fill in the files of the run that ``--config``, ``--preset``, fold and seed name."""
    study = read_study(arguments)
    if arguments.preset is None:
        raise ConfigError(
            where="--preset",
            found="missing",
            expected=f"a preset of {arguments.config}: {', '.join(study.presets)}",
            action="Name the run with --preset, --fold and --seed, or compare any two folders with "
            "--reference and --prediction",
        )
    arguments.manifest, arguments.splits = prepared_of(arguments, "the evaluation")
    if arguments.predictions is None:
        run = study.run(arguments.preset, arguments.fold, arguments.seed)
        arguments.predictions = f"{run}/predictions"


def _run_folders(arguments: argparse.Namespace) -> None:
    from lunet.evaluation.evaluation import Folders, evaluate_folders, structures_in
    from lunet.metrics.settings import EvaluateSettings

    for name in ("reference", "prediction"):
        if not getattr(arguments, name):
            raise ConfigError(
                where=f"--{name}", found="missing", expected="needed to compare two folders"
            )
    reference = Path(arguments.reference)
    reference_map = _map("--reference-map", arguments.reference_map)
    labels = dict(_pairs("--labels", arguments.labels))
    study = read_study(arguments) if arguments.config else None
    if study and not labels:
        labels = dict(study.task.structures)
    folders = Folders(
        reference,
        Path(arguments.prediction),
        labels or structures_in(reference, reference_map, _log),
        reference_map,
        _map("--map", arguments.map),
        ignore_extra=arguments.ignore_extra,
        pixel_mm=pixels_of(arguments),
        threshold=arguments.threshold,
    )
    settings = study.config.evaluate if study else EvaluateSettings()
    if arguments.tolerances:
        settings = EvaluateSettings(tuple(arguments.tolerances))
    evaluate_folders(folders, settings, arguments.out, log=_log)
    _print_means(arguments.out)


_SHOWN = ("dice", "hd95", "assd")


def _print_means(path: Path) -> None:
    """Print the mean of each structure over its cases, from the table that was written."""
    from lunet.metrics.catalog import column_in, title

    rows = read_rows(path, needed=("label", "status", "dice"), what="a metrics.csv")
    columns = list(rows[0]) if rows else []
    shown = [name for name in columns if column_in(name, "mm") in _SHOWN]
    shown += [name for name in columns if name.startswith("nsd_")]
    for label in dict.fromkeys(row["label"] for row in rows):
        part = [row for row in rows if row["label"] == label]
        means = (f"{title(name)} {_mean(row[name] for row in part):.4g}" for name in shown)
        statuses = Counter(row["status"] for row in part).most_common()
        counts = (f"{n} {status}" for status, n in statuses)
        print(f"{label}: mean {', '.join(means)} ({', '.join(counts)})")


def _mean(cells: Iterable[str]) -> float:
    """Mean of the cells that are not empty; NaN if all are."""
    values = [float(cell) for cell in cells if cell]
    return fmean(values) if values else math.nan


def _log(line: str) -> None:
    print(line, file=sys.stderr)


def _pairs(option: str, words: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Parse words such as ``name=1,2``."""
    pairs = []
    for word in words:
        name, _, numbers = word.partition("=")
        try:
            pairs.append((name, tuple(int(number) for number in numbers.split(","))))
        except ValueError:
            raise ConfigError(
                where=option, found=f"found {word!r}", expected="NAME=INDEX is expected"
            ) from None
    return pairs


def _map(option: str, words: Sequence[str]) -> dict[int, int]:
    pairs = _pairs(option, words)
    if any(not name.lstrip("-").isdigit() or len(new) != 1 for name, new in pairs):
        raise ConfigError(
            where=option, found=f"found {' '.join(words)}", expected="OLD=NEW numbers are expected"
        )
    return {int(old): new[0] for old, new in pairs}
