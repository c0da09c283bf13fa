"""Settings of channel pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lunet.typed import setting


@dataclass(frozen=True)
class PruneSettings:
    """How channels are removed (STAMP, Medical Image Analysis 2022) and when to stop."""

    preset: str = setting("unet_small_4f", doc="the network that is pruned")
    strategies: tuple[
        Literal["stamp", "random_at_stamp_layer", "largest_layer", "scratch", "flat"], ...
    ] = setting(
        ("stamp", "random_at_stamp_layer", "largest_layer", "scratch", "flat"),
        doc="selection rules and controls",
    )
    importance: Literal["taylor", "l1", "l2", "l1_std", "random"] = setting(
        "l2", doc="score of a channel"
    )
    channels_per_step: int = setting(4, doc="channels removed per iteration", minimum=1)
    first_epochs: int = setting(1, doc="epochs before the first iteration", minimum=1)
    recovery_epochs: int = setting(5, doc="epochs after each iteration", minimum=1)
    iterations: int = setting(20, doc="iterations at most", minimum=1)
    stop_parameters: int = setting(0, doc="stop below so many parameters; 0 is off", minimum=0)
    stop_dice_drop: float = setting(1.0, doc="stop when validation Dice fell by", minimum=0)
    targeted_dropout: float = setting(0.1, doc="largest dropout by rank; 0 is off", minimum=0)
    folds: tuple[int, ...] = setting((0,), doc="folds", minimum=0)
    seeds: tuple[int, ...] = setting((0,), doc="seeds", minimum=0)
