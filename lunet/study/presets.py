"""Presets: named networks, each with the name of its recipe.

:data:`PAPER_PRESETS` lists the 29 presets of the LUNet paper (arXiv 2512.03834). The families
``unet``, ``lunet``, ``unetpp`` and ``lunetpp`` exist in any width (``lunet_small_8f``), and so do
those in the form of nnU-Net (``nnunet_like_32f``, ``pocket_small_8f``), whose topology a plan
replaces. This module names the model modules but never imports them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from lunet.errors import ConfigError, nearest, shown
from lunet.own_code import PRESETS, check_class, is_file, is_plugin, load_entry, split_class
from lunet.reading import read_json

OWN_RECIPE = "paper_small"
"""Recipe of a network of the user that names no base and no recipe."""

LUNET = "arXiv 2512.03834"
UNET = "arXiv 1505.04597, as in arXiv 2512.03834"
UNETPP = "arXiv 1807.10165, as in arXiv 2512.03834"
SLIM = "Slim UNETRV2, IEEE TMI 2025"
ATTENTION = "arXiv 1804.03999"
NNUNET = "nnU-Net, doi 10.1038/s41592-020-01008-z"
RESENC = "nnU-Net's residual encoder, arXiv 2404.09556"
POCKET = "PocketNet, arXiv 2104.10745, as MIST's nnunet-pocket without residual blocks and heads"
XTINY = "XTinyU-Net, arXiv 2605.09639: nnU-Net with capped widths"


@dataclass(frozen=True)
class Preset:
    """A named network with its recipe.

    Attributes
    ----------
    module, network
        Model module and the class in it: a file of :mod:`lunet.models`, a Python file of the user
        (``nets/my_net.py``), or a module of an installed package (``my_package.nets``).
    arguments
        Keyword arguments of the class; plain JSON values.
    recipe
        Name of the default recipe in ``lunet.study.recipes``.
    source
        Paper that describes the network, or ``ours``.
    dimensions
        Numbers of spatial axes that the network can be built for.
    has_heads
        Whether it accepts ``deep_supervision``: one head per decoder level, including the main one.
    """

    name: str
    module: str
    network: str
    arguments: dict[str, Any]
    recipe: str
    source: str
    dimensions: tuple[int, ...] = (2, 3)
    has_heads: bool = False

    @property
    def is_own(self) -> bool:
        """Whether the network's code is outside of this package."""
        return is_file(self.module) or is_plugin(self.module)


# family -> module, class, flat widths?, source
_FAMILIES = {
    "unet": ("unet", "UNet", False, UNET),
    "lunet": ("unet", "UNet", True, LUNET),
    "unetpp": ("unetpp", "UNetPlusPlus", False, UNETPP),
    "lunetpp": ("unetpp", "UNetPlusPlus", True, f"{LUNET}; {UNETPP}"),
}
# size -> levels, convolutions per block
_SIZES = {"small": (5, 2), "large": (4, 3)}
_DROPOUT = 0.005
_NAME = re.compile(r"(unet|lunet|unetpp|lunetpp)_(small|large)_([1-9]\d{0,2})f")

# 2D family -> attention gates?, flat widths?, source
FAMILIES_2D = {
    "unet2d": (False, False, UNET),
    "attention_unet2d": (True, False, ATTENTION),
    "lattention_unet2d": (True, True, f"ours: {ATTENTION} with the flat widths of {LUNET}"),
}
_NAME_2D = re.compile(r"(unet2d|attention_unet2d|lattention_unet2d)_([1-9]\d{0,2})f")

# families in the form of nnU-Net: a study's plan replaces these topologies, which halve every axis
_FORM = {
    "norm": "instance",
    "activation": "leaky_relu",
    "order": "norm_activation",
    "downsampling": "convolution",
    "topology": "planned",
}
_LEVELS = 6
_BASE_WIDTH, _WIDEST = 32, 320
_RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)
_NAME_NNUNET = re.compile(
    r"(?P<family>nnunet_like|resenc|xtiny|pocket_(?P<size>small|large))_(?P<width>[1-9]\d{0,2})f"
)
_LISTED_NNUNET = (
    *(f"{family}_32f" for family in ("nnunet_like", "resenc", "pocket_small", "pocket_large")),
    *(f"xtiny_{cap}f" for cap in (32, 16, 8, 4)),
)

PAPER_PRESETS: tuple[str, ...] = (
    *(
        f"{family}_{size}_{width}f"
        for family in _FAMILIES
        for size, widths in (("small", (4, 3, 2, 1)), ("large", (24, 12, 6)))
        for width in widths
    ),
    "mednext_small",
)


def _slim(name: str, stem: int, slices: list[int] | str, recipe: str) -> Preset:
    arguments = {"strides": [stem, 2, 2, 2], "slices": slices}
    return Preset(name, "slim_unetr", "SlimUNETRV2", arguments, recipe, SLIM, (3,))


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
        _slim("slim_unetrv2_128", 4, [64, 32, 16, 8], "slim_sgd"),
        _slim("slim_unetrv2_96", 2, [16, 8, 4, 2], "slim_sgd_96"),
        _slim("slim_unetrv2_128_planes", 4, "planes", "slim_sgd"),
        _slim("slim_unetrv2_96_planes", 2, "planes", "slim_sgd_96"),
    )
}
_LISTED_2D = ("unet2d_64f", "attention_unet2d_64f", "attention_unet2d_16f", "lattention_unet2d_16f")


def find_preset(name: str) -> Preset:
    """The preset of that name, from the table or as a member of a family.

    Raises
    ------
    ConfigError
        If there is no such preset; the message names the nearest one.
    """
    if name in _SINGLE:
        return _SINGLE[name]
    if match := _NAME.fullmatch(name):
        return _of_family(name, match[1], match[2], int(match[3]))
    if match := _NAME_2D.fullmatch(name):
        return _of_family_2d(name, match[1], int(match[2]))
    if match := _NAME_NNUNET.fullmatch(name):
        return _of_nnunet(name, match["family"], match["size"], int(match["width"]))
    plugins = plugin_presets()
    if name in plugins:
        return plugins[name]
    known = (*known_presets(), *plugins)
    raise ConfigError(
        where="presets", found=f"unknown preset {name!r}", expected=nearest(name, known)
    )


def plugin_presets() -> dict[str, Preset]:
    """Presets of installed packages, from their entry points of the group ``lunet.presets``.

    The name of an entry point is the preset's, and its value names a :class:`Preset`. No preset of
    this package is replaced.

    Raises
    ------
    ConfigError
        If an entry point cannot be loaded, or is no preset of that name in the package's modules.
    """
    return {entry.name: _plugin(entry) for entry in entry_points(group=PRESETS)}


def _plugin(entry: EntryPoint) -> Preset:
    found = load_entry(entry)
    if not isinstance(found, Preset) or found.name != entry.name or not is_plugin(found.module):
        raise ConfigError(
            where=f"entry point {entry.name} of {PRESETS} ({entry.value})",
            found=f"is {shown(found)}",
            expected=f"a Preset of the name {entry.name} with a module such as my_package.nets",
        )
    return found


def own_preset(
    name: str, reference: str, arguments: dict[str, Any], recipe: str, *, where: str
) -> Preset:
    """The preset of a network in a file of the user, which is read but not run.

    Parameters
    ----------
    reference
        File and class, for example ``nets/my_net.py:MyNet``.
    where
        Key in the configuration, for messages.

    Raises
    ------
    ConfigError
        If the file is missing or is not Python, or defines no such class.
    """
    file, network = split_class(reference, where)
    check_class(file, network, where)
    return Preset(name, file, network, arguments, recipe, f"own: {reference}")


def known_presets() -> tuple[str, ...]:
    """Names of all listed presets; the families have members of further widths."""
    others = (name for name in _SINGLE if name not in PAPER_PRESETS)
    return (*PAPER_PRESETS, *others, *_LISTED_2D, *_LISTED_NNUNET)


def _of_family(name: str, family: str, size: str, width: int) -> Preset:
    module, network, flat, source = _FAMILIES[family]
    levels, convolutions = _SIZES[size]
    widths = [width if flat else width * 2**level for level in range(levels)]
    arguments = {"widths": widths, "convs_per_block": convolutions, "dropout": _DROPOUT}
    has_heads = network == "UNet"
    recipe = f"paper_{size}" if has_heads else f"unetpp_{size}"
    return Preset(name, module, network, arguments, recipe, source, has_heads=has_heads)


def _of_family_2d(name: str, family: str, width: int) -> Preset:
    gates, flat, source = FAMILIES_2D[family]
    # a number builds the published network; a list also sets the widths of the decoder
    arguments = {"widths": [width] * 5 if flat else width, "attention": gates}
    return Preset(
        name, "attention_unet", "AttentionUNet", arguments, "lung2d", source, (2,), has_heads=True
    )


def _of_nnunet(name: str, family: str, size: str | None, width: int) -> Preset:
    """A network in the form of nnU-Net; it has nnU-Net's heads, except the pocket networks."""
    arguments: dict[str, Any] = {**_FORM, "deep_supervision": True}
    if size:
        levels, convolutions = _SIZES[size]
        own = {"convs_per_block": convolutions, "conv_bias": False}
        arguments, source = {**_FORM, **own, "widths": [width] * levels}, POCKET
    elif family == "xtiny":
        source = XTINY
        arguments["widths"] = [min(w, width) for w in _doubled(_BASE_WIDTH)]
    else:
        source = NNUNET if family == "nnunet_like" else RESENC
        arguments["widths"] = _doubled(width)
    if family == "resenc":
        stem, *others = (2 * number for number in _RESIDUAL_BLOCKS)
        convolutions_per_level = [stem + 1, *others]
        arguments |= {"residual": True, "convs_per_block": convolutions_per_level}
        arguments["decoder_convs"] = 1
    return Preset(name, "unet", "UNet", arguments, "nnunet", source, has_heads=True)


def _doubled(width: int) -> list[int]:
    """nnU-Net's widths: doubled at each level, up to its largest in 3D."""
    return [min(width * 2**level, max(width, _WIDEST)) for level in range(_LEVELS)]


def read_structure(path: str | Path, base: Preset, where: str) -> dict[str, Any]:
    """Arguments of the network that a file describes.

    Parameters
    ----------
    path
        ``run.json`` of a pruning, whose chosen network is used, or a JSON object with ``arguments``
        like the section ``model`` (``module`` and ``name`` are checked if present).
    base
        The preset whose kind of network it must be.
    where
        Key in the configuration, for messages.

    Raises
    ------
    ConfigError
        If the file is missing, describes no network, or another kind of network than the base.
    DataError
        If it is not JSON.
    """
    section = _section(path, where)
    for key, expected in (("module", base.module), ("name", base.network)):
        found = section.get(key, expected)
        if found != expected:
            raise ConfigError(
                where=where,
                found=f"{path} describes {found}",
                expected=f"the base {base.name} is {expected}",
            )
    return dict(section["arguments"])


def _section(path: str | Path, where: str) -> Mapping[str, Any]:
    if not Path(path).is_file():
        action = "Prune the other study first (`snakemake pruning`), or correct the path"
        raise ConfigError(
            where=where,
            found=f"{path} is missing",
            expected="the structure is needed at the start",
            action=action,
        )
    content = read_json(path)
    chosen = content.get("chosen") if isinstance(content, Mapping) else None
    section = chosen.get("model", content) if isinstance(chosen, Mapping) else content
    if not isinstance(section, Mapping) or not isinstance(section.get("arguments"), Mapping):
        found = f"{path} has neither chosen.model nor arguments"
        raise ConfigError(
            where=where,
            found=found,
            expected="run.json of a pruning or {arguments: {widths: ...}} is expected",
        )
    return section
