"""Measures the network that nnU-Net or MIST plans for a data set, like the study's networks."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from lunet.data.dataset_json import LISTING
from lunet.efficiency.run import OWN_CPU, summarise_latencies
from lunet.efficiency.settings import EfficiencySettings
from lunet.exchange.nnunet_export import DATASET
from lunet.exchange.rival_process import require_tool, run_script
from lunet.exchange.rival_settings import VARIANTS
from lunet.files import write_json
from lunet.provenance import cpu_model
from lunet.reading import read_object
from lunet.settings import plain

SCRIPT = "rival_cost.py"


def measure_rival(
    network: str,
    settings: EfficiencySettings,
    *,
    name: str,
    python: str,
    plan: Path,
    out: Path,
) -> dict[str, Any]:
    """Measure parameters, MACs, memory and latency (batch 1, eager fp32) in fresh processes.

    The input has the size of the study's measurements, rounded up to what its strides divide.
    What needs the study's own code is left out: other engines, the throughput, a training step.

    Parameters
    ----------
    network
        A key of :data:`lunet.exchange.rival_settings.VARIANTS`.
    settings
        Size, device, threads, repeats, processes.
    name
        Name of the row.
    python
        Interpreter of the tool's environment.
    plan
        Folder that :func:`lunet.exchange.rival.plan_rival` wrote.
    out
        File to write.

    Returns
    -------
    The content of the file, in the form of an ``efficiency.json``.

    Raises
    ------
    ConfigError
        If the tool is not there.
    LunetError
        If the tool fails.
    """
    variant = VARIANTS[network]
    version = require_tool(variant.tool, python, "--python")
    listing = read_object(plan / DATASET / LISTING)
    kept = ("size", "device", "threads", "warmups", "repeats", "budget_s")
    job = {key: value for key, value in plain(settings).items() if key in kept} | {
        "package": variant.tool.package,
        "dataset": DATASET,
        "plans": variant.plans,
        "configuration": variant.configuration,
        "channels": len(listing["channel_names"]),
    }
    folders = {"raw": plan, "preprocessed": plan, "results": plan}
    results = []
    for _ in range(settings.processes):
        output = run_script(
            SCRIPT, job, python=python, folders=folders, threads=settings.threads, capture=True
        )
        results.append(json.loads(output.strip().splitlines()[-1]))
    about = f"{variant.tool.title} ({version}), {network}"
    content = _merged(results) | {"preset": name, "network": about}
    write_json(out, content)
    return content


def _merged(results: list[dict[str, Any]]) -> dict[str, Any]:
    """One result of several processes."""
    latency = summarise_latencies([result["series"] for result in results])
    load = max(result["device"]["load"] for result in results)
    share = latency["cpu_share"]
    kept = ("parameters", "macs", "size", "peak_measured_bytes")
    content = {key: results[0][key] for key in kept}
    about = {"cpu": cpu_model(), "cpus": os.cpu_count(), "load": load}
    return content | {
        "flops": 2 * content["macs"],
        "latency": [{"engine": "eager", "precision": "fp32", "batch": 1} | latency],
        "device": results[0]["device"] | about,
        "busy": (share or 1.0) < OWN_CPU or load > (os.cpu_count() or math.inf),
    }
