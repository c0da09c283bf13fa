"""Forecasts of memory and time: numbers by hand, what they rise with, what happens without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from measured import MIB, PRESET, broken, cost, manifest, recipe, run

from lunet.efficiency.calibration import calibration, volumes
from lunet.efficiency.forecast import (
    FEW_STEPS,
    SHORT_SECONDS,
    TRIED_STEPS,
    VALIDATION_SHARE,
    WANTED_GAIN,
    check,
    forecast_training,
    load_of,
    taken,
)
from lunet.efficiency.training_engine import arithmetics
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.reporting.tables.forecast import forecast as forecast_table
from lunet.settings import build_settings, plain
from lunet.training.compute import autotune as engine
from lunet.training.compute.arithmetic import plain_arithmetic
from lunet.training.recipe import Engine, Recipe
from lunet.training.sampling import build_sampler
from lunet.training.volumes import Volumes


def test_a_short_training_by_hand() -> None:
    data = volumes(manifest())
    load = load_of(recipe(), data, train=8, validation=3)
    assert (load.epochs, load.steps, load.validations) == (10, 4, 10)
    assert load.batch_voxels == load.largest_batch_voxels == 2000
    assert load.volume_bytes == 11 * 1000 * 5
    found = forecast_training(calibration(cost()), load)
    # 40 steps are few, so plain float32: 40 x 0.1 s, and 10 x 3 cases at 0.4 of 0.05 s
    assert found.seconds == pytest.approx(4 + 30 * 0.05 * VALIDATION_SHARE)
    assert found.memory == found.host == pytest.approx((300 + 1 + 60) * MIB + 55_000)


def test_a_long_training_takes_the_faster_arithmetic_and_the_memory_of_trying_both() -> None:
    data = volumes(manifest())
    found = forecast_training(
        calibration(cost()), load_of(recipe(epochs=1000), data, train=8, validation=3)
    )
    assert found.seconds == pytest.approx(4000 * 0.05 + 3000 * 0.025 * VALIDATION_SHARE)
    assert found.memory == pytest.approx((300 + 1 + 90) * MIB + 55_000)
    assert found.choosing_seconds == pytest.approx(11 * (0.1 + 0.05))


def test_other_batches_and_sizes_follow_the_line() -> None:
    load = load_of(
        recipe(batch_size=3, patch=[20, 10, 10]), volumes(manifest()), train=9, validation=0
    )
    found = forecast_training(calibration(cost()), load)
    # the line is 10 + 10 MiB per sample: 30 at the measured two, 70 at the six of this batch
    assert found.memory == pytest.approx((300 + 1 + 60 * 70 / 30) * MIB + 45_000)
    assert found.seconds == pytest.approx(30 * 0.1 * 6 / 2)
    without = forecast_training(calibration(cost(training_memory=[])), load)
    assert without.memory == pytest.approx((300 + 1 + 60 * 6 / 2) * MIB + 45_000)


def test_volumes_are_held_twice_while_they_are_read() -> None:
    data = volumes(manifest((100, 100, 100)))
    load = load_of(recipe(patch=[10, 10, 10]), data, train=100, validation=0)
    assert forecast_training(calibration(cost()), load).host == 300 * MIB + 2 * 100 * 5_000_000


def test_cuda_has_its_own_memory() -> None:
    data = volumes(manifest())
    load = load_of(recipe(ema={"decay": 0.9}), data, train=8, validation=3)
    found = forecast_training(calibration(cost(device={"type": "cuda"})), load, threads=1)
    assert found.memory == (2 + 60) * MIB + 55_000
    assert found.host == 300 * MIB + 2 * 55_000


def test_fewer_threads_are_slower_and_more_are_no_gain() -> None:
    load = load_of(recipe(), volumes(manifest()), train=8, validation=3)
    four = calibration(cost(settings={"device": "auto", "threads": 4}))
    as_measured, one, eight = (forecast_training(four, load, threads=n).seconds for n in (4, 1, 8))
    assert one == pytest.approx(4 * as_measured)
    assert eight == as_measured


@given(
    batch=st.integers(1, 32),
    side=st.integers(4, 64),
    epochs=st.integers(1, 300),
    cases=st.integers(32, 200),
    more=st.sampled_from(["batch_size", "patch", "epochs"]),
    factor=st.integers(2, 4),
)
def test_more_of_anything_takes_no_less(
    batch: int, side: int, epochs: int, cases: int, more: str, factor: int
) -> None:
    one = {"batch_size": batch, "patch": [side] * 3, "epochs": epochs}
    # arithmetic aside, which a longer training may choose to be faster
    measured = cost()
    del measured["training_engine"]["tried"][1]
    data, larger = volumes(manifest()), dict(one)
    larger[more] = [factor * side] * 3 if more == "patch" else factor * one[more]
    cases *= factor  # so that the larger batch is full, too
    low, high = (
        forecast_training(
            calibration(measured), load_of(recipe(**r), data, train=cases, validation=5)
        )
        for r in (one, larger)
    )
    assert high.memory >= low.memory
    if more != "batch_size":  # steps are fewer then, and the last samples may be left out
        assert high.seconds > low.seconds


RECIPES = [
    ({}, (6, 6, 6), 3),
    ({"patch": [4, 4, 4], "patches_per_case": 5}, (6, 7, 6), 3),
    ({"samples_per_epoch": 21, "patch": [4, 4, 4]}, (6, 6, 6), 3),
    ({"batch_size": 32, "few_samples": "shrink"}, (6, 6, 6), 3),
    ({"batch_size": 7}, (6, 6, 5), 2),
    ({"batch_size": 7, "patch": [4, 4]}, (6, 6, 5), 2),
]


@pytest.mark.parametrize(("changes", "shape", "dimensions"), RECIPES)
def test_steps_and_samples_are_those_of_the_training(
    changes: dict[str, Any], shape: tuple[int, int, int], dimensions: int
) -> None:
    cases = 9
    images = [np.zeros((1, *shape), np.float32)] * cases
    labels = [np.zeros(shape, np.uint8)] * cases
    names = tuple(map(str, range(cases)))
    loaded = Volumes(names, images, labels, (shape,) * cases, torch.device("cpu"), resident=False)
    wanted = build_settings(Recipe, {"batch_size": 2} | changes, "train")
    sampler = build_sampler(loaded, wanted, dimensions=dimensions, seed=0)
    load = load_of(
        plain(wanted), volumes(manifest(shape, dimensions=dimensions)), train=cases, validation=1
    )
    assert load.steps == sampler.steps
    assert load.batch_voxels == sampler.batch(1, 0).label.numel()


def test_validations_are_counted_as_the_loop_does() -> None:
    for epochs, every in ((10, 3), (10, 5), (1, 4)):
        load = load_of(
            recipe(epochs=epochs, validate_every=every), volumes(manifest()), train=4, validation=1
        )
        done = [e for e in range(1, epochs + 1) if e % every == 0 or e == epochs]
        assert load.validations == len(done)


@pytest.mark.parametrize("capability", [None, (7, 5), (8, 0)])
def test_the_choice_is_made_as_the_training_makes_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert (FEW_STEPS, SHORT_SECONDS, WANTED_GAIN) == (
        engine._FEW_STEPS,
        engine._SHORT_SECONDS,
        engine._WANTED_GAIN,
    )
    assert engine._ROUNDS + 1 == TRIED_STEPS
    for fixed in ({}, {"precision": "bf16"}, {"memory_format": "channels_last"}):
        open_ = Engine(threads=1, **fixed)
        plainly = plain_arithmetic(open_, torch.device("cuda" if capability else "cpu"))
        assert arithmetics(open_, plainly) == engine.candidate_arithmetics(open_, plainly)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("training_engine",), None),
        (("training_engine",), "x"),
        (("training_engine", "tried"), []),
        (("training_engine", "tried", 0, "step_ms"), 0),
        (("training_engine", "tried", 0, "step_ms"), float("nan")),
        (("training_engine", "tried", 1, "growth_bytes"), "many"),
        (("training_engine", "batch"), None),
        (("training_memory", 0, "counted_bytes"), None),
        (("settings", "threads"), True),
        (("device", "type"), None),
        (("size",), 3),
        (("weights_bytes",), None),
    ],
)
def test_a_field_that_is_wrong_is_named(path: tuple[Any, ...], value: Any) -> None:
    key = next(word for word in reversed(path) if isinstance(word, str))
    with pytest.raises(DataError, match=key):
        calibration(broken(path, value))
    for content in ([], "x", None):
        with pytest.raises(DataError):
            calibration(content)


def test_what_the_system_does_not_tell_is_filled_in() -> None:
    content = cost()
    content["training_engine"]["process_bytes"] = None
    content["training_engine"]["tried"][0]["growth_bytes"] = None
    load = load_of(recipe(), volumes(manifest()), train=8, validation=3)
    found = forecast_training(calibration(content), load)
    assert found.memory == pytest.approx((400 + 1 + 30) * MIB + 55_000)


def test_errors_have_a_sign_and_are_those_of_the_epochs_done() -> None:
    measured, data = calibration(cost()), volumes(manifest())
    found = check(measured, data, [run(), run(10.4, 5 * MIB)])
    assert found is not None
    assert found.taken.runs == 2
    assert found.memory_error == pytest.approx(-0.5)
    assert found.time_error == pytest.approx(4.6 / 9.2 - 1)
    on_gpu = run(engine={"device": "cuda", "threads": 1})
    assert check(measured, data, [on_gpu]) is None
    unfinished = run()
    del unfinished["device_seconds"]
    assert taken([unfinished]) is None


def test_the_table(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", manifest())
    costs = {PRESET: cost(), "other": cost(), "unmeasured": {"macs": 1}}
    table = forecast_table(costs, [run()], [tmp_path / "manifest.json"])
    assert [[item.lines[0] for item in row] for row in table.rows] == [
        [PRESET, "1", "361", "722", "−50", "4.60", "8.00", "−42"],
        ["other", "0", "–", "–", "–", "–", "–", "–"],
    ]
    assert table.records[0]["time_error"] == pytest.approx(4.6 / 8 - 1)
    with pytest.raises(ConfigError, match="--manifest"):
        forecast_table(costs, [], [])
    bad = broken(("training_engine", "tried"), [])
    with pytest.raises(DataError, match=r"efficiency\.json of bad: training_engine\.tried"):
        forecast_table({"bad": bad}, [], [tmp_path / "manifest.json"])
