"""What a training shows while it runs: settings below `train` that change no result.

They are no part of the recipe, so that a change of them trains nothing again. Jobs of the workflow
get them through the environment, for the same reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from typing import Any

from lunet.errors import ConfigError
from lunet.settings import build_settings, setting

_VARIABLE = "LUNET_SHOWN"
"""Environment variable: a JSON object, preset -> its settings, of a running workflow."""


@dataclass(frozen=True)
class Shown:
    """What is written besides `history.csv` while a training runs, into the folder of the run."""

    curves: bool = setting(
        False, doc="draw `curves.png` (losses and Dice so far) into the folder of the run"
    )
    tensorboard: bool = setting(
        False,
        doc="write the numbers of `history.csv` for TensorBoard, into the folder `tensorboard` of "
        "the run; needs the extra `tensorboard`",
    )


_KEYS = tuple(field.name for field in fields(Shown))


def recipe_only(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of a section `train` without the keys of :class:`Shown`."""
    return {key: value for key, value in changes.items() if key not in _KEYS}


def shown_by(layers: Iterable[tuple[Mapping[str, Any], str]]) -> Shown:
    """What sections `train` ask for, each with its place; a later one overrides an earlier one.

    Raises
    ------
    ConfigError
        If a value is not true or false.
    """
    chosen: dict[str, Any] = {}
    for changes, where in layers:
        own = {key: changes[key] for key in _KEYS if key in changes}
        build_settings(Shown, own, where)  # a mistake names the section that it is in
        chosen |= own
    return build_settings(Shown, chosen, "train")


def require_tensorboard(where: str) -> None:
    """Refuse, before any work, what needs the package TensorBoard without it.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            where=where,
            found="the package tensorboard is not installed",
            expected="it is needed to write these files",
            action="Run `pip install 'lunet[tensorboard]'`, or leave this out: history.csv is "
            "always written",
        )


def hand_over_shown(shown: Mapping[str, Shown]) -> None:
    """Pass what each preset shows on to the jobs of this run of Snakemake.

    Raises
    ------
    ConfigError
        If a preset needs TensorBoard, which is not installed.
    """
    if any(one.tensorboard for one in shown.values()):
        require_tensorboard("train.tensorboard")
    os.environ[_VARIABLE] = json.dumps({name: asdict(one) for name, one in shown.items()})


def handed_over_shown(preset: str) -> Shown:
    """What :func:`hand_over_shown` passed to a job for a preset; nothing outside of a workflow."""
    known = json.loads(os.environ.get(_VARIABLE) or "{}")
    return build_settings(Shown, known.get(preset, {}), "train")
