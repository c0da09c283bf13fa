"""Variants of presets, and networks of the user's own, as a configuration defines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lunet.errors import ConfigError, nearest
from lunet.own_code import split_class
from lunet.settings import setting
from lunet.study.presets import OWN_RECIPE, Preset, find_preset, known_presets, own_preset
from lunet.training.recipe import Recipe


@dataclass(frozen=True)
class Variant:
    """A base preset with changes, or a network of your own; used like any preset."""

    base: str | None = setting(None, doc="preset that is changed; required without `network`")
    network: str | None = setting(
        None,
        doc="network of your own, file and class, e.g. `nets/my_net.py:MyNet`. The path is "
        "relative to the folder in which Snakemake is started",
    )
    recipe: str | None = setting(
        None, doc="named recipe; default: the base preset's, without a base `paper_small`"
    )
    train: dict[str, Any] = setting(
        {}, doc="changes to the recipe, e.g. `{loss: {bce: 1}}`", changes=Recipe
    )
    structure: str | None = setting(
        None,
        doc="file that holds the network's structure, e.g. run.json of another study's pruning",
    )
    arguments: dict[str, Any] = setting({}, doc="changes to the network's arguments")

    def __post_init__(self) -> None:
        if self.base is None and self.network is None:
            raise ConfigError(
                where="base", found="missing", expected="a variant has a `base` or a `network`"
            )
        if self.network is not None:
            split_class(self.network, "network")
            if self.structure is not None:
                raise ConfigError(
                    where="structure",
                    found="given with `network`",
                    expected="it describes networks of the package",
                )


def base_preset(variants: Mapping[str, Variant], name: str) -> Preset:
    """The preset of this name, or the one that the variant of this name changes or defines.

    Raises
    ------
    ConfigError
        If there is none; the message names the nearest preset or variant.
    """
    variant = variants.get(name)
    base = variant.base if variant else name
    try:
        found = None if base is None else find_preset(base)
    except ConfigError as error:
        known = known_presets() if variant else (*variants, *known_presets())
        raise ConfigError(
            where=f"variants.{name}.base" if variant else "presets",
            found=error.found,
            expected=nearest(base or "", known),
        ) from None
    if variant and variant.network is not None:
        recipe = found.recipe if found else OWN_RECIPE
        where = f"variants.{name}.network"
        return own_preset(name, variant.network, variant.arguments, recipe, where=where)
    assert found is not None  # a variant has one or the other
    return found
