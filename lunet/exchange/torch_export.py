"""Exports a network as an ``ExportedProgram`` (``.pt2``) with torch.export, checked against torch.

Nothing here reads a ``.pt2`` from elsewhere: ``torch.export.load`` falls back on unpickling its
sample inputs, which can run code. ``lunet predict`` reads safetensors and ONNX.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lunet.errors import LunetError
from lunet.files import atomic, canonical_json
from lunet.inference.onnx import Floats, compare_with_torch, quiet

_SMALL = 16
DESCRIPTION = "lunet.json"
"""Extra file in the ``.pt2``: task, preprocessing and network."""


@dataclass(frozen=True)
class Sizes:
    """Spatial sizes that an exported network accepts: ``least`` plus multiples of ``step``."""

    least: tuple[int, ...]
    step: tuple[int, ...]

    def example(self) -> tuple[int, ...]:
        """Legal sizes that all differ: torch.export would make equal ones depend on each other."""
        pairs = enumerate(zip(self.least, self.step, strict=True), start=1)
        return tuple(least + axis * step for axis, (least, step) in pairs)

    def draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        """Random legal sizes, up to 32 voxels or two steps above ``least``."""
        pairs = zip(self.least, self.step, strict=True)
        return tuple(least + step * int(rng.integers(max(3, 33 // step))) for least, step in pairs)

    def __str__(self) -> str:
        least = " x ".join(map(str, self.least))
        if max(self.step) == 1:
            return f"any size from {least}"
        return f"multiples of {' x '.join(map(str, self.step))} from {least}"


@dataclass(frozen=True)
class Exported:
    """The sizes that the exported file accepts, and its comparisons with torch."""

    sizes: Sizes
    checks: list[dict[str, Any]]


def export_program(
    model: nn.Module,
    path: str | Path,
    *,
    channels: int,
    ndim: int,
    description: dict[str, Any] | None = None,
    seed: int = 0,
) -> Exported:
    """Write a network as ``.pt2`` with free batch and spatial sizes, atomically.

    Any size above 16 voxels (or the network's multiple) is tried first, then any above twice that,
    then only multiples. The saved file is loaded and compared with torch on five random inputs.

    Parameters
    ----------
    model
        Network on the CPU; it is exported in evaluation mode.
    channels, ndim
        Channels of its input and number of its spatial axes.
    description
        Plain values, stored as the extra file ``lunet.json``.

    Raises
    ------
    LunetError
        If torch.export cannot express the network with free sizes.
    """
    reasons = []
    for sizes in _candidates(model, ndim):
        try:
            with atomic(path) as part, quiet():
                _save(model.eval(), part, (2, channels, *sizes.example()), description)
                checks = _check(model, part, sizes, channels, seed)
        except Exception as error:  # torch.export's errors have no common base
            reasons.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.160}")
        else:
            return Exported(sizes, checks)
    raise LunetError(
        where=path,
        found=f"torch.export cannot express {type(model).__name__} with free sizes ({reasons[-1]})",
        expected="",
        action="Export it without --pt2",
    )


def _candidates(model: nn.Module, ndim: int) -> Iterator[Sizes]:
    step: tuple[int, ...] = tuple(getattr(model, "multiple", (1,) * ndim))
    # networks pad smaller images, and torch.export keeps only the branch that its example took
    unit = tuple(n * math.ceil(_SMALL / n) for n in step)
    yield Sizes(tuple(n + 1 for n in unit), (1,) * ndim)
    yield Sizes(tuple(2 * n + 1 for n in unit), (1,) * ndim)
    if max(step) > 1:
        yield Sizes(tuple(2 * n for n in unit), step)


def _save(
    model: nn.Module, path: Path, shape: tuple[int, ...], description: dict[str, Any] | None
) -> None:
    free = dict.fromkeys((0, *range(2, len(shape))), torch.export.Dim.DYNAMIC)
    with torch.no_grad():
        program = torch.export.export(model, (torch.zeros(shape),), dynamic_shapes=(free,))
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # it names lines and folders of the source code
    extra = {} if description is None else {DESCRIPTION: canonical_json(description)}
    torch.export.save(program, path, extra_files=extra)


def _check(
    model: nn.Module, path: Path, sizes: Sizes, channels: int, seed: int
) -> list[dict[str, Any]]:
    """Compare the file with torch; loading it is safe because this process has just written it."""
    loaded = torch.export.load(io.BytesIO(path.read_bytes())).module()
    draw = np.random.default_rng(seed)
    shapes = [(int(draw.integers(1, 4)), channels, *sizes.draw(draw)) for _ in range(5)]

    def run(x: Floats) -> Floats:
        with torch.no_grad():
            found: Floats = loaded(torch.from_numpy(x)).numpy()
        return found

    return compare_with_torch(run, model, shapes, where=path, draw=draw)
