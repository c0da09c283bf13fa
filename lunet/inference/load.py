"""Loads a trained network from a run, a release folder, a safetensors file or an ONNX file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from lunet.errors import DataError
from lunet.inference.description import build_described, description_from_dict
from lunet.inference.onnx import load_onnx
from lunet.training.weights import load_weights

_MOST_NAMED = 5


def load_model(source: str | Path, *, network: str | Path | None = None) -> nn.Module:
    """A trained network in evaluation mode, on the CPU.

    Parameters
    ----------
    source
        A run's folder (or the folder of its fold, if that has one seed), a release folder (`lunet
        export`), a ``.safetensors`` file or an ``.onnx`` file (needs onnxruntime).
    network
        Python file of the network's class, if it is not in this package. The code in this file is
        run; code that a file of weights names is not run without it.

    Returns
    -------
    Network from (B, C, \\*spatial) float32 to logits (B, K, \\*spatial), whose attribute ``lunet``
    is its :class:`lunet.inference.description.Description`.

    Raises
    ------
    DataError
        If there is no such file, it is damaged, or it does not describe its network.
    """
    path = find_weights(source)
    if path.suffix == ".onnx":
        return load_onnx(path, network=network)
    state, metadata = load_weights(path)
    described = description_from_dict(metadata, where=path)
    with torch.device("meta"):  # a damaged description may describe a huge network
        _check_fit(build_described(described, where=path, network=network), state, path)
    model = build_described(described, where=path, network=network)
    _load_state(model, state, path)
    model.lunet = described  # type: ignore[assignment]
    return model.eval()


def find_weights(source: str | Path) -> Path:
    """The weights file of a run or a release folder; a file is returned as it is.

    Raises
    ------
    DataError
        If there is none.
    """
    path = Path(source)
    if path.is_dir():
        return _weights_in(path)
    if not path.is_file():
        raise DataError(
            where=path,
            found="the file is missing" if path.suffix else "does not exist",
            expected="weights of a trained network are needed",
        )
    return path


def networks_in(source: str | Path) -> list[Path]:
    """The networks that a word names: all seeds of a fold's folder, otherwise the word itself."""
    return [path.parent for path in sorted(Path(source).glob("seed-*/weights.safetensors"))] or [
        Path(source)
    ]


def _weights_in(folder: Path) -> Path:
    for name in ("weights.safetensors", "model.onnx"):
        if (folder / name).is_file():
            return folder / name
    below = [path.parent for path in sorted(folder.rglob("weights.safetensors"))]
    if len(below) == 1 and below[0].parent == folder:
        return below[0] / "weights.safetensors"
    named = ", ".join(path.relative_to(folder).as_posix() for path in below[:_MOST_NAMED])
    more = f" and {len(below) - _MOST_NAMED} more" if len(below) > _MOST_NAMED else ""
    raise DataError(
        where=folder,
        found="holds neither weights.safetensors nor model.onnx",
        expected="a run is needed",
        action=f"Name one of the runs below it: {named}{more}" if below else "",
    )


def _check_fit(twin: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in twin.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in [*own, *given]:
        if own.get(name) != given.get(name):
            found = f"{name} is {given.get(name, 'missing')}, not {own.get(name, 'wanted')}"
            raise DataError(
                where=path,
                found=f"does not fit its own description ({found})",
                expected="matching weights are expected",
            )


def _load_state(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    for name, own in model.state_dict().items():
        found = state[name].dtype if name in state else own.dtype
        if found != own.dtype:  # PyTorch would convert the values silently
            expected = f"the network has {own.dtype}"
            raise DataError(
                where=path,
                found=f"{name} is stored as {found}",
                expected=expected,
                action="Get the file again",
            )
    try:
        with torch.no_grad():
            model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise DataError(
            where=path,
            found=f"does not fit its own description ({first})",
            expected="matching weights are expected",
        ) from error
