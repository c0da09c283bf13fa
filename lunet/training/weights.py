"""Weights files: safetensors whose header describes the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lunet.errors import DataError
from lunet.files import canonical_json, write_bytes
from lunet.reading import parse_json, typed

_KEY = "lunet"


def save_weights(
    path: str | Path, model: nn.Module | Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write the parameters and buffers of a network atomically.

    Parameters
    ----------
    path
        The ``.safetensors`` file.
    model
        A network or its state, name -> tensor (any device, layout and dtype).
    metadata
        Plain JSON values; stored as canonical JSON under the key ``lunet`` of the header.
    """
    state = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {name: _stored(tensor) for name, tensor in state.items()}
    # through bytes: the library's own files are private to the user who writes them
    write_bytes(path, save(tensors, metadata={_KEY: canonical_json(dict(metadata))}))


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the state (on the CPU) and the metadata of a weights file.

    Raises
    ------
    DataError
        If the file is missing, is not a safetensors file, was not written by lunet, or a tensor
        holds NaN or infinite values.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise DataError(
            where=path, found="the file is missing", expected="a weights file is needed"
        ) from error
    except (SafetensorError, OSError) as error:
        expected = "a weights.safetensors of a training is needed"
        raise DataError(
            where=path, found=f"is not a safetensors file ({error})", expected=expected
        ) from error
    if _KEY not in header:
        raise DataError(
            where=path,
            found="its header does not describe the network",
            expected="a weights file written by `lunet train` is needed",
            action="`lunet import-weights` converts weights of other projects",
        )
    require_finite(state.items(), path)
    return state, typed(parse_json(header[_KEY], path), dict[str, Any], path)


def require_finite(tensors: Iterable[tuple[str, Tensor]], where: object) -> None:
    """Refuse weights that are not finite: a network with them silently returns empty masks.

    Raises
    ------
    DataError
        If there are any; the message names the first tensor with NaN or infinite values.
    """
    for name, tensor in tensors:
        if not torch.isfinite(tensor).all():
            broken = int((~torch.isfinite(tensor)).sum())
            raise DataError(
                where=where,
                found=f"{broken} of {tensor.numel()} values of {name} are NaN or infinite",
                expected="finite weights are needed",
                action="Get the file from its source again, or train again",
            )


def initialise(model: nn.Module, path: str | Path) -> list[str]:
    """Start ``model`` from the weights of another training (fine-tuning).

    Tensors with equal names and shapes are copied; others, such as a head for other labels, keep
    their initial values.

    Returns
    -------
    Names of the tensors that were not copied.

    Raises
    ------
    DataError
        If the file cannot be read, or no tensor fits.
    """
    given, _ = load_weights(path)
    own = model.state_dict()
    fitting = {n: t for n, t in given.items() if n in own and own[n].shape == t.shape}
    if not fitting:
        raise DataError(
            where=path,
            found="no tensor fits the network by name and shape",
            expected=f"tensors such as {next(iter(own))} are expected",
            action="Choose the preset with which these weights were trained",
        )
    model.load_state_dict(fitting, strict=False)
    return [name for name in own if name not in fitting]


def _stored(tensor: Tensor) -> Tensor:
    """A copy in standard layout: the format supports neither strides nor shared storage."""
    return tensor.detach().to("cpu", copy=True).contiguous(memory_format=torch.contiguous_format)
