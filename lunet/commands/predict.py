"""Segment images with a trained network, or write the atlas prior of a fold.

The rules of a study pass a manifest, splits and a fold. You can also segment any files or folders
(NIfTI, NRRD, MHA, PNG, TIFF, JPEG); a mask has the format of its image (PNG for JPEG). Predictions
of several weights are averaged. A file that cannot be segmented is reported, the others are still
processed, and the exit code is 1:

    lunet predict --weights results/x/runs/lunet_small_4f/fold-0/seed-0 scans/ --out masks/
    lunet predict --weights fold-0/ fold-1/ fold-2/ scan.nrrd --out masks/ --flip-axes 0 1
    lunet predict --weights fold-0/ slices/ --out masks/ --threshold 0.3 --overlay

Weights are the folder of a run, the folder of a fold (its seeds are averaged), a released folder, a
.safetensors file or an .onnx file. In a study
`predict.choose` selects threshold, flips and components on validation cases; --chosen applies such
a selection here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lunet.commands.arguments import (
    AXIS,
    NATURAL,
    POSITIVE,
    add_network,
    add_out,
    add_plan,
    add_settings,
    network_of,
    real,
)
from lunet.commands.raw import add_pixels, pixels_of
from lunet.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    add_settings(parser)
    add_plan(parser)
    add_network(parser)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="images or folders of images")
    parser.add_argument("--weights", nargs="+", default=[], metavar="W", help="run, release, file")
    add_out(parser, "DIR", "folder for the masks")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    run = parser.add_argument_group("a study's run")
    run.add_argument("--prior", action="store_true", help="predict with the atlas prior instead")
    run.add_argument("--manifest", help="manifest.json of the prepared data set")
    run.add_argument("--splits", help="splits.json")
    run.add_argument("--fold", type=NATURAL, default=0)
    run.add_argument(
        "--subset", choices=("test", "validation", "train", "held_out"), default="test"
    )
    run.add_argument(
        "--ahead", type=Path, metavar="DIR", help="take masks that the training's job kept here"
    )
    new = parser.add_argument_group("new scans (a configuration's section `predict` applies, too)")
    add_pixels(new, "as for the training pictures")
    new.add_argument("--probabilities", action="store_true", help="also write probabilities")
    new.add_argument("--overlay", action="store_true", help="also write overlays/*.png")
    new.add_argument("--chosen", metavar="FILE", help="chosen.json next to a study's predictions")
    new.add_argument("--threshold", type=real, help="threshold of sigmoid outputs")
    new.add_argument("--flip-axes", type=AXIS, nargs="*", metavar="AXIS", help="test-time flips")
    new.add_argument("--patch", type=POSITIVE, nargs="+", metavar="VOXELS", help="tile size")
    new.add_argument("--overlap", type=real, help="share by which tiles overlap")
    new.add_argument(
        "--memory-gb", type=real, help="process an image whole where it needs less memory than this"
    )
    new.add_argument(
        "--largest-component",
        action="store_true",
        default=None,
        help="keep only the largest component of each label",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the step."""
    from lunet.devices import claimed_gpu

    _require_inputs(arguments)
    if arguments.ahead is not None and _was_made_ahead(arguments):
        return 0
    with claimed_gpu("cpu" if arguments.prior else _settings(arguments).device):
        return _predict(arguments)


def _was_made_ahead(arguments: argparse.Namespace) -> bool:
    """Whether the job of the training has made this prediction, which is then in ``--out``."""
    from lunet.commands.arguments import read_settings
    from lunet.inference.ahead import Prediction, take

    wanted = Prediction(
        read_settings(arguments, "predict"),
        arguments.code,
        weights=Path(arguments.weights[0]),
        manifest=Path(arguments.manifest),
        splits=Path(arguments.splits),
        fold=arguments.fold,
        work=arguments.ahead,
    )
    return take(wanted, arguments.out, log=print)


def _predict(arguments: argparse.Namespace) -> int:
    if _is_of_scans(arguments):
        return _run_scans(arguments)
    return _run_prior(arguments) if arguments.prior else _run_study(arguments)


def _is_of_scans(arguments: argparse.Namespace) -> bool:
    """Whether files are segmented, and not the cases of a study's fold."""
    return not arguments.prior and arguments.manifest is None and arguments.ahead is None


def _require_inputs(arguments: argparse.Namespace) -> None:
    if not arguments.prior and not arguments.weights:
        raise ConfigError(
            where="--weights", found="missing", expected="a trained network is needed (or --prior)"
        )
    for name in () if _is_of_scans(arguments) else ("manifest", "splits"):
        if getattr(arguments, name) is None:
            raise ConfigError(
                where=f"--{name}", found="missing", expected="needed to segment the cases of a fold"
            )


def _run_prior(arguments: argparse.Namespace) -> int:
    from lunet.inference.prior import predict_prior

    predict_prior(arguments.manifest, arguments.splits, fold=arguments.fold, out=arguments.out)
    return 0


def _run_study(arguments: argparse.Namespace) -> int:
    from lunet.commands.arguments import read_settings
    from lunet.inference.predict_run import predict_run

    if len(arguments.weights) != 1:
        raise ConfigError(
            where="--weights", found=f"{len(arguments.weights)} given", expected="a run has one"
        )
    is_planned = arguments.settings is not None or arguments.preset is not None
    sections = read_settings(arguments, "predict") if is_planned else {}
    predict_run(
        arguments.weights[0],
        arguments.manifest,
        arguments.splits,
        fold=arguments.fold,
        out=arguments.out,
        settings=_settings(arguments),
        subset=arguments.subset,
        network=network_of(arguments, sections.get("model", {})),
    )
    return 0


def _run_scans(arguments: argparse.Namespace) -> int:
    from lunet.inference.load import load_model, networks_in
    from lunet.inference.predict import common_description
    from lunet.inference.predict_files import find_inputs, predict_scans
    from lunet.training.compute.device import choose_device

    weights, rest = _split(arguments.weights)
    words = [*rest, *arguments.inputs]
    if not words:
        raise ConfigError(
            where="INPUT", found="missing", expected="name images or folders of images"
        )
    settings = _settings(arguments)
    device = choose_device(settings.device, key="--device")
    networks = [network for word in weights for network in networks_in(word)]
    if len(networks) > len(weights):
        named = ", ".join(map(str, networks))
        print(f"averages {len(networks)} networks: {named}", file=sys.stderr)
    models = [load_model(path, network=arguments.network).to(device) for path in networks]
    inputs = find_inputs(words, channels=len(common_description(models).task.channels))
    failures = predict_scans(
        models,
        inputs,
        arguments.out,
        settings=settings,
        with_probabilities=arguments.probabilities,
        with_overlay=arguments.overlay,
        pixel_mm=pixels_of(arguments),
        log=lambda line: print(line, file=sys.stderr),
    )
    if failures:
        print(f"{len(failures)} of {len(inputs)} image(s) failed:", file=sys.stderr)
        for line in failures:
            print(f"  {line}", file=sys.stderr)
    return 1 if failures else 0


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Weights and inputs of ``--weights W [W ...] INPUT ...``: the first word is always weights."""

    def is_network(word: str) -> bool:
        path = Path(word)
        names = ("weights.safetensors", "model.onnx", "seed-*/weights.safetensors")
        return path.suffix in (".safetensors", ".onnx") or any(any(path.glob(n)) for n in names)

    others = [word for word in words[1:] if not is_network(word)]
    return [word for word in words if word not in others], others


def _settings(arguments: argparse.Namespace) -> Any:
    """The section ``predict``, from a rule, a configuration or the defaults, with the options."""
    from lunet.commands.arguments import read_settings, read_study
    from lunet.inference.settings import PredictSettings
    from lunet.settings import build_settings, replace

    base = PredictSettings()
    if arguments.settings is not None:
        section = read_settings(arguments, "predict").get("predict", {})
        base = build_settings(PredictSettings, section, "predict")
    elif arguments.config is not None and arguments.preset is not None:
        base = build_settings(
            PredictSettings, read_settings(arguments, "predict")["predict"], "predict"
        )
    elif arguments.config is not None or arguments.changes:
        base = read_study(arguments).config.predict
    names = (
        "device",
        "threshold",
        "flip_axes",
        "patch",
        "overlap",
        "memory_gb",
        "largest_component",
    )
    given = {name: getattr(arguments, name) for name in names}
    if arguments.chosen is not None:
        base = replace(base, _chosen(arguments.chosen), str(arguments.chosen))
    return replace(base, {k: v for k, v in given.items() if v is not None}, "predict")


def _chosen(path: str) -> dict[str, Any]:
    """What ``predict.choose`` selected on validation cases, read from ``chosen.json``."""
    from lunet.inference.postprocess_search import CHOSEN
    from lunet.reading import read_object

    content = read_object(path)
    if not set(CHOSEN) <= set(content):
        expected = f"a study's chosen.json has {', '.join(CHOSEN)}"
        raise ConfigError(
            where="--chosen", found=f"{path} records no such selection", expected=expected
        )
    return {name: content[name] for name in CHOSEN}
