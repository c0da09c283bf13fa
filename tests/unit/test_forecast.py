"""Forecasts of memory and time: numbers by hand, what they rise with, what happens without."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lunet.cli import main
from lunet.efficiency.calibration import calibration, volumes
from lunet.efficiency.forecast import (
    FEW_STEPS,
    SHORT_SECONDS,
    VALIDATION_SHARE,
    WANTED_GAIN,
    load_of,
    predict,
)
from lunet.efficiency.forecast_check import check, taken
from lunet.efficiency.training_engine import arithmetics
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.reporting.tables_forecast import forecast as forecast_table
from lunet.study.config import parse
from lunet.study.forecast import FALLBACK_MB, FALLBACK_MINUTES, Forecasts, Gap
from lunet.study.study import Study
from lunet.training import engine
from lunet.training.arithmetic import plain_arithmetic
from lunet.training.feeding import Volumes as Loaded
from lunet.training.recipe import Engine, Recipe
from lunet.training.sampling import build_sampler
from lunet.typed import build, plain

MIB = 2**20
PRESET = "lunet_small_1f"


def cost(**changes: Any) -> dict[str, Any]:
    """What was measured: 2 samples of 1000 voxels take 100 ms (bf16: 50 ms) and 30 MiB."""
    content = {
        "preset": PRESET,
        "macs": 1,
        "size": [10, 10, 10],
        "weights_bytes": MIB,
        "device": {"type": "cpu"},
        "settings": {"device": "auto", "threads": 1},
        "training_memory": [
            {"batch": 2, "counted_bytes": 30 * MIB, "measured_bytes": 30 * MIB},
            {"batch": 4, "counted_bytes": 50 * MIB, "measured_bytes": 50 * MIB},
        ],
        "training_engine": {
            "batch": 2,
            "process_bytes": 300 * MIB,
            "tried": [
                {
                    "precision": precision,
                    "memory_format": "contiguous",
                    "compile": False,
                    "step_ms": milliseconds,
                    "growth_bytes": growth * MIB,
                }
                for precision, milliseconds, growth in (("fp32", 100.0, 60), ("bf16", 50.0, 90))
            ],
        },
    }
    return copy.deepcopy(content | changes)


def manifest(shape: tuple[int, ...] = (10, 10, 10), *, dimensions: int = 3) -> dict[str, Any]:
    return {
        "task": {"channels": ["MRI"], "dimensions": dimensions},
        "cases": [{"labelled": True, "shape": list(shape)}, {"labelled": False, "shape": [1] * 3}],
    }


def recipe(**changes: Any) -> dict[str, Any]:
    fields = {"epochs": 10, "batch_size": 2} | changes
    return plain(build(Recipe, fields, "train"))


def test_a_short_training_by_hand() -> None:
    data = volumes(manifest())
    load = load_of(recipe(), data, train=8, validation=3)
    assert (load.epochs, load.steps, load.validations) == (10, 4, 10)
    assert load.batch_voxels == load.largest_batch_voxels == 2000
    assert load.volume_bytes == 11 * 1000 * 5
    found = predict(calibration(cost()), load)
    # 40 steps are few, so plain float32: 40 x 0.1 s, and 10 x 3 cases at 0.4 of 0.05 s
    assert found.seconds == pytest.approx(4 + 30 * 0.05 * VALIDATION_SHARE)
    assert found.memory == found.host == pytest.approx((300 + 1 + 60) * MIB + 55_000)


def test_a_long_training_takes_the_faster_arithmetic_and_the_memory_of_trying_both() -> None:
    data = volumes(manifest())
    found = predict(calibration(cost()), load_of(recipe(epochs=1000), data, train=8, validation=3))
    assert found.seconds == pytest.approx(4000 * 0.05 + 3000 * 0.025 * VALIDATION_SHARE)
    assert found.memory == pytest.approx((300 + 1 + 90) * MIB + 55_000)
    assert found.choosing_seconds == pytest.approx(3 * (0.1 + 0.05))


def test_other_batches_and_sizes_follow_the_line() -> None:
    load = load_of(
        recipe(batch_size=3, patch=[20, 10, 10]), volumes(manifest()), train=9, validation=0
    )
    found = predict(calibration(cost()), load)
    # the line is 10 + 10 MiB per sample: 30 at the measured two, 70 at the six of this batch
    assert found.memory == pytest.approx((300 + 1 + 60 * 70 / 30) * MIB + 45_000)
    assert found.seconds == pytest.approx(30 * 0.1 * 6 / 2)
    without = predict(calibration(cost(training_memory=[])), load)
    assert without.memory == pytest.approx((300 + 1 + 60 * 6 / 2) * MIB + 45_000)


def test_volumes_are_held_twice_while_they_are_read() -> None:
    data = volumes(manifest((100, 100, 100)))
    load = load_of(recipe(patch=[10, 10, 10]), data, train=100, validation=0)
    assert predict(calibration(cost()), load).host == 300 * MIB + 2 * 100 * 5_000_000


def test_cuda_has_its_own_memory() -> None:
    data = volumes(manifest())
    load = load_of(recipe(ema={"decay": 0.9}), data, train=8, validation=3)
    found = predict(calibration(cost(device={"type": "cuda"})), load, threads=1)
    assert found.memory == (2 + 60) * MIB + 55_000
    assert found.host == 300 * MIB + 2 * 55_000


def test_fewer_threads_are_slower_and_more_are_no_gain() -> None:
    load = load_of(recipe(), volumes(manifest()), train=8, validation=3)
    four = calibration(cost(settings={"device": "auto", "threads": 4}))
    as_measured, one, eight = (predict(four, load, threads=n).seconds for n in (4, 1, 8))
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
        predict(calibration(measured), load_of(recipe(**r), data, train=cases, validation=5))
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
    loaded = Loaded(names, images, labels, (shape,) * cases, torch.device("cpu"), resident=False)
    wanted = build(Recipe, {"batch_size": 2} | changes, "train")
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


def test_the_choice_is_made_as_the_training_makes_it() -> None:
    assert (FEW_STEPS, SHORT_SECONDS, WANTED_GAIN) == (
        engine._FEW_STEPS,
        engine._SHORT_SECONDS,
        engine._WANTED_GAIN,
    )
    for fixed in ({}, {"precision": "bf16"}, {"memory_format": "channels_last"}):
        open_ = Engine(threads=1, **fixed)
        plainly = plain_arithmetic(open_, torch.device("cpu"))
        assert arithmetics(open_, plainly) == engine.candidates(open_, plainly)


def broken(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    content = cost()
    place: Any = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


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
    found = predict(calibration(content), load)
    assert found.memory == pytest.approx((400 + 1 + 30) * MIB + 55_000)


def run(seconds: float = 8.0, peak: float = 722 * MIB + 110_000, **changes: Any) -> dict[str, Any]:
    return {
        "preset": PRESET,
        "settings": {"recipe": recipe(epochs=99), "model": {}},
        "epochs": 10,  # it stopped early
        "cases": {"train": 8, "validation": 3},
        "engine": {"device": "cpu", "threads": 1},
        "device_seconds": seconds,
        "peak_memory_bytes": peak,
    } | changes


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


CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": [PRESET],
    "folds": [0],
    "train": {"epochs": 1000, "batch_size": 2},
}


def write_study(root: Path) -> Path:
    """The files of a forecast: efficiency, manifest, splits; returns the first."""
    path = root / f"results/s/presets/{PRESET}/efficiency.json"
    write_json(path, cost())
    write_json(root / "work/s/prepared/manifest.json", manifest())
    parts = {"train": list("abcdefgh"), "validation": list("ijk"), "test": ["l"]}
    write_json(root / "results/s/splits.json", {"seed": 0, "held_out": [], "folds": [parts]})
    return path


ROW = SimpleNamespace(preset=PRESET, fold="0", seed="0")


def forecasts(said: list[str], **changes: Any) -> Forecasts:
    return Forecasts(Study(parse(CONFIG | changes)), said.append)


def asked(found: Forecasts, *, attempt: int = 1, threads: int = 1) -> tuple[int, int]:
    return found.mem_mb(ROW, attempt, threads), found.runtime(ROW, attempt, threads)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_is_given_its_forecast_and_more_with_each_attempt(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = forecasts(said)
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    write_study(root)
    # 4 steps x 1000 epochs at 50 ms and the validations: 230 s, twice that and ten minutes
    assert asked(found) == (1000, 10 + 8)
    # what failed once gets no less than without a forecast, which the first may not have had
    assert asked(found, attempt=3) == (3 * FALLBACK_MB, 3 * FALLBACK_MINUTES)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "300")
    assert asked(found, attempt=2) == (2 * FALLBACK_MB, 300)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "15")
    assert asked(found) == (1000, 15)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "a day")
    with pytest.raises(ConfigError, match="LUNET_LONGEST_MINUTES: found 'a day'"):
        asked(found)
    monkeypatch.delenv("LUNET_LONGEST_MINUTES")
    assert forecasts([], train={"batch_size": 2, "epochs": 10**6}).runtime(ROW, 1, 1) == 1440
    large = cost()
    large["training_engine"]["tried"][1]["growth_bytes"] = 4000 * MIB
    write_json(root / f"results/s/presets/{PRESET}/efficiency.json", large)
    assert asked(found)[0] == 6452  # 1.5 x (300 + 1 + 4000 MiB and 55 kB)
    assert said == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (f"results/s/presets/{PRESET}/efficiency.json", "efficiency"),
        (f"results/s/presets/{PRESET}/efficiency.json", "[]"),
        (f"results/s/presets/{PRESET}/efficiency.json", json.dumps(cost(size=["x", 1, 1]))),
        ("work/s/prepared/manifest.json", '{"task": {}, "cases": []}'),
        (
            "work/s/prepared/manifest.json",
            '{"task": {}, "cases": [{"labelled": 1, "shape": [[]]}]}',
        ),
        ("results/s/splits.json", "{}"),
        ("results/s/splits.json", '{"seed": 0, "held_out": [], "folds": []}'),
    ],
)
def test_a_broken_file_is_told_once_and_stops_nothing(root: Path, file: str, text: str) -> None:
    write_study(root)
    (root / file).write_text(text)
    said: list[str] = []
    found = forecasts(said)
    assert asked(found) == asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    (line,) = said
    assert file in line
    assert "\n" not in line
    assert line.endswith("Without a forecast: 8000 MB, 240 min.")
    write_study(root)
    assert asked(found) == (1000, 18)


@pytest.mark.parametrize(
    ("wanted", "measured", "is_used"),
    [
        ("auto", {"device": {"type": "cpu"}}, True),
        ("cpu", {"device": {"type": "cpu"}}, True),
        ("cuda", {"device": {"type": "cpu"}}, False),
        ("cpu", {"device": {"type": "cuda"}}, False),
        ("auto", {"settings": {"device": "cpu", "threads": 1}}, False),
        ("auto", {"device": {"type": "cuda"}}, True),
    ],
)
def test_another_kind_of_device_has_no_forecast(
    root: Path, wanted: str, measured: dict[str, Any], is_used: bool
) -> None:
    write_json(write_study(root), cost(**measured))
    said: list[str] = []
    found = forecasts(said, train=CONFIG["train"] | {"engine": {"device": wanted}})
    assert isinstance(found.look(PRESET, 0), Gap) != is_used
    assert (asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)) != is_used
    assert said == []


def test_without_a_measured_step_there_is_none_and_nothing_to_say(root: Path) -> None:
    write_json(write_study(root), broken(("training_engine",), None))
    said: list[str] = []
    found = forecasts(said, efficiency={"training_step": False})
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    assert said == []
    assert "forecast" not in found.study.tables
    assert "forecast" in forecasts(said).study.tables


def test_a_plan_of_the_data_is_part_of_it(root: Path) -> None:
    write_study(root)
    found = forecasts([], plan="auto")
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    plan = root / "results/s/plan.yaml"
    plan.write_text("train: {patch: [20, 20, 20]}\n")
    # eight times the voxels of a step; those of the validation part stay
    assert asked(found)[1] == 10 + -(-2 * (8 * 200 + 30 + 8 * 0.45) // 60)
    plan.write_text("train: {ptach: [20, 20, 20]}\n")
    gap = found.look(PRESET, 0)
    assert isinstance(gap, Gap)
    assert "patch" in gap.reason


def test_the_command_says_what_is_missing_and_then_the_numbers(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "c.yaml").write_text(json.dumps(CONFIG))
    assert main(["forecast", "--config", "c.yaml"]) == 0
    text = capsys.readouterr().out
    assert f"no forecast of {PRESET}: results/s/presets/{PRESET}/efficiency.json is not" in text
    write_study(root)
    model = Study(parse(CONFIG)).sections("train", PRESET)["model"]
    done = run(settings={"recipe": recipe(), "model": model})
    write_json(root / f"results/s/runs/{PRESET}/fold-0/seed-0/run.json", done)
    assert main(["forecast", "--config", "c.yaml"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:5] == [PRESET, "391", "0:03:50", "1000", "18"]
    assert row[5:] == ["1", "361", "722", "-50", "%", "5", "8", "-42", "%"]
    (root / f"results/s/presets/{PRESET}/efficiency.json").unlink()
    assert main(["forecast", "--config", "c.yaml"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == [PRESET, "-", "-", "8000", "240", "1", "-", "722", "-", "-", "8", "-"]
    assert main(["forecast"]) == 2


def test_the_forecast_needs_no_heavy_library() -> None:
    code = "import sys, lunet.study.forecast; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "pandas"}
