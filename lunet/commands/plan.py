"""Propose spacing, intensities, patch and batch from a data set's fingerprint, with reasons.

A .yaml plan is a part of a configuration, made to be edited; a .json plan holds the same values,
the reasons and the fingerprint.

Example: lunet plan data/Task09_Spleen --preset lunet_small_4f --memory-gb 10 --out plan.yaml
"""

from __future__ import annotations

import argparse

from lunet.commands.arguments import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``lunet plan``."""
    parser.add_argument("raw", metavar="RAW", help="folder of the data set")
    parser.add_argument("--out", required=True, metavar="FILE", help="plan, .yaml or .json")
    parser.add_argument("--memory-gb", type=float, help="memory of a training, GiB (free: 80 %%)")
    parser.add_argument("--largest-batch", type=int, default=16, help="largest batch proposed")
    add_settings(parser)


def run(arguments: argparse.Namespace) -> None:
    """Read the data set, count the network's cost, write the plan."""
    from lunet.commands.raw import open_raw
    from lunet.data.fingerprint import fingerprint_of
    from lunet.data.plan import plan_dict, plan_yaml, propose
    from lunet.files import write_json, write_text
    from lunet.inference.cost import network_cost, usable_memory
    from lunet.study.networks import build_model

    preset, arguments.preset = arguments.preset or "lunet_small_4f", None
    dataset = open_raw(arguments, "audit")
    task, fingerprint = dataset.task, fingerprint_of(dataset, log=print)
    model = build_model(
        preset,
        in_channels=len(task.channels),
        out_channels=task.out_channels,
        ndim=fingerprint.shapes.shape[1],
    )
    cost = network_cost(model, channels=len(task.channels), ndim=fingerprint.shapes.shape[1])
    memory = usable_memory(arguments.memory_gb)
    choices = propose(fingerprint, cost, memory=memory, largest_batch=arguments.largest_batch)
    if str(arguments.out).endswith(".json"):
        write_json(arguments.out, plan_dict(choices, fingerprint))
    else:
        write_text(arguments.out, plan_yaml(choices, fingerprint))
    for choice in choices:
        print(f"{choice.key}: {choice.value} ({choice.reason})")
