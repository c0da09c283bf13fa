"""A network in another form, held to torch on random inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lunet.errors import LunetError

TOLERANCE = 1e-4  # largest difference of logits, relative to the largest logit
Floats = NDArray[np.float32]


def compare(
    run: Callable[[Floats], Floats],
    model: nn.Module,
    shapes: Iterable[tuple[int, ...]],
    *,
    where: str | Path,
    draw: np.random.Generator,
) -> list[dict[str, Any]]:
    """Compare ``run`` with ``model`` on a random input of each shape (batch, channel, \\*spatial).

    Returns
    -------
    ``{"shape": [...], "difference": d}`` of each; d relative to the largest logit.

    Raises
    ------
    LunetError
        If a difference exceeds 1e-4 or a shape differs; it names the file ``where``.
    """
    rows = []
    for shape in shapes:
        x = draw.standard_normal(shape, np.float32)
        given = run(x)
        with torch.no_grad():
            wanted = model.eval()(torch.from_numpy(x)).numpy()
        same = given.shape == wanted.shape
        error = float(np.abs(given - wanted).max() / np.abs(wanted).max()) if same else np.inf
        if error > TOLERANCE:
            found = f"differs from torch by {error:.2g} (relative) at shape {shape}"
            raise LunetError(where, found, f"at most {TOLERANCE:g} is allowed")
        rows.append({"shape": list(shape), "difference": error})
    return rows
