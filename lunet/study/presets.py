"""Presets: a preset is one row, a named network with the name of its recipe.

The 29 presets of the LUnet paper (arXiv 2512.03834) are listed by :data:`PAPER_PRESETS`; the
families ``unet``, ``lunet``, ``unetpp`` and ``lunetpp`` exist in any width (``lunet_small_8f``).
This module names the model modules but never imports one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from lunet.errors import ConfigError, nearest

LUNET = "arXiv 2512.03834"
UNET = "arXiv 1505.04597, as in arXiv 2512.03834"
UNETPP = "arXiv 1807.10165, as in arXiv 2512.03834"
SLIM = "Slim UNETRV2, IEEE TMI 2025"
ATTENTION = "arXiv 1804.03999"


@dataclass(frozen=True)
class Preset:
    """A named network with its recipe.

    Attributes
    ----------
    module, network
        Model module and the class in it.
    arguments
        Keyword arguments of the class; plain JSON values.
    recipe
        Name of the default recipe in ``lunet.study.recipes``.
    source
        Paper that describes the network, or ``ours``.
    dimensions
        Numbers of spatial axes that the network can be built for.
    """

    name: str
    module: str
    network: str
    arguments: dict[str, Any]
    recipe: str
    source: str
    dimensions: tuple[int, ...] = (2, 3)


# family -> module, class, flat widths?, source
_FAMILIES = {
    "unet": ("unet", "UNet", False, UNET),
    "lunet": ("unet", "UNet", True, LUNET),
    "unetpp": ("unetpp", "UNetPP", False, UNETPP),
    "lunetpp": ("unetpp", "UNetPP", True, f"{LUNET}; {UNETPP}"),
}
# size -> levels, convolutions per block
_SIZES = {"small": (5, 2), "large": (4, 3)}
_DROPOUT = 0.005
_NAME = re.compile(r"(unet|lunet|unetpp|lunetpp)_(small|large)_([1-9]\d{0,2})f")

PAPER_PRESETS: tuple[str, ...] = (
    *(
        f"{family}_{size}_{width}f"
        for family in _FAMILIES
        for size, widths in (("small", (4, 3, 2, 1)), ("large", (24, 12, 6)))
        for width in widths
    ),
    "mednext_small",
)


def _slim(name: str, variant: str, slices: str, recipe: str) -> Preset:
    arguments = {"variant": variant, "slices": slices}
    return Preset(name, "slim_unetr", "SlimUNETR", arguments, recipe, SLIM, (3,))


def _attention(name: str, widths: list[int], *, gates: bool, deep: bool, source: str) -> Preset:
    arguments = {"widths": widths, "attention": gates, "deep_supervision": deep}
    module = "attention_unet"
    return Preset(name, module, "AttentionUNet", arguments, "lung2d", source, (2,))


_WIDTHS_2D = [64, 128, 256, 512, 512]

_SINGLE = {
    preset.name: preset
    for preset in (
        Preset(
            "mednext_small",
            "mednext",
            "MedNeXt",
            {"dropout": _DROPOUT},
            "mednext",
            f"{LUNET}; arXiv 2303.09975",
        ),
    )
}


def find_preset(name: str) -> Preset:
    """The preset of that name, from the table or from a family's rule.

    Raises
    ------
    ConfigError
        If there is no such preset; names the nearest one.
    """
    if name in _SINGLE:
        return _SINGLE[name]
    match = _NAME.fullmatch(name)
    if not match:
        raise ConfigError("presets", f"unknown preset {name!r}", nearest(name, known_presets()))
    family, size, width = match[1], match[2], int(match[3])
    module, network, flat, source = _FAMILIES[family]
    levels, convolutions = _SIZES[size]
    widths = [width if flat else width * 2**level for level in range(levels)]
    arguments = {"widths": widths, "convs_per_block": convolutions, "dropout": _DROPOUT}
    recipe = f"paper_{size}" if family in ("unet", "lunet") else f"unetpp_{size}"
    return Preset(name, module, network, arguments, recipe, source)


def known_presets() -> tuple[str, ...]:
    """Names of all listed presets; the families exist in further widths."""
    return (*PAPER_PRESETS, *(name for name in _SINGLE if name not in PAPER_PRESETS))
