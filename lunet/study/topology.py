"""Fills the topology of a plan into the arguments of the networks that ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WIDEST = 320
"""Widths that continue below the levels of a preset stop here, as in nnU-Net."""


def with_topology(arguments: Mapping[str, Any], topology: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a U-Net, with the planned topology if they say ``topology: planned``.

    ``widths`` and convolutions per level end earlier or continue as they ended: by the ratio of the
    last two, up to 320 channels. So LUNet, pocket and U-Net forms of one topology differ in their
    widths alone. Other arguments, and a pruned network's widths per block, are returned as they
    are.

    Parameters
    ----------
    arguments
        Keyword arguments of the network's class.
    topology
        ``strides`` and ``kernels`` per level and axis, as in the section ``topology`` of a plan;
        empty if nothing is planned.
    """
    strides, widths = topology.get("strides"), arguments.get("widths")
    is_asked = arguments.get("topology") == "planned" and isinstance(widths, list | tuple)
    if not strides or not is_asked:
        return dict(arguments)
    levels = len(strides)
    filled = {key: value for key, value in arguments.items() if key != "topology"}
    filled |= {key: [list(row) for row in topology[key]] for key in ("strides", "kernels")}
    filled["widths"] = _widths(arguments["widths"], levels)
    convolutions = arguments.get("convs_per_block")
    if isinstance(convolutions, list | tuple):
        last = convolutions[-1]
        filled["convs_per_block"] = [*convolutions, *[last] * levels][:levels]
    return filled


def _widths(widths: Sequence[int], levels: int) -> list[int]:
    found = list(widths[:levels])
    while len(found) < levels:
        before, last = found[-2], found[-1]
        found.append(min(round(last * last / before), max(last, _WIDEST)))
    return found
