"""The costs of an external row in the form of an ``efficiency.json``; standard library only."""

from __future__ import annotations

from pathlib import Path

from lunet.evaluation.external_settings import ExternalSettings
from lunet.files import write_json


def write_cost(settings: ExternalSettings, name: str, path: str | Path) -> None:
    """Write the costs that the configuration states; a cost that it does not state is null.

    ``given`` marks them as stated, not measured. A reader has a file without costs, too, so that
    all rows have one.
    """
    cost = settings.cost
    memory = None if cost.memory_mib is None else cost.memory_mib * 2**20
    content = {
        "preset": name,
        "parameters": cost.parameters,
        "macs": cost.macs,
        "latency": [] if cost.latency_ms is None else [{"batch": 1, "p50_ms": cost.latency_ms}],
        "peak_measured_bytes": memory,
        "device": cost.device or None,
        "given": True,
        "role": settings.role,
    }
    write_json(path, content)
