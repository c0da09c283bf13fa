"""Build the network of a preset: the public ``lunet.build_model``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lunet.study.presets import find_preset

if TYPE_CHECKING:
    from torch import nn


def build_model(
    preset: str,
    *,
    in_channels: int = 1,
    out_channels: int = 1,
    ndim: int | None = None,
    **changes: Any,
) -> nn.Module:
    """Build the network of a preset with fresh weights.

    Parameters
    ----------
    preset
        Name, for example ``lunet_small_4f``; ``lunet list presets`` shows all.
    in_channels, out_channels
        Number of image channels and of logit channels (1 for a binary task, k + 1 for k labels).
    ndim
        Number of spatial axes, 2 or 3; the preset's highest if omitted.
    changes
        Keyword arguments of the network that differ from the preset's.

    Returns
    -------
    torch.nn.Module
        Maps ``(B, in_channels, *spatial)`` to logits ``(B, out_channels, *spatial)``.

    Raises
    ------
    ConfigError
        If the preset or an argument is unknown.
    """
    from lunet.models.build import build_network

    row = find_preset(preset)
    return build_network(
        row.module,
        row.network,
        in_channels=in_channels,
        out_channels=out_channels,
        ndim=ndim or max(row.dimensions),
        arguments=row.arguments | changes,
    )
