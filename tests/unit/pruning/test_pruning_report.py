"""Tables and figures of a pruning study with planted numbers, beside the study's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from study_of_numbers import write_study

from lunet.errors import ConfigError, DataError
from lunet.files import write_csv, write_json
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures import pruning as figures_pruning
from lunet.reporting.html.page import Block, Section, html_page
from lunet.reporting.html.report import others_part, section_part
from lunet.reporting.markup import read_table
from lunet.reporting.outputs import figure_row, table_row
from lunet.reporting.pruned import layer_columns, read_prunings
from lunet.reporting.result_files import ResultFiles, from_inputs
from lunet.reporting.tables import pruning as tables_pruning

PLANTED = {  # test Dice of each case, validation Dice, best on test, parameters
    "stamp": (0.80, 0.81, 0.84, 40_000),
    "largest_layer": (0.80, 0.80, 0.82, 30_000),
    "flat": (0.85, 0.84, 0.85, 39_025),
}
SETTINGS = {"statistics": {"resamples": 200, "margin": 0.01}}


def write_pruning(root: Path, strategy: str, seed: int) -> Path:
    """One run: trajectory, record, and per-case scores that differ between seeds by 0.02."""
    test, validation, best, parameters = PLANTED[strategy]
    folder = root / "pruning" / "unet_small_2f" / strategy / "fold-0" / f"seed-{seed}"
    last = 0 if strategy == "flat" else 3
    rows = [
        {"iteration": i, "epochs": 2 + i, "best_epoch": 1 + i, "parameters": 88_807 - 9_000 * i}
        | {"macs": 10**8 - 10**7 * i, "channels": 184 - 16 * i, "dice": validation - 0.01 * i}
        | {"val_loss": 0.2, "removed": "", "channels_encoder.0.0": 2, "channels_up.0": 2}
        | {"channels_decoder.0.0": 2, "channels_bottleneck.0": 32 - 8 * i}
        for i in range(last + 1)
    ]
    write_csv(folder / "trajectory.csv", list(rows[0]), rows)
    chosen = {"iteration": last, "parameters": parameters, "macs": 7 * 10**7, "channels": 136}
    shift = 0.01 if seed else -0.01
    record: dict[str, Any] = {
        "preset": f"unet_small_2f_{strategy}",
        "pruned_preset": "unet_small_2f",
        "strategy": strategy,
        "fold": 0,
        "seed": seed,
        "epochs": 5,
        "device_seconds": 1800 + 3600 * seed,
        "chosen": chosen | {"dice": validation + shift},
        "test": {"dice": test, "optimistic": {"iteration": 1, "dice": best}},
    }
    write_json(folder / "run.json", record)
    cases = [
        {"preset": record["preset"], "fold": 0, "seed": seed, "case": f"case_00{i:02d}"}
        | {"group": f"s00{i // 2:02d}", "label": label, "status": "ok"}
        | {"dice": test + shift + 0.002 * (i % 3 - 1)}
        for i in range(20)
        for label in ("anterior", "posterior")
    ]
    write_csv(folder / "metrics.csv", list(cases[0]), cases)
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> ResultFiles:
    root = write_study(tmp_path_factory.mktemp("results"), folds=1, seeds=1)
    runs = [write_pruning(root, strategy, seed) for strategy in PLANTED for seed in (0, 1)]
    files = [str(run / name) for run in runs for name in ("trajectory.csv", "metrics.csv")]
    for preset in ("unet_small_2f", "lunet_small_4f"):
        run = root / "runs" / preset / "fold-0" / "seed-0"
        files += [str(root / "presets" / preset / "efficiency.json")]
        files += [str(run / "metrics.csv"), str(run / "run.json")]
    return from_inputs(files)


def statistics(**changes: Any) -> StatisticsSettings:
    return StatisticsSettings(resamples=200, **changes)


def test_the_table_has_means_over_runs_and_marks_the_optimistic_value(sources: ResultFiles) -> None:
    table = tables_pruning.pruning(sources, statistics())
    found = {record["preset"]: record for record in table.records}
    assert list(found) == [f"unet_small_2f_{name}" for name in PLANTED] + [
        "unet_small_2f",
        "lunet_small_4f",
    ]
    for strategy, (test, validation, best, parameters) in PLANTED.items():
        row = found[f"unet_small_2f_{strategy}"]
        assert row["runs"] == 2
        assert row["parameters"] == parameters
        assert row["validation_dice"] == pytest.approx(validation)
        assert row["test_dice_prepared"] == pytest.approx(test)
        optimistic = None if strategy == "flat" else pytest.approx(best)
        assert row["best_on_test_optimistic"] == optimistic
        assert row["test_mean"] == pytest.approx(test, abs=0.001)
        assert row["device_hours"] == pytest.approx(1.0)
    assert found["lunet_small_4f"]["parameters"] == 9_929
    assert found["lunet_small_4f"]["best_on_test_optimistic"] is None
    printed = {row[0].lines[0]: [cell.lines[0] for cell in row] for row in table.rows}
    assert "≤ 0.840" in printed["STAMP"]
    assert "an upper bound, not a result" in table.note
    for words in ("1.00 times as many as LUNet", "36.0 times as many as lunet_small_4f (0.0278)"):
        assert f"STAMP took 1.00 device hours per run, {words}" in table.note
    assert "times as many as unet_small_2f" not in table.note


def test_comparisons_are_the_study_s_against_stamp(sources: ResultFiles) -> None:
    pairs = (("lunet_small_4f", "unet_small_2f"),)  # the study's own are not asked here
    table = tables_pruning.pruning_comparisons(sources, statistics(margin=0.01, pairs=pairs))
    mean = {
        record["preset"]: record
        for record in table.records
        if record["label"] == "mean over labels"
    }
    assert {record["reference"] for record in table.records} == {"unet_small_2f_stamp"}
    assert mean["unet_small_2f_flat"]["difference"] == pytest.approx(0.05, abs=1e-9)
    assert mean["unet_small_2f_flat"]["verdict"] == "better"
    assert mean["unet_small_2f_largest_layer"]["difference"] == pytest.approx(0, abs=1e-9)


def test_the_channels_figure_shows_strategies_that_prune_from_input_to_output(
    sources: ResultFiles,
) -> None:
    trajectory = read_prunings(sources)[0].trajectory
    assert layer_columns(trajectory) == ["encoder.0.0", "bottleneck.0", "decoder.0.0"]
    data = figures_pruning.channels(sources, statistics()).data
    assert list(dict.fromkeys(data["strategy"])) == ["stamp", "largest_layer"]
    assert list(data.loc[data["strategy"] == "stamp", "bottleneck.0"]) == [32, 24, 16, 8]


def test_the_dice_figure_shows_courses_on_validation_and_networks_on_test(
    sources: ResultFiles,
) -> None:
    data = figures_pruning.dice(sources, statistics()).data
    tested = data[data["what"] == "test dice"].set_index("network")
    assert {"unet_small_2f", "lunet_small_4f", "unet_small_2f_flat"} <= set(tested.index)
    assert tested.loc["unet_small_2f_flat", "parameters"] == 39_025
    course = data[(data["what"] == "validation dice") & (data["strategy"] == "stamp")]
    assert len(course) == 2 * 4


@pytest.mark.slow
def test_equal_files_give_equal_bytes(sources: ResultFiles, tmp_path: Path) -> None:
    for name in ("pruning", "pruning_comparisons"):
        found = [
            [path.read_bytes() for path in tables_pruning.write_table(name, sources, SETTINGS, b)]
            for b in (tmp_path / "a" / name, tmp_path / "b" / name)
        ]
        assert found[0] == found[1]
    for name in ("pruning_channels", "pruning_dice"):
        base = tmp_path / name
        first = [p.read_bytes() for p in figures_pruning.write_figure(name, sources, {}, base)]
        again = [p.read_bytes() for p in figures_pruning.write_figure(name, sources, {}, base)]
        assert first == again


def test_wrong_inputs_are_told(sources: ResultFiles, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no trajectory\.csv"):
        tables_pruning.pruning(ResultFiles(metrics=sources.metrics), statistics())
    with pytest.raises(ConfigError, match="did you mean 'pruning'"):
        table_row("prunin")
    with pytest.raises(ConfigError, match="pruning_dice"):
        figure_row("pruning_dic")
    other = write_pruning(tmp_path, "stamp", 0)
    flat = ResultFiles(trajectories=(write_pruning(tmp_path, "flat", 0) / "trajectory.csv",))
    with pytest.raises(ConfigError, match="no strategy that removes channels"):
        figures_pruning.channels(flat, statistics())
    write_json(other / "run.json", {"preset": "unet_small_2f"})
    with pytest.raises(DataError, match=r"run\.json: strategy: missing"):
        read_prunings(ResultFiles(trajectories=(other / "trajectory.csv",)))


def test_hours_stand_beside_those_of_networks_without_a_search(sources: ResultFiles) -> None:
    data = figures_pruning.FIGURES["pruning_hours"](sources, statistics()).data
    table = tables_pruning.pruning(sources, statistics())
    assert data["preset"].tolist() == [row["preset"] for row in table.records]
    assert data["device_hours"].tolist() == [row["device_hours"] for row in table.records]
    kinds = dict(zip(data["preset"], data["kind"], strict=True))
    assert kinds["unet_small_2f_stamp"] == kinds["unet_small_2f_largest_layer"] == "search"
    assert kinds["unet_small_2f_flat"] == "control"
    assert kinds["lunet_small_4f"] == "preset"
    assert data["ratio"].iloc[0] == 1
    assert data.set_index("preset").loc["lunet_small_4f", "ratio"] == pytest.approx(1 / 36)


def page_of(blocks: list[Block]) -> str:
    return html_page("t", "", [Section("part", "Part", blocks)])


def test_the_report_has_a_part_for_pruning_and_other_data(
    sources: ResultFiles, tmp_path: Path
) -> None:
    tables, figures = tmp_path / "whole" / "tables", tmp_path / "whole" / "figures"
    tables_pruning.write_table("pruning", sources, SETTINGS, tables / "pruning")
    figures_pruning.write_figure("pruning_hours", sources, {}, figures / "pruning_hours")
    shown = {"pruning": read_table(tables / "pruning.json")}
    text = page_of(section_part(shown, figures, "pruning"))
    assert "36.0 times as many as lunet_small_4f" in text
    assert "Device hours of a run" in text
    figures_pruning.write_figure("pruning_dice", sources, {}, figures / "boxplot")
    (tables / "pruning.json").rename(tables / "claims.json")
    text = page_of(others_part({"whole": tmp_path / "whole"}))
    assert "<h3>whole</h3>" in text
    assert "Distribution over cases" in text
    assert "36.0 times as many as lunet_small_4f" in text
    assert others_part({}) == []
