"""Imports the weights of the same network in other code, by position instead of by name.

The networks here register their parameters and buffers in the order of the published ones, so the
k-th floating tensor of a published state belongs to the k-th of ours.
"""

from __future__ import annotations

import errno
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lunet.errors import DataError, nearest
from lunet.files import sha256
from lunet.inference.description import build_described, description_from_dict
from lunet.own_files import claim
from lunet.reading import parse_json, typed
from lunet.training.weights import require_finite, save_weights

Entries = list[tuple[str, Tensor]]
"""Names and tensors of a state, in the order of the state."""


_CLEAR = (pickle.UnpicklingError, RuntimeError)
_NO_STATE = (*_CLEAR, EOFError, LookupError, ValueError, TypeError, AttributeError, AssertionError)
"""Errors from reading arbitrary bytes as a pickle; those in ``_CLEAR`` have a clear message."""


def read_entries(path: str | Path, *, key: str | None = None) -> Entries:
    """Read the names and tensors of a weights file in their order; no code in it is executed.

    Parameters
    ----------
    path
        A ``.safetensors`` file, or a file of ``torch.save`` (read with ``weights_only=True``) that
        holds a state or a checkpoint with a state inside.
    key
        Key of the state in the checkpoint, if it holds several (for example ``model`` and ``ema``).

    Raises
    ------
    DataError
        If the file is missing, is not of these kinds, or does not hold exactly one state.

    The safetensors format sorts its tensors; a file of it keeps a position only in its metadata,
    as a JSON list of names under ``order``. Without that, the order of the file is returned, which
    fits a network only by name.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            where=path, found="the file is missing", expected="a weights file is needed"
        )
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (*_NO_STATE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # an error of the disk or the system, not of the content
        reason = (str(error).splitlines() or [""])[0]
        reason = reason if isinstance(error, _CLEAR) else f"{type(error).__name__} {reason}".strip()
        action = "Save network.state_dict() instead of the whole network"
        raise DataError(
            where=path,
            found=f"not a plain state ({reason})",
            expected="tensors only",
            action=action,
        ) from error
    return list(_find_state(path, content, key).items())


def _read_safetensors(path: Path) -> Entries:
    try:
        with safe_open(path, framework="pt") as file:
            order = (file.metadata() or {}).get("order")
            names = list(file.keys()) if order is None else _order(order, path)
            return [(name, file.get_tensor(name)) for name in names]
    except SafetensorError as error:
        raise DataError(
            where=path, found=f"unreadable ({error})", expected="a safetensors file is needed"
        ) from error


def _order(text: str, path: Path) -> list[str]:
    return typed(parse_json(text, path), list[str], f"{path}: order")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(tensor, Tensor) for tensor in value.values())
    )


def _find_state(path: Path, content: Any, key: str | None) -> Mapping[str, Tensor]:
    """The state itself, or the one inside a checkpoint."""
    if _is_state(content) and key is None:
        state: Mapping[str, Tensor] = content
        return state
    items = content.items() if isinstance(content, Mapping) else ()
    states = {str(name): value for name, value in items if _is_state(value)}
    if key is not None and key not in states:
        raise DataError(
            where=path, found=f"no state under {key!r}", expected="", action=nearest(key, states)
        )
    if key is None and len(states) != 1:
        found = f"{len(states)} states: {', '.join(states) or 'none'}"
        raise DataError(
            where=path,
            found=found,
            expected="exactly one is needed",
            action="Choose one with the key",
        )
    return states[key] if key is not None else next(iter(states.values()))


def carry_over(network: nn.Module, entries: Sequence[tuple[str, Tensor]]) -> list[tuple[str, str]]:
    """Copy ``entries`` into ``network`` by position; by name if all names agree.

    Parameters
    ----------
    network
        Receives the values in its own dtype and device; unchanged if anything does not fit.
    entries
        Names and tensors of the other state in its order: parameters and running statistics, or
        only parameters. Integer counters (batches seen) may be missing.

    Returns
    -------
    (name in ``entries``, name in ``network``) of each tensor copied.

    Raises
    ------
    DataError
        If the number of tensors, a shape or a number format differs.
    """
    pairs = _pairs(network, entries)
    for (theirs, value), (ours, target) in pairs:
        if value.is_floating_point() != target.is_floating_point():
            expected = f"{target.dtype} is needed for {ours!r}"
            raise DataError(
                where=f"weights {theirs!r}", found=f"stored as {value.dtype}", expected=expected
            )
        if value.shape != target.shape:
            raise DataError(
                where=f"weights {theirs!r}",
                found=f"shape {tuple(value.shape)}",
                expected=f"{tuple(target.shape)} is needed for {ours!r}",
                action="Choose the preset that these weights belong to",
            )
    with torch.no_grad():
        for (_, value), (_, target) in pairs:
            target.copy_(value)
    return [(theirs, ours) for (theirs, _), (ours, _) in pairs]


def _pairs(
    network: nn.Module, entries: Sequence[tuple[str, Tensor]]
) -> list[tuple[tuple[str, Tensor], tuple[str, Tensor]]]:
    state = network.state_dict()
    given = dict(entries)
    if set(given) == set(state):
        return [((name, given[name]), (name, target)) for name, target in state.items()]
    floats = [(name, tensor) for name, tensor in entries if tensor.is_floating_point()]
    ours = [(name, tensor) for name, tensor in state.items() if tensor.is_floating_point()]
    parameters = [(name, parameter.detach()) for name, parameter in network.named_parameters()]
    targets = parameters if len(floats) == len(parameters) else ours
    if len(floats) != len(targets):
        raise DataError(
            where="weights",
            found=f"{len(floats)} tensors",
            expected=f"the network has {len(ours)} ({len(parameters)} of them parameters)",
            action="Choose the preset that these weights belong to",
        )
    return list(zip(floats, targets, strict=True))


WEIGHTS = "weights.safetensors"


def import_weights(
    source: str | Path, sections: Mapping[str, Any], out: str | Path, *, key: str | None = None
) -> list[tuple[str, str]]:
    """Copy the tensors of ``source`` by position and write ``out/weights.safetensors``.

    Parameters
    ----------
    source
        A ``.safetensors`` file or a file of ``torch.save`` with a state in it; it is read without
        unpickling objects, so no code in it is executed.
    sections
        ``task``, ``preprocess`` and ``model`` as plain values: the network's description. They
        cannot be verified, because the file does not contain them.
    out
        Folder like a run's; new, empty or from an earlier import.
    key
        Key of the state in a checkpoint that holds several.

    Returns
    -------
    (name in ``source``, name in the network) of each tensor.

    Raises
    ------
    DataError
        If the file is unreadable, or does not fit the network in number or shape of its tensors.
    ConfigError
        If ``out`` holds files that no step of this package wrote.
    """
    with claim(out, [WEIGHTS], step="import-weights", inputs=[source], alone=True):
        described = description_from_dict(dict(sections), where=source)
        network = build_described(described, where=source)
        entries = read_entries(source, key=key)
        require_finite(entries, source)
        pairs = carry_over(network, entries)
        origin = {"imported": {"file": Path(source).name, "sha256": sha256(source)}}
        save_weights(Path(out) / WEIGHTS, network, described.as_dict() | origin)
    return pairs
