"""The engine's choice: device, autocast type, memory format, compilation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from lunet.training.arithmetic import Arithmetic, plain_arithmetic
from lunet.training.recipe import Recipe


def choose_arithmetic(
    recipe: Recipe,
    make: Callable[[], nn.Module],
    image: Tensor,
    *,
    cache: Path | None,
    device: torch.device,
    say: Callable[[str], None],
) -> Arithmetic:
    """What the recipe fixes; plain float32 where it says ``auto``."""
    return plain_arithmetic(recipe.engine, device)
