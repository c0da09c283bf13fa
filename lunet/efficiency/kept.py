"""Measurements that are kept, so that nothing is measured twice.

A measurement depends on the network, its input, the settings and the machine, not on how long or
with which loss the network is trained. Its results are kept in a folder that is named after all
this, one file for each fresh process. So variants and studies share them, the same network has the
same costs wherever it is shown, and a measurement that was interrupted resumes at the process that
is missing.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from lunet.files import canonical_json, write_json
from lunet.provenance import cpu_model
from lunet.reading import read_object

_ABOUT = "about.json"
_PACKAGES = ("torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Kept:
    """Results by name, such as those of the fresh processes; without a folder nothing is kept."""

    folder: Path | None

    def get(self, name: str) -> dict[str, Any] | None:
        """The result of this name; None if there is none."""
        if self.folder is None or not (self.folder / f"{name}.json").is_file():
            return None
        return read_object(self.folder / f"{name}.json")

    def put(self, name: str, result: Mapping[str, Any]) -> None:
        """Keep a result."""
        if self.folder is not None:
            write_json(self.folder / f"{name}.json", result)


def kept(root: Path | None, about: Mapping[str, Any]) -> Kept:
    """The results that depend on ``about`` (plain values), below ``root``; None keeps nothing.

    What the results depend on is written beside them, for a person who looks at the folder.
    """
    if root is None:
        return Kept(None)
    folder = root / hashlib.sha256(canonical_json(about).encode()).hexdigest()[:16]
    if not (folder / _ABOUT).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _ABOUT, about)
    return Kept(folder)


def machine(device: str) -> dict[str, Any]:
    """What makes two machines differ for a measurement: processor, GPU, versions of the engines.

    ``device`` is the setting ``efficiency.device``.
    """
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "gpu": None if device == "cpu" else _gpu(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> str | None:
    """Name of the GPU that was claimed, without starting CUDA; None if there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return None
    chosen = ["-i", visible.split(",")[0]] if visible else []
    command = ["nvidia-smi", *chosen, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = answer.stdout.splitlines() if answer.returncode == 0 else []
    return names[0].strip() if names else None
