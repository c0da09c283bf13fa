"""Settings of channel pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.errors import ConfigError
from lunet.settings import LARGEST_SEED, setting

PRUNING = ("stamp", "random_at_stamp_layer", "largest_layer")
"""Strategies that remove channels; the others are controls."""
CONTROLS = ("scratch", "flat")
"""Trainings from scratch: with the final widths of ``stamp``, and of a LUNet of equal size."""


@dataclass(frozen=True)
class PruneSettings:
    """How channels are removed (STAMP, Medical Image Analysis 2022) and when to stop.

    What the papers leave open (channels per step, recovery epochs, iterations, dropout in the
    random rules) is a setting here. For ties, see :mod:`lunet.pruning.selection`.
    """

    enabled: bool = setting(
        False, doc="part of the study and its report; otherwise only the target `pruning` runs it"
    )
    preset: str = setting("unet_small_4f", doc="preset of the network to prune")
    strategies: tuple[
        Literal["stamp", "random_at_stamp_layer", "largest_layer", "scratch", "flat"], ...
    ] = setting((*PRUNING, *CONTROLS), doc="selection rules and controls")
    importance: Literal["taylor", "l1", "l2", "l1_std", "random"] = setting(
        "l2", doc="score of a channel"
    )
    fixed: tuple[str, ...] = setting(
        ("up", "head"), doc="blocks, or kinds of blocks, that keep all channels"
    )
    least_width: int = setting(1, doc="fewest channels that each layer keeps", minimum=1)
    channels_per_step: int = setting(4, doc="channels removed per iteration", minimum=1)
    first_epochs: int = setting(1, doc="epochs before the first iteration", minimum=1)
    recovery_epochs: int = setting(5, doc="epochs after each iteration", minimum=1)
    optimiser_state: Literal["keep", "fresh"] = setting(
        "keep", doc="moments of surviving channels after each iteration"
    )
    iterations: int = setting(20, doc="largest number of iterations", minimum=1, maximum=1_000_000)
    stop_parameters: int = setting(0, doc="stop at this many parameters; 0 is off", minimum=0)
    stop_dice_drop: float = setting(
        1.0, doc="stop when validation Dice is this much below its best", minimum=0
    )
    tolerance: float = setting(
        0.0, doc="choose the smallest network within this of the best validation Dice", minimum=0
    )
    targeted_dropout: float = setting(
        0.1, doc="largest dropout by rank; 0 is off", minimum=0, maximum=0.99
    )
    targeted_in: tuple[Literal["stamp", "random_at_stamp_layer", "largest_layer"], ...] = setting(
        PRUNING, doc="strategies with targeted dropout"
    )
    folds: tuple[int, ...] = setting((0,), doc="folds", minimum=0)
    seeds: tuple[int, ...] = setting((0,), doc="seeds", minimum=0, maximum=LARGEST_SEED)

    def __post_init__(self) -> None:
        for key in ("strategies", "folds", "seeds"):
            values = getattr(self, key)
            if not values or len(set(values)) != len(values):
                found = f"found {list(values)}"
                raise ConfigError(
                    where=f"prune.{key}", found=found, expected="at least one, and each once"
                )
