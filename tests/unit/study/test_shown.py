"""`train.curves` and `train.tensorboard`: what they reach, and that they invalidate nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lunet.errors import ConfigError
from lunet.study import shown
from lunet.study.shown import Shown, hand_over_shown, handed_over_shown
from lunet.study.steps import STEPS
from lunet.study.study import Study, study_of


def study(**changes: Any) -> Study:
    mapping = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["a", "unet_small_1f"]}
    variant = {"base": "lunet_small_1f", "train": changes.pop("variant", {})}
    return study_of(mapping | {"variants": {"a": variant}} | changes)


def test_no_step_depends_on_them() -> None:
    plain = study()
    asked = study(train={"curves": True, "tensorboard": True}, variant={"curves": False})
    for step in STEPS:
        assert asked.sections(step, "a") == plain.sections(step, "a")


def test_a_variant_overrides_the_study_and_an_override_the_variant() -> None:
    found = study(
        train={"curves": True, "epochs": 3},
        variant={"curves": False, "tensorboard": True},
        overrides={"a": {"tensorboard": False}},
    )
    assert found.shown("a") == Shown(curves=False, tensorboard=False)
    assert found.shown("unet_small_1f") == Shown(curves=True)
    assert found.presets["a"][1].epochs == 3


def test_a_wrong_value_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match=r"variants\.a\.train\.curves"):
        study(variant={"curves": "yes"})


def test_jobs_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shown._VARIABLE, "")
    hand_over_shown({"a": Shown(curves=True)})
    assert handed_over_shown("a") == Shown(curves=True)
    assert handed_over_shown("other") == Shown()


def test_a_missing_tensorboard_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(shown._VARIABLE, "")
    monkeypatch.setattr(shown, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"train\.tensorboard: .*lunet\[tensorboard\]"):
        hand_over_shown({"a": Shown(tensorboard=True)})
    hand_over_shown({"a": Shown(curves=True)})
