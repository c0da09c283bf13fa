"""Published weights of other code, made into weights that every step here takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lunet.errors import DataError
from lunet.files import sha256
from lunet.inference.description import build_described, description_from_dict
from lunet.models.carry import carry_over, read_entries
from lunet.training.weights import save_weights

WEIGHTS = "weights.safetensors"


def import_weights(
    source: str | Path, sections: Mapping[str, Any], out: str | Path, *, key: str | None = None
) -> list[tuple[str, str]]:
    """Carry the tensors of ``source`` over by position and write ``out/weights.safetensors``.

    Parameters
    ----------
    source
        A ``.safetensors`` file or a file of ``torch.save`` with a state in it; it is read without
        unpickling objects, so nothing in it is executed.
    sections
        ``task``, ``preprocess`` and ``model`` as plain values: what the network was made for. They
        are believed: the file itself does not tell them.
    out
        New folder, as that of a run.
    key
        Where the state lies in a checkpoint of several.

    Returns
    -------
    (name there, name here) of each tensor.

    Raises
    ------
    DataError
        If the file is unreadable, does not fit the network in number or shape of its tensors, or
        ``out`` holds weights already.
    """
    place = Path(out) / WEIGHTS
    if place.exists():
        raise DataError(place, "exists already", "a new folder is needed", "Name another one")
    described = description_from_dict(dict(sections), where=source)
    network = build_described(described)
    pairs = carry_over(network, read_entries(source, key=key))
    origin = {"imported": {"file": Path(source).name, "sha256": sha256(source)}}
    save_weights(place, network, described.as_dict() | origin)
    return pairs
