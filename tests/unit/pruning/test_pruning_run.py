"""A whole pruning: exact recovery, what is chosen and written, controls, resume after a kill."""

from __future__ import annotations

import copy
import csv
import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import EVERYTHING, TINY, job, prepare

from lunet.errors import ConfigError, DataError, Interrupted, TrainingError
from lunet.files import write_json
from lunet.inference.load import load_model
from lunet.pruning import run as module
from lunet.pruning.job import PruneJob, flat_arguments, parameters_of, starting_job
from lunet.pruning.run import run_pruning
from lunet.pruning.schedule import chosen_row, reason_to_stop
from lunet.pruning.settings import PRUNING, PruneSettings
from lunet.task import Task
from lunet.training import loop
from lunet.training.job import TrainingJob
from lunet.training.recipe import EarlyStopping, Optimiser, Schedule
from lunet.training.state import TrainingState

MODEL = {
    "preset": "tiny",
    "module": "unet",
    "name": "UNet",
    "arguments": {"widths": [3, 4], "dropout": 0.05},
}
SETTINGS = PruneSettings(
    importance="taylor", channels_per_step=2, first_epochs=2, recovery_epochs=3, iterations=2
)
FILES = ("weights.safetensors", "last.safetensors", "history.csv", "trajectory.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("data") / "prepared", shapes=((8, 8, 8),) * 7)


def task(
    data: Path,
    place: Path,
    strategy: str = "stamp",
    settings: PruneSettings = SETTINGS,
    **changes: Any,
) -> PruneJob:
    given = {"model": MODEL, "recipe": replace(TINY, batch_size=2)} | changes
    like = place.parent / "stamp" / "out" / "run.json"
    return PruneJob(job(data, place, **given), settings, strategy, like)


@pytest.fixture(scope="module")
def stamp(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished stamp run of the full recipe."""
    place = tmp_path_factory.mktemp("runs") / "stamp"
    run_pruning(task(data, place, recipe=EVERYTHING))
    return place


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def record(place: Path) -> dict[str, Any]:
    return json.loads((place / "out" / "run.json").read_text())


def contents(place: Path) -> dict[str, bytes]:
    return {name: (place / "out" / name).read_bytes() for name in (*FILES, "test_curve.csv")}


def test_each_iteration_recovers_for_exactly_the_epochs_that_were_asked(stamp: Path) -> None:
    """Public code recovers for one epoch less."""
    assert [row["epochs"] for row in rows(stamp / "out" / "trajectory.csv")] == ["2", "5", "8"]
    assert len(rows(stamp / "out" / "history.csv")) == 8
    assert record(stamp)["epochs"] == 8


def test_the_trajectory_tells_what_went(stamp: Path) -> None:
    found = rows(stamp / "out" / "trajectory.csv")
    for before, after in itertools.pairwise(found):
        gone = {}
        for part in after["removed"].split(";"):
            name, _, channels = part.partition(":")
            gone[name] = len(channels.split())
        assert sum(gone.values()) == 2
        for key, width in before.items():
            if key.startswith("channels_"):
                name = key.removeprefix("channels_")
                assert int(after[key]) == int(width) - gone.get(name, 0)
        assert int(after["channels"]) == int(before["channels"]) - 2
        assert int(after["parameters"]) < int(before["parameters"])
        assert int(after["macs"]) < int(before["macs"])
    assert found[0]["removed"] == ""


def test_the_chosen_network_is_a_plain_one(stamp: Path) -> None:
    chosen = record(stamp)["chosen"]
    model = load_model(stamp / "out")
    assert sum(p.numel() for p in model.parameters()) == chosen["parameters"]
    assert model.plan.widths == {  # type: ignore[union-attr]
        name: tuple(widths) for name, widths in chosen["model"]["arguments"]["widths"].items()
    }
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 3, 8, 8, 8)


def test_the_stopping_point_is_chosen_on_validation_and_the_optimistic_one_is_marked(
    stamp: Path,
) -> None:
    found, curve = rows(stamp / "out" / "trajectory.csv"), rows(stamp / "out" / "test_curve.csv")
    about = record(stamp)
    best = max(float(row["dice"]) for row in found)
    assert about["chosen"]["dice"] == best
    chosen = curve[about["chosen"]["iteration"]]
    assert about["test"]["dice"] == float(chosen["dice"])
    assert about["test"]["optimistic"]["dice"] == max(float(row["dice"]) for row in curve)
    assert "upper bound, not a result" in about["test"]["optimistic"]["warning"]


def test_time_of_ranking_and_cutting_counts(stamp: Path) -> None:
    about = record(stamp)
    parts = ("training_seconds", "validation_seconds", "pruning_seconds")
    assert about["pruning_seconds"] > 0
    assert about["device_seconds"] == pytest.approx(sum(about[part] for part in parts), abs=0.01)


def test_nothing_is_left_in_the_work_folder(stamp: Path) -> None:
    assert not (stamp / "work").exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", PRUNING[1:])
def test_the_random_rules_run_and_repeat(data: Path, tmp_path: Path, strategy: str) -> None:
    found = []
    for name in ("one", "two"):
        run_pruning(task(data, tmp_path / name, strategy))
        found.append(contents(tmp_path / name))
    assert found[0] == found[1]


class Killed(BaseException):
    """As a kill: nothing may catch it and tidy up."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    original, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise Killed
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


MOMENTS = [
    (loop, "train_step", 9),  # amid an epoch of the first recovery
    (module, "_close", 2),  # after the last epoch of an iteration
    (module, "cut_state", 2),  # amid a cut
    (module, "with_network", 1),
    (loop, "finish_epoch", 6),
    (module, "write_pruning", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("owner", "name", "call"), MOMENTS)
def test_a_killed_pruning_goes_on_bit_for_bit(
    owner: Any,
    name: str,
    call: int,
    data: Path,
    stamp: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = task(data, tmp_path, recipe=EVERYTHING)
    with monkeypatch.context() as patch:
        kill_at(patch, owner, name, call)
        with pytest.raises(Killed):
            run_pruning(again)
    assert not (tmp_path / "out" / "run.json").exists()
    begun = []
    original = module.build_within_memory

    def spied(present: TrainingJob, *arguments: Any) -> TrainingState:
        begun.append((present.model["arguments"]["widths"], arguments[-1] is not None))
        return original(present, *arguments)

    monkeypatch.setattr(module, "build_within_memory", spied)
    run_pruning(again)
    assert contents(tmp_path) == contents(stamp)
    assert begun[0][1], "it started anew instead of going on"


@pytest.mark.parametrize("moment", ["keep", "remove"])
def test_a_pruning_that_is_killed_at_its_end_is_not_done_again_from_nothing(
    moment: str, data: Path, stamp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = task(data, tmp_path, recipe=EVERYTHING, finished="both")
    with monkeypatch.context() as patch:
        owner = module if moment == "keep" else module.Checkpoint
        kill_at(patch, owner, moment, 1)
        with pytest.raises(Killed):
            run_pruning(again)
    for name in (*FILES, "test_curve.csv", "run.json"):  # as Snakemake removes the outputs
        (tmp_path / "out" / name).unlink()
    trained = []
    monkeypatch.setattr(module, "train_stage", spy(module.train_stage, trained))
    run_pruning(again)
    assert contents(tmp_path) == contents(stamp)
    # with the state, the last iteration alone is closed again; with kept results, nothing is done
    assert len(trained) == (1 if moment == "keep" else 0)


def spy(function: Any, calls: list[Any]) -> Any:
    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return function(*arguments, **options)

    return called


def test_a_finished_pruning_whose_outputs_were_removed_is_taken_from_work(
    data: Path, stamp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = task(data, tmp_path, recipe=EVERYTHING, finished="both")
    run_pruning(again)
    assert not (tmp_path / "work/iterations").exists()
    for name in (*FILES, "test_curve.csv", "run.json"):
        (tmp_path / "out" / name).unlink()
    capsys.readouterr()
    run_pruning(again)
    assert "finished in an earlier attempt" in capsys.readouterr().err
    assert contents(tmp_path) == contents(stamp)


@pytest.mark.parametrize("call", [2, 11])
def test_a_signal_saves_and_leaves_and_the_next_start_goes_on(
    call: int, data: Path, stamp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = task(data, tmp_path, recipe=EVERYTHING, save_interval=1e9)
    original, calls = loop.train_step, [0]

    def signalled(training: TrainingState) -> None:
        original(training)
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", signalled)
        with pytest.raises(Interrupted, match="SIGTERM"):
            run_pruning(again)
    run_pruning(again)
    assert contents(tmp_path) == contents(stamp)


def test_other_settings_do_not_go_on_from_a_state(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        kill_at(patch, module, "cut_state", 2)
        with pytest.raises(Killed):
            run_pruning(task(data, tmp_path))
    run_pruning(task(data, tmp_path, settings=replace(SETTINGS, importance="l2")))
    assert "made with other settings, code or data" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_optimiser_state_goes_on_unless_a_fresh_one_is_asked_for(
    kind: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public code loses it at each iteration."""
    recipe = replace(TINY, batch_size=2, optimiser=Optimiser(name=kind, lr=1e-2))
    seen: list[dict[str, Any]] = []
    original = module.with_network

    def spied(*arguments: Any) -> TrainingState:
        changed = original(*arguments)
        seen.append(copy.deepcopy(changed.optimiser.state_dict()))
        return changed

    monkeypatch.setattr(module, "with_network", spied)
    for choice in ("keep", "fresh"):
        settings = replace(SETTINGS, optimiser_state=choice, iterations=1)
        run_pruning(task(data, tmp_path / choice, settings=settings, recipe=recipe))
    kept, fresh = seen
    key = "exp_avg" if kind == "adam" else "momentum_buffer"
    assert all(float(entry[key].abs().sum()) > 0 for entry in kept["state"].values())
    if kind == "adam":
        assert {float(entry["step"]) for entry in kept["state"].values()} == {4.0}  # 2 x 2 steps
    assert fresh["state"] == {}


def test_best_scores_start_anew_with_each_network(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Public code carries best and counter of early stopping across architectures."""
    seen = []
    original = module.with_network

    def spied(*arguments: Any) -> TrainingState:
        changed = original(*arguments)
        progress = changed.progress
        seen.append(
            (progress.best_score, progress.best_weights, progress.epochs_without_improvement)
        )
        return changed

    monkeypatch.setattr(module, "with_network", spied)
    stopping = EarlyStopping(patience=1)
    run_pruning(task(data, tmp_path, recipe=replace(TINY, batch_size=2, early_stopping=stopping)))
    assert seen == [(-float("inf"), {}, 0)] * 2
    assert record(tmp_path)["epochs"] == 8  # early stopping never cuts a recovery short


def test_targeted_dropout_acts_in_the_network_that_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = module.train_stage

    def spied(
        present: TrainingJob, training: TrainingState, *arguments: Any, **options: Any
    ) -> None:
        model = training.model
        seen.append({n: m.p for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout3d)})
        original(present, training, *arguments, **options)

    monkeypatch.setattr(module, "train_stage", spied)
    run_pruning(task(data, tmp_path))
    first, *later = seen
    assert set(first.values()) == {0.05}
    for probabilities in later:
        assert probabilities.keys() == first.keys()  # none added
        assert max(probabilities.values()) == pytest.approx(0.1)
        assert len(set(probabilities.values())) > 1
    seen.clear()
    off = replace(SETTINGS, targeted_in=("largest_layer",))
    run_pruning(task(data, tmp_path / "off", settings=off))
    assert all(set(probabilities.values()) == {0.05} for probabilities in seen)


@pytest.mark.parametrize(
    ("changes", "iterations", "reason"),
    [
        ({"stop_parameters": 1_680}, 1, "parameters are at most 1,680"),
        ({"iterations": 50, "channels_per_step": 9, "least_width": 2}, 1, "least width"),
        ({"iterations": 1}, 1, "1 iterations are done"),
    ],
)
def test_it_stops_by_size_by_iterations_and_when_nothing_can_go(
    changes: dict[str, Any], iterations: int, reason: str, data: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, recovery_epochs=1, first_epochs=1, **changes)
    run_pruning(task(data, tmp_path, "largest_layer", settings))
    about = record(tmp_path)
    assert about["iterations"] == iterations
    assert reason in about["stopped_because"]


def row(iteration: int, parameters: int, dice: float | None) -> dict[str, Any]:
    return {"iteration": iteration, "parameters": parameters, "dice": dice}


def test_it_stops_when_dice_falls(data: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, iterations=9, stop_dice_drop=0.05)
    given = task(data, tmp_path, settings=settings)
    falling = [row(0, 9, 0.8), row(1, 8, 0.7)]
    assert "0.1000 below" in str(reason_to_stop(given, falling, can_shrink=True))
    assert reason_to_stop(given, [row(0, 9, 0.8), row(1, 8, 0.76)], can_shrink=True) is None
    assert "inf below" in str(
        reason_to_stop(given, [row(0, 9, 0.8), row(1, 8, None)], can_shrink=True)
    )


def test_the_smallest_within_the_tolerance_is_chosen() -> None:
    found = [row(0, 9, 0.80), row(1, 8, 0.81), row(2, 7, 0.81), row(3, 6, 0.80), row(4, 5, None)]
    assert chosen_row(found, PruneSettings())["iteration"] == 2
    assert chosen_row(found, PruneSettings(tolerance=0.011))["iteration"] == 3


def test_controls_have_the_widths_the_size_and_the_epochs_of_the_stamp_run(
    data: Path, stamp: Path
) -> None:
    chosen = record(stamp)["chosen"]
    for strategy in ("scratch", "flat"):
        place = stamp.parent / strategy
        run_pruning(task(data, place, strategy, recipe=EVERYTHING))
        about = record(place)
        assert about["epochs"] == record(stamp)["epochs"]
        assert len(rows(place / "out" / "trajectory.csv")) == 1
        arguments = about["chosen"]["model"]["arguments"]
        if strategy == "scratch":
            assert arguments == chosen["model"]["arguments"]
            assert about["chosen"]["parameters"] == chosen["parameters"]
        else:
            assert len(set(arguments["widths"])) == 1
        assert about["preset"] == f"tiny_{strategy}"


def test_the_flat_control_is_the_nearest_in_parameters() -> None:
    binary = Task(("MR",), {"a": 1})
    model = {"preset": "u", "module": "unet", "name": "UNet"}
    model = model | {"arguments": {"widths": [4, 8, 16, 32, 64], "convs_per_block": 2}}

    def width(parameters: int) -> int:
        return int(flat_arguments(model, binary, parameters)["widths"][0])

    assert parameters_of(model, binary) == 353_949
    assert width(9_929) == 4  # lunet_small_4f
    assert width(5_650) == 3
    assert width((5_650 + 9_929) // 2) == 3
    assert width((5_650 + 9_929) // 2 + 1) == 4
    assert width(1) == 1
    odd = {**model, "arguments": {"width": 4}}
    with pytest.raises(ConfigError, match="flat counterpart"):
        flat_arguments(odd, binary, 100)


def test_impossible_starts_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'stamp'"):
        starting_job(task(data, tmp_path, "stampp"))
    with pytest.raises(ConfigError, match="Prune with --strategy stamp first"):
        starting_job(replace(task(data, tmp_path, "scratch"), like=None))
    write_json(tmp_path / "run.json", {"epochs": 3})
    with pytest.raises(DataError, match="chosen: missing"):
        starting_job(replace(task(data, tmp_path, "flat"), like=tmp_path / "run.json"))
    grn = {"preset": "m", "module": "mednext", "name": "MedNeXt"}
    grn |= {"arguments": {"width": 2, "blocks": [1, 1, 1], "grn": True}}
    with pytest.raises(ConfigError, match="global response normalisation"):
        run_pruning(task(data, tmp_path / "grn", model=grn))
    assert not (tmp_path / "grn" / "out").exists()


def test_a_diverging_training_is_told_in_the_user_s_words(data: Path, tmp_path: Path) -> None:
    hot = replace(TINY, batch_size=2, optimiser=Optimiser(name="sgd", lr=1e30))
    with pytest.raises(TrainingError, match=r"optimiser\.lr"):
        run_pruning(task(data, tmp_path, recipe=hot))
    assert not (tmp_path / "out").exists()


def test_learning_rates_span_the_whole_course(data: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, batch_size=2, schedule=Schedule("cosine"))
    run_pruning(task(data, tmp_path, recipe=recipe))
    rates = [float(row["lr"]) for row in rows(tmp_path / "out" / "history.csv")]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 8


def test_mednext_and_nested_networks_are_pruned_too(data: Path, tmp_path: Path) -> None:
    nested = {"preset": "n", "module": "unetpp", "name": "UNetPlusPlus"}
    nested |= {"arguments": {"widths": [2, 3], "convs_per_block": 1}}
    mednext = {"preset": "m", "module": "mednext", "name": "MedNeXt"}
    mednext |= {"arguments": {"width": 2, "blocks": [1, 1, 1], "dropout": 0.05}}
    for model in (nested, mednext):
        settings = replace(SETTINGS, first_epochs=1, recovery_epochs=1, iterations=1)
        place = tmp_path / str(model["preset"])
        run_pruning(task(data, place, settings=settings, model=model))
        found = rows(place / "out" / "trajectory.csv")
        assert int(found[1]["parameters"]) < int(found[0]["parameters"])
        load_model(place / "out")


def test_a_supervised_residual_network_of_a_planned_topology_is_pruned(
    data: Path, tmp_path: Path
) -> None:
    arguments = {
        "widths": [3, 4, 5],
        "strides": [[1, 1, 1], [2, 2, 1], [2, 2, 2]],
        "kernels": [[3, 3, 1], [3, 3, 3], [3, 3, 3]],
        "norm": "instance",
        "activation": "leaky_relu",
        "order": "norm_activation",
        "downsampling": "convolution",
        "residual": True,
        "convs_per_block": [3, 2, 2],
        "decoder_convs": 1,
        "deep_supervision": True,
    }
    recipe = replace(TINY, batch_size=2, deep_supervision="halving")
    settings = replace(SETTINGS, first_epochs=1, recovery_epochs=1, channels_per_step=3)
    given = {"model": MODEL | {"arguments": arguments}, "recipe": recipe}
    run_pruning(task(data, tmp_path / "stamp", settings=settings, **given))
    trajectory = rows(tmp_path / "stamp" / "out" / "trajectory.csv")
    assert [int(row["channels"]) for row in trajectory] == [19, 19 - 3, 19 - 6]
    model = load_model(tmp_path / "stamp" / "out" / "last.safetensors")
    streams = [model.plan.widths[name][-1] for name in ("encoder.0", "encoder.1", "bottleneck")]
    assert streams == [3, 4, 5]
    assert model.strides == ((1, 1, 1), (2, 2, 1), (2, 2, 2))
