"""Propose spacing, intensities, topology, patch and batch from a data set's fingerprint.

Each value has its reason. The topology (which axes are halved at which level, and the kernels)
serves networks whose arguments say `topology: planned`.

A .yaml plan is a part of a configuration and meant to be edited. A .json plan holds the same
values, the reasons and the fingerprint.

A configuration with `plan: plan.yaml` takes from that file the values that it does not set itself.
With `plan: auto` a step of the study makes the plan, for the most expensive of its networks.

Example: lunet plan data/Task09_Spleen --preset lunet_small_4f --memory-gb 10 --out plan.yaml
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lunet.commands.arguments import (
    POSITIVE,
    add_json,
    add_out,
    add_settings,
    only_json,
    print_json,
    real,
)
from lunet.errors import ConfigError

if TYPE_CHECKING:
    from lunet.data.fingerprint import Fingerprint
    from lunet.data.plan import Choice, NetworkCost
    from lunet.data.topology import Topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet plan``."""
    parser.add_argument("raw", metavar="RAW", help="folder of the data set")
    add_out(parser, "FILE", "plan, .yaml or .json", suffixes=("",))
    parser.add_argument(
        "--memory-gb",
        type=real,
        help="memory that a training may use, GiB (default: 80 %% of what is free)",
    )
    parser.add_argument(
        "--largest-batch", type=POSITIVE, help="largest batch size to propose (default: 16)"
    )
    add_json(parser)
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Propose a plan, write it, and print it with its reasons."""
    from lunet.data.plan import plan_dict, plan_yaml
    from lunet.files import write_json, write_text

    _check(arguments)
    with only_json(arguments):
        choices, fingerprint = _proposed(arguments)
    if str(arguments.out).endswith(".json"):
        write_json(arguments.out, plan_dict(choices, fingerprint))
    else:
        write_text(arguments.out, plan_yaml(choices, fingerprint))
    if arguments.json:
        print_json(plan_dict(choices, fingerprint))
        return
    for choice in choices:
        print(f"{choice.key}: {choice.value} ({choice.reason})")


def _proposed(arguments: argparse.Namespace) -> tuple[Sequence[Choice], Fingerprint]:
    """Read the data set, count the networks' cost, choose."""
    from lunet.commands.raw import open_raw, raw_sections
    from lunet.data.fingerprint import fingerprint_of
    from lunet.data.plan import propose
    from lunet.data.settings import PlanSettings
    from lunet.efficiency.step_cost import costliest, network_cost, usable_memory
    from lunet.settings import build_settings, replace

    preset, arguments.preset = arguments.preset or "lunet_small_4f", None
    sections = raw_sections(arguments, "plan") if arguments.settings is not None else {}
    names = {"memory_gb": arguments.memory_gb, "largest_batch": arguments.largest_batch}
    given = {key: value for key, value in names.items() if value is not None}
    limits = build_settings(PlanSettings, sections.get("planning") or {}, "planning")
    limits = replace(limits, given, "planning")
    dataset = open_raw(arguments, "plan" if sections else "audit")
    task, fingerprint = dataset.task, fingerprint_of(dataset, log=print)
    ndim = fingerprint.shapes.shape[1]
    networks = sections.get("models") or [_section(preset)]

    def cost_of(topology: Topology) -> NetworkCost:
        built = _models(networks, topology, task, ndim)
        return costliest([network_cost(m, channels=len(task.channels), ndim=ndim) for m in built])

    memory = usable_memory(limits.memory_gb)
    # a fold trains on only a part of the samples, and a batch cannot hold more than these
    largest = min(limits.largest_batch, max(2, fingerprint.samples // 3))
    return propose(fingerprint, cost_of, memory=memory, largest_batch=largest), fingerprint


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what is wrong before the data set is read."""
    if not str(arguments.out).endswith((".yaml", ".yml", ".json")):
        raise ConfigError(
            where="--out",
            found=f"found {arguments.out}",
            expected="a .yaml or .json file is expected",
        )
    for name, value in (
        ("--memory-gb", arguments.memory_gb),
        ("--largest-batch", arguments.largest_batch),
    ):
        if value is not None and not value > 0:
            raise ConfigError(
                where=name, found=f"found {value:g}", expected="a number above 0 is expected"
            )


def _section(preset: str) -> dict[str, Any]:
    """The section ``model`` of a preset."""
    from lunet.study.presets import find_preset

    row = find_preset(preset)
    return {"module": row.module, "name": row.network, "arguments": row.arguments}


def _models(
    sections: Sequence[Mapping[str, Any]], topology: Topology, task: Any, ndim: int
) -> list[Any]:
    """The networks of the sections, with the topology where they ask for it."""
    from lunet.models.build import build_for_task
    from lunet.study.topology import with_topology

    as_stored = dataclasses.replace(task, dimensions=ndim)
    # a network of slices is measured on whole volumes, which its topology does not fit
    planned = dataclasses.asdict(topology) if task.dimensions == ndim else {}
    return [
        build_for_task(
            {**section, "arguments": with_topology(section["arguments"], planned)}, as_stored
        )
        for section in sections
    ]
