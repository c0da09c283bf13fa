"""What a configuration asks of a network that not every network can do: heads, and pruning.

It is refused when the configuration is read, before anything is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lunet.errors import ConfigError
from lunet.study.presets import FAMILIES_2D, Preset

_OWN_OUTPUT = "a network of your own has one output (rule 3 of lunet.models), and no heads for it"
_PRUNABLE = ("unet", "unetpp", "mednext")
"""Modules of the networks whose channels can be removed (:mod:`lunet.pruning.channel_groups`)."""


def check_size(size: Sequence[int], dimensions: int) -> None:
    """Refuse a size of the cost measurement with fewer axes than the networks have.

    Raises
    ------
    ConfigError
        If it has.
    """
    if len(size) < dimensions:
        raise ConfigError(
            where="efficiency.size",
            found=f"found {list(size)}",
            expected=f"{dimensions} values, one per axis of the networks, are expected",
        )


def require_prunable(preset: Preset, where: str) -> None:
    """Refuse a network whose channels cannot be removed, before anything is trained.

    Raises
    ------
    ConfigError
        If it is one.
    """
    if preset.module not in _PRUNABLE:
        which = "a network of your own" if preset.is_own else preset.network
        raise ConfigError(
            where=where,
            found=f"{preset.name} is {which}, which cannot be pruned",
            expected="a UNet, LUNet, UNet++, LUNet++ or MedNeXt is expected",
        )


def output_count(preset: Preset) -> int:
    """Outputs of the network in training: the main one and its heads for deep supervision.

    Raises
    ------
    ConfigError
        If the arguments ask for heads but the network has none.
    """
    if not preset.arguments.get("deep_supervision", False):
        return 1
    if preset.is_own:
        raise ConfigError(
            where=f"{preset.name}, arguments.deep_supervision",
            found="found true",
            expected=_OWN_OUTPUT,
        )
    if not preset.has_heads:
        raise ConfigError(
            where=f"{preset.name}, arguments.deep_supervision",
            found=f"found true, but {preset.network} has no heads for it",
            expected=f"only UNet and the families {', '.join(FAMILIES_2D)} have them",
        )
    widths = preset.arguments["widths"]
    # one head per decoder level; the head of full resolution is the main output
    if isinstance(widths, Mapping):
        return sum(name.startswith("decoder.") for name in widths)
    return 4 if isinstance(widths, int) else len(widths) - 1


def check_supervision(preset: Preset, chosen: Sequence[float] | str) -> None:
    """Refuse heads without weights (they would never be trained) and weights without heads.

    ``chosen`` is the recipe's ``deep_supervision``.

    Raises
    ------
    ConfigError
        If their numbers differ, or the preset has no heads that its arguments ask for.
    """
    outputs, weights = output_count(preset), len(chosen)
    if chosen == "halving" or (weights or 1) == outputs:
        return
    if preset.is_own:
        raise ConfigError(
            where=f"{preset.name}, train.deep_supervision",
            found=f"{weights} weights",
            expected=_OWN_OUTPUT,
            action="Set train.deep_supervision: [] for it",
        )
    heads = f"{preset.name} has {outputs} output{'s' if outputs > 1 else ''} in training"
    raise ConfigError(
        where=f"{preset.name}, train.deep_supervision",
        found=f"{weights} weights",
        expected=f"{heads}, so {outputs if outputs > 1 else 'none'} are expected",
        action="Make the network's arguments.deep_supervision and the recipe's weights agree"
        " (main output first)",
    )
