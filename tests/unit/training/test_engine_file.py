"""The arithmetic of a preset: chosen once into a file, and used by every training that gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_training import TINY, job, prepare

from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.reading import read_json
from lunet.training.compute import autotune
from lunet.training.recipe import Engine, Recipe
from lunet.training.run import run_engine, run_training

OPEN = replace(TINY, epochs=12, engine=Engine(device="cpu", precision="fp32", compile="off"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return prepare(tmp_path / "data")


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, data: Path, tmp_path: Path) -> Path:
    """The file of a preset for which channels-last was found to be faster."""
    seconds = {"contiguous": 10.0, "channels_last": 5.0}
    monkeypatch.setattr(autotune, "step_seconds", lambda _, choice: seconds[choice.memory_format])
    out = tmp_path / "presets" / "engine.json"
    out.parent.mkdir()
    run_engine(job(data, tmp_path, OPEN), out)
    monkeypatch.setattr(autotune, "step_seconds", lambda *_: pytest.fail("measured again"))
    return out


def trained(data: Path, place: Path, engine: Path, recipe: Recipe = OPEN) -> dict[str, object]:
    """The record of the arithmetic of a training that got the file."""
    run_training(job(data, place, recipe, engine=engine))
    record: dict[str, object] = read_json(place / "out" / "run.json")["engine"]
    return record


def test_the_file_tells_choice_measurement_and_machine(chosen: Path) -> None:
    found = read_json(chosen)
    assert (found["device"], found["precision"]) == ("cpu", "fp32")
    assert (found["memory_format"], found["compile"]) == ("channels_last", False)
    assert found["seconds_per_step"] == {"fp32 contiguous": 10.0, "fp32 channels_last": 5.0}
    assert found["batch"] == [3, 1, 12, 12, 12]
    assert found["machine"] == autotune.machine("cpu")
    assert found["reason"].startswith("measured: the fastest")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 2}, "a training of 4 steps is too short"),
        ({"engine": Engine("cpu", "fp32", "contiguous", "off")}, "leave no choice"),
        ({}, "take only"),
    ],
)
def test_the_file_says_why_nothing_else_was_tried(
    monkeypatch: pytest.MonkeyPatch,
    data: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    reason: str,
) -> None:
    monkeypatch.setattr(autotune, "step_seconds", lambda *_: 0.01)
    chosen = run_engine(job(data, tmp_path, replace(OPEN, **changes)), tmp_path / "engine.json")
    found = read_json(tmp_path / "engine.json")
    assert reason in found["reason"]
    assert len(found["seconds_per_step"]) <= 1
    assert str(chosen).startswith("fp32, contiguous on cpu with ")


def test_trainings_use_it_and_measure_nothing(chosen: Path, data: Path, tmp_path: Path) -> None:
    first = trained(data, tmp_path / "a", chosen)
    assert first["memory_format"] == "channels_last"
    # a seed that is added when the resume folders and their caches are gone
    run_training(job(data, tmp_path / "b", OPEN, engine=chosen, seed=7, engine_cache=None))
    assert read_json(tmp_path / "b" / "out" / "run.json")["engine"] == first


def test_more_epochs_do_not_change_it(chosen: Path, data: Path, tmp_path: Path) -> None:
    assert trained(data, tmp_path, chosen, replace(OPEN, epochs=3))["memory_format"] == (
        "channels_last"
    )


def test_a_recipe_that_fixes_another_value_is_refused(
    chosen: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ConfigError, match=r"engine\.json: memory_format: found channels_last.*is contiguous"
    ):
        trained(data, tmp_path, chosen, TINY)


def test_a_choice_for_another_device_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chosen: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    write_json(chosen, read_json(chosen) | {"device": "cuda", "precision": "bf16"})
    monkeypatch.setattr(autotune, "step_seconds", lambda *_: 1e-3)
    assert trained(data, tmp_path, chosen)["memory_format"] == "contiguous"
    assert f"{chosen} is for cuda, but this training runs on cpu" in "".join(capsys.readouterr())


@pytest.mark.parametrize("key", ["machine", "torch"])
def test_on_another_machine_its_gradients_are_checked(
    key: str, monkeypatch: pytest.MonkeyPatch, chosen: Path, data: Path, tmp_path: Path
) -> None:
    write_json(chosen, read_json(chosen) | {key: "another"})
    assert trained(data, tmp_path / "sound", chosen)["memory_format"] == "channels_last"
    monkeypatch.setattr(autotune, "find_fault", lambda *_: "noise")
    with pytest.raises(ConfigError, match="wrong gradients: noise"):
        trained(data, tmp_path / "noisy", chosen)


def test_a_damaged_file_is_named(chosen: Path, data: Path, tmp_path: Path) -> None:
    chosen.write_text('{"device": "cpu"}')
    with pytest.raises(DataError, match=r"engine\.json"):
        trained(data, tmp_path, chosen)
