"""The losses by name, with options and sources: plain data, so that a config is checked early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lunet.errors import ConfigError, nearest

_LUNET = "LUNet, arXiv:2512.03834"
_LUNG = "2D attention U-Net for lung tumours (unet-segment-pytorch)"
_NNUNET = "nnU-Net v2, doi:10.1038/s41592-020-01008-z"
_SLIM = "Slim UNETRV2, development recipe"

GROUPINGS = ("batch", "sample")


@dataclass(frozen=True)
class LossSpec:
    """A loss: its options with their defaults, what it computes, where it comes from.

    The default gives the kind of an option: None for a list of weights, one per class with the
    background first (two for a binary task); a string for one of ``GROUPINGS``; a number for a
    number that is not negative.
    """

    options: Mapping[str, Any]
    formula: str
    source: str


_DICE_TERM = {"dice_weight": 1.0}
_CE_TERM = {"ce_weight": 1.0}
_TVERSKY = {"fn_weight": 0.7, "fp_weight": 0.3, "gamma": 0.75, "smooth": 1.0}
_BALANCE = {"foreground_weight": 0.5}

LOSSES: dict[str, LossSpec] = {
    "dice": LossSpec(
        {"over": "batch"},
        "1 - mean_c 2 sum(p y) / (sum(p + y) + 1e-7), sums over batch and space",
        _LUNET,
    ),
    "bce": LossSpec(
        {"foreground_weight": 1.0},
        "mean binary cross-entropy of each structure against the rest",
        _LUNET,
    ),
    "dice_bce": LossSpec(
        {**_DICE_TERM, "bce_weight": 1.0}, "dice_weight dice + bce_weight bce", _LUNET
    ),
    "ce": LossSpec({"class_weights": None}, "cross-entropy, weighted mean over voxels", _LUNG),
    "dice_2d": LossSpec(
        {"smooth": 1.0, "include_background": False},
        "1 - (2 sum(p y) + s) / (sum(p) + sum(y) + s) per sample and class, mean",
        _LUNG,
    ),
    "combined": LossSpec(
        {**_CE_TERM, **_DICE_TERM, "class_weights": None, "smooth": 1.0},
        "ce_weight ce + dice_weight dice_2d",
        _LUNG,
    ),
    "focal": LossSpec(
        {"gamma": 2.0, "class_weights": None},
        "mean of w_y (1 - p_y)^gamma ce",
        f"doi:10.1109/ICCV.2017.324; {_LUNG}",
    ),
    "focal_tversky": LossSpec(
        _TVERSKY,
        "(1 - TI)^gamma, TI = (TP + s) / (TP + fn_weight FN + fp_weight FP + s) over the batch",
        f"arXiv:1810.07842; {_LUNG}",
    ),
    "balanced_ce": LossSpec(
        _BALANCE,
        "per sample: w mean(ce on foreground) + (1 - w) mean(ce on background), mean over samples",
        _LUNG,
    ),
    "balanced_focal_tversky": LossSpec(
        {**_CE_TERM, "tversky_weight": 1.0, **_BALANCE, **_TVERSKY},
        "ce_weight balanced_ce + tversky_weight focal_tversky",
        _LUNG,
    ),
    "dice_bce_2d": LossSpec(
        {**_CE_TERM, **_DICE_TERM, **_BALANCE, "smooth": 1.0},
        "ce_weight balanced_ce + dice_weight dice_2d",
        f"{_LUNG}, later version",
    ),
    "dice_ce": LossSpec(
        {**_CE_TERM, **_DICE_TERM, "class_weights": None, "smooth": 1e-5, "over": "sample"},
        "ce_weight ce + dice_weight (1 - mean_c (2 sum(p y) + s) / (sum(p + y) + s)); "
        "background not in Dice",
        _NNUNET,
    ),
    "focal_dice": LossSpec(
        {"focal_weight": 1.0, **_DICE_TERM, "gamma": 2.0},
        "focal_weight sigmoid focal + dice_weight (1 - mean 2 sum(p y) / (sum(p + y) + 1e-5)) "
        "per sample and structure",
        _SLIM,
    ),
}


def losses_table() -> list[dict[str, str]]:
    """Rows of ``lunet list losses``: name, options with defaults, formula and source."""
    return [
        {
            "name": name,
            "options": ", ".join(f"{key}={value}" for key, value in spec.options.items()),
            "formula": spec.formula,
            "source": spec.source,
        }
        for name, spec in LOSSES.items()
    ]


def loss_options(
    name: str, options: Mapping[str, Any], where: str = "loss_options"
) -> dict[str, Any]:
    """All options of a loss: its defaults, overridden by ``options``.

    Raises
    ------
    ConfigError
        If the loss or an option is unknown (the message names the nearest one), or a value has the
        wrong kind.
    """
    if name not in LOSSES:
        raise ConfigError(
            where="train.loss", found=f"unknown loss {name!r}", expected=nearest(name, LOSSES)
        )
    chosen = dict(LOSSES[name].options)
    for key, value in options.items():
        if key not in chosen:
            advice = nearest(key, chosen) if chosen else "it has no options"
            raise ConfigError(
                where=f"{where}.{key}",
                found=f"unknown option of the loss {name!r}",
                expected=advice,
            )
        chosen[key] = _checked(value, chosen[key], f"{where}.{key}")
    return chosen


def objective_options(
    loss: Mapping[str, float], options: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The options of each loss of a recipe.

    ``options`` holds either a mapping per loss (``{"focal": {"gamma": 2}}``) or plain options,
    which apply to each loss of the recipe that has them (``{"gamma": 2}``).

    Raises
    ------
    ConfigError
        If there is no loss, all weights are zero, no loss of the recipe has an option, or a value
        is wrong.
    """
    if not loss or not any(weight > 0 for weight in loss.values()):
        raise ConfigError(
            where="train.loss",
            found=f"found {dict(loss)}",
            expected="a loss with a weight is expected",
        )
    chosen: dict[str, dict[str, Any]] = {name: {} for name in loss}
    for name, weight in loss.items():
        loss_options(name, {})
        if not math.isfinite(weight) or weight < 0:
            raise ConfigError(
                where=f"train.loss.{name}",
                found=f"found {weight}",
                expected="a weight >= 0 is expected",
            )
    for key, value in options.items():
        if key in chosen and isinstance(value, Mapping):
            chosen[key].update(value)
            continue
        takers = [name for name in loss if key in LOSSES[name].options]
        if not takers:
            known = {*loss, *(option for name in loss for option in LOSSES[name].options)}
            raise ConfigError(
                where=f"train.loss_options.{key}",
                found=f"no loss of {sorted(loss)} has this option",
                expected=nearest(key, known),
            )
        for name in takers:
            chosen[name].setdefault(key, value)
    where = "train.loss_options"
    return {name: loss_options(name, chosen[name], f"{where}.{name}") for name in loss}


def _checked(value: Any, default: Any, where: str) -> Any:
    if isinstance(default, str):
        if value not in GROUPINGS:
            raise ConfigError(
                where=where, found=f"found {value!r}", expected=nearest(str(value), GROUPINGS)
            )
        return value
    if default is None:
        return None if value is None else _weights(value, where)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ConfigError(
                where=where, found=f"found {value!r}", expected="true or false is expected"
            )
        return value
    if not _is_number(value) or value < 0:
        raise ConfigError(
            where=where, found=f"found {value!r}", expected="a number >= 0 is expected"
        )
    return float(value)


def _weights(value: Any, where: str) -> tuple[float, ...]:
    usable = isinstance(value, list | tuple) and all(_is_number(v) and v >= 0 for v in value)
    if not usable or not any(value):
        raise ConfigError(
            where=where,
            found=f"found {value!r}",
            expected="a list of weights >= 0 is expected, one per class",
        )
    return tuple(float(v) for v in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
