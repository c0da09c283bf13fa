"""Let nnU-Net v2 or MIST train a rival, in an environment of its own: export, plan, train, cost.

The rules of a study call it for each row of the section `rivals`. The interpreter is that of the
configuration; --python names another one.

    lunet rival export --manifest work/x/prepared/manifest.json --splits results/x/splits.json \\
        --out raw
    lunet rival plan --config study.yaml --preset nnunet --raw raw --out preprocessed
    lunet rival train --config study.yaml --preset nnunet --fold 0 --plan preprocessed \\
        --work training --out predictions
    lunet rival cost --config study.yaml --preset nnunet --plan preprocessed --out cost.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lunet.commands.arguments import NATURAL, add_out, add_settings, read_settings
from lunet.errors import ConfigError, nearest

NEEDED = {
    "export": ("manifest", "splits"),
    "plan": ("raw",),
    "train": ("plan_folder", "work"),
    "cost": ("plan_folder",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this step."""
    parser.add_argument("part", choices=tuple(NEEDED), help="what to do")
    add_settings(parser)
    add_out(parser, "PATH", "folder to write; for `cost` the file")
    parser.add_argument("--python", help="interpreter of the environment of nnU-Net or MIST")
    parser.add_argument("--manifest", help="manifest.json of the prepared data set (export)")
    parser.add_argument("--splits", help="splits.json of the study (export)")
    parser.add_argument("--raw", type=Path, help="folder that `export` wrote (plan)")
    text = "folder that `plan` wrote (train, cost)"
    parser.add_argument("--plan", type=Path, dest="plan_folder", metavar="DIR", help=text)
    parser.add_argument("--fold", type=NATURAL, default=0, help="fold to train (default 0)")
    parser.add_argument("--work", type=Path, help="folder of its checkpoints (train)")


def run(arguments: argparse.Namespace) -> None:
    """Run the step."""
    for name in NEEDED[arguments.part]:
        if getattr(arguments, name) is None:
            option = f"--{name.removesuffix('_folder')}"
            raise ConfigError(where=option, found="missing", expected=f"{arguments.part} needs it")
    if arguments.part == "export":
        from lunet.exchange.nnunet_export import export_dataset

        export_dataset(arguments.manifest, arguments.splits, arguments.out)
        return
    if arguments.preset is None:
        raise ConfigError(where="--preset", found="missing", expected="the name of the rival")
    if arguments.settings is None and arguments.preset not in _rivals(arguments):
        known = _rivals(arguments)
        raise ConfigError(
            where=f"rivals.{arguments.preset}",
            found="is not configured",
            expected=nearest(arguments.preset, known) if known else "the configuration has none",
        )
    sections = read_settings(arguments, f"rival_{arguments.part}")
    python = _python(arguments)
    if arguments.part == "plan":
        from lunet.exchange.rival import plan_rival

        network = sections["rival_network"]
        plan_rival(network, python=python, raw=arguments.raw, out=arguments.out)
    elif arguments.part == "train":
        _train(arguments, sections, python)
    else:
        _measure(arguments, sections, python)


def _train(arguments: argparse.Namespace, sections: dict[str, Any], python: str) -> None:
    from lunet.devices import claimed_gpu
    from lunet.exchange.rival import train_rival
    from lunet.exchange.rival_settings import RivalSettings
    from lunet.settings import build_settings

    section = sections["rival"] | {"python": python}
    with claimed_gpu("auto"):
        train_rival(
            build_settings(RivalSettings, section, f"rivals.{arguments.preset}"),
            fold=arguments.fold,
            plan=arguments.plan_folder,
            work=arguments.work,
            out=arguments.out,
            code=arguments.code,
        )


def _measure(arguments: argparse.Namespace, sections: dict[str, Any], python: str) -> None:
    from lunet.devices import claimed_gpu
    from lunet.efficiency.settings import EfficiencySettings
    from lunet.exchange.rival_cost import measure_rival
    from lunet.own_files import claim_files
    from lunet.settings import build_settings

    settings = build_settings(EfficiencySettings, sections["efficiency"], "efficiency")
    with claimed_gpu(settings.device), claim_files([arguments.out], step="rival"):
        found = measure_rival(
            sections["rival_network"],
            settings,
            name=arguments.preset,
            python=python,
            plan=arguments.plan_folder,
            out=arguments.out,
        )
    size = " x ".join(map(str, found["size"]))
    p50 = found["latency"][0]["p50_ms"]
    print(
        f"{arguments.preset} at {size}: parameters {found['parameters']:,}; "
        f"{found['macs'] / 1e9:.4g} GMAC; p50 {p50:.4g} ms"
    )


def _rivals(arguments: argparse.Namespace) -> dict[str, Any]:
    """The section ``rivals`` of the configuration that a person names."""
    from lunet.study.config import read_mapping

    return (read_mapping(arguments.config) if arguments.config else {}).get("rivals") or {}


def _python(arguments: argparse.Namespace) -> str:
    """The interpreter: as given, else as the workflow or the configuration names it."""
    from lunet.study.rivals import handed_over_python

    name = arguments.preset
    own = _rivals(arguments).get(name) or {}
    python = arguments.python or handed_over_python(name) or own.get("python")
    if python is None:
        raise ConfigError(
            where="--python",
            found="missing",
            expected=f"neither it nor rivals.{name}.python names its interpreter",
        )
    return str(python)
