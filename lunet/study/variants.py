"""Variants of presets, and networks of the user's own, as a configuration defines them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from lunet.errors import ConfigError, nearest
from lunet.inference.settings import PredictSettings
from lunet.settings import replace, setting
from lunet.study.presets import (
    OWN_OUTPUT,
    OWN_RECIPE,
    Preset,
    find_preset,
    known_presets,
    output_count,
    own_preset,
)
from lunet.training.recipe import Recipe

_PLANE = 2


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
    dimensions: Literal[2, 3] | None = setting(
        None,
        doc="2: trained on the slices of volumes, 3: on volumes; default: `dataset.dimensions`. "
        "Predictions are compared as volumes. Patches and flips of the study's recipe keep their "
        "first two axes in 2D",
    )


def base_preset(variants: Mapping[str, Variant], name: str) -> Preset:
    """The preset of this name, or the one that the variant of this name changes or defines.

    Raises
    ------
    ConfigError
        If there is none (the message names the nearest preset or variant), or if the variant has
        neither a base nor a network, or both a network and a structure.
    """
    variant = variants.get(name)
    where = f"variants.{name}"
    if variant and variant.base is None and variant.network is None:
        expected = "required, unless the variant has a `network`"
        raise ConfigError(where=f"{where}.base", found="missing", expected=expected)
    if variant and variant.network is not None and variant.structure is not None:
        raise ConfigError(
            where=f"{where}.structure",
            found="given with `network`",
            expected="it describes networks of the package",
        )
    if variant and variant.network is not None:
        recipe = _found(variant.base, variants, where).recipe if variant.base else OWN_RECIPE
        return own_preset(
            name, variant.network, variant.arguments, recipe, where=f"{where}.network"
        )
    if variant:
        return _found(variant.base or "", variants, where)
    return _found(name, variants, None)


def check_supervision(preset: Preset, recipe: Recipe) -> None:
    """Refuse heads without weights (they would never be trained) and weights without heads."""
    outputs, weights = output_count(preset), len(recipe.deep_supervision)
    if recipe.deep_supervision == "halving" or (weights or 1) == outputs:
        return
    if preset.is_own:
        raise ConfigError(
            where=f"{preset.name}, train.deep_supervision",
            found=f"{weights} weights",
            expected=OWN_OUTPUT,
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


Flat = TypeVar("Flat", Recipe, PredictSettings)


def in_plane(settings: Flat) -> Flat:
    """Settings for volumes, for the slices of these volumes: patch and flips along two axes."""
    changes: dict[str, Any] = {}
    if settings.patch is not None:
        changes["patch"] = settings.patch[:2]
    if isinstance(settings, PredictSettings):
        changes["flip_axes"] = [axis for axis in settings.flip_axes if axis < _PLANE]
        return replace(settings, changes, "predict")
    moves = settings.augmentation
    kept = [place for place, axis in enumerate(moves.flip_axes) if axis < _PLANE]
    flips = {
        "flip_axes": [moves.flip_axes[place] for place in kept],
        "flip_p": [moves.flip_p[place] for place in kept if moves.flip_p],
    }
    return replace(settings, changes | {"augmentation": flips}, "train")


def _found(name: str, variants: Mapping[str, Variant], where: str | None) -> Preset:
    """The preset of this name; ``where`` is the variant that names it as its base."""
    try:
        return find_preset(name)
    except ConfigError as error:
        known = known_presets() if where else (*variants, *known_presets())
        raise ConfigError(
            where=f"{where}.base" if where else "presets",
            found=error.found,
            expected=nearest(name, known),
        ) from None
