"""A trained network from a run, a release folder, a safetensors file or an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lunet.errors import DataError
from lunet.models.build import build
from lunet.task import Task, task_from_dict
from lunet.training.weights import load_weights


@dataclass(frozen=True)
class Description:
    """What a trained network was made for; :func:`load_model` attaches it as ``model.lunet``.

    Attributes
    ----------
    task
        Channels, labels or regions, dimensions.
    preprocess
        The ``preprocess`` section (plain values) that its training images went through.
    model
        The ``model`` section: preset, module, name, arguments.
    training
        What else the file says of its training: study, fold, seed, epoch.
    """

    task: Task
    preprocess: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; :func:`description_from_dict` is the way back."""
        head = {"task": self.task.as_dict(), "preprocess": self.preprocess, "model": self.model}
        return head | self.training


def description_from_dict(value: Any, *, where: str | Path) -> Description:
    """Rebuild a :class:`Description`; ``where`` is the file that it came from.

    Raises
    ------
    DataError
        If a section is missing.
    """
    for section in ("task", "preprocess", "model"):
        if not isinstance(value, dict) or not isinstance(value.get(section), dict):
            raise DataError(
                where,
                f"its description has no section {section!r}",
                "weights written by `lunet train` or `lunet export` are expected",
            )
    rest = {k: v for k, v in value.items() if k not in ("task", "preprocess", "model")}
    return Description(
        task_from_dict(value["task"]), dict(value["preprocess"]), dict(value["model"]), rest
    )


def load_model(source: str | Path) -> nn.Module:
    """A trained network in evaluation mode, on the CPU.

    Parameters
    ----------
    source
        A run's folder, a release folder (`lunet export`), a ``.safetensors`` file or an ``.onnx``
        file (needs onnxruntime).

    Returns
    -------
    Network from (B, C, \\*spatial) float32 to logits (B, K, \\*spatial), whose attribute ``lunet``
    is its :class:`Description`.

    Raises
    ------
    DataError
        If there is no such file, it is damaged, or it does not describe its network.
    """
    path = find_weights(source)
    if path.suffix == ".onnx":
        from lunet.inference.onnx import load_onnx

        return load_onnx(path)
    state, metadata = load_weights(path)
    described = description_from_dict(metadata, where=path)
    model = build_described(described)
    _load_state(model, state, path)
    model.lunet = described  # type: ignore[assignment]
    return model.eval()


def find_weights(source: str | Path) -> Path:
    """The weights file of a run, a release folder or itself.

    Raises
    ------
    DataError
        If there is none.
    """
    path = Path(source)
    if path.is_dir():
        for name in ("weights.safetensors", "model.onnx"):
            if (path / name).is_file():
                return path / name
        raise DataError(path, "holds neither weights.safetensors nor model.onnx", "a run is needed")
    if not path.is_file():
        raise DataError(path, "the file is missing", "weights of a trained network are needed")
    return path


def build_described(described: Description) -> nn.Module:
    """The network of a description, with fresh weights."""
    section, task = described.model, described.task
    return build(
        str(section["module"]).rpartition(".")[2],
        section["name"],
        in_channels=len(task.channels),
        out_channels=task.out_channels,
        ndim=task.dimensions,
        arguments=section.get("arguments", {}),
    )


def description_of(model: nn.Module) -> Description:
    """The description that :func:`load_model` attached.

    Raises
    ------
    DataError
        If the network carries none.
    """
    described = getattr(model, "lunet", None)
    if not isinstance(described, Description):
        raise DataError(
            type(model).__name__,
            "carries no description of task and preprocessing",
            "a network from lunet.load_model is expected",
            "Load it with lunet.load_model, or set its attribute `lunet` to a Description",
        )
    return described


def _load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        with torch.no_grad():
            model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise DataError(
            path, f"does not fit its own description ({first})", "matching weights are expected"
        ) from error
