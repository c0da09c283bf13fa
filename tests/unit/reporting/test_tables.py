"""Tables: right numbers, the same bytes, refusal of files that don't belong together."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT
from study_of_numbers import DICE, MACS, write_study

from lunet.cli import main
from lunet.errors import ConfigError, DataError
from lunet.files import write_json
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_json
from lunet.reporting.costs import busy, flat
from lunet.reporting.figures.paired import differences
from lunet.reporting.markup import (
    Column,
    Table,
    cell,
    markdown,
    read_table,
    write,
)
from lunet.reporting.numbers import decimals, fixed, significant
from lunet.reporting.outputs import TABLES as DECLARED
from lunet.reporting.outputs import made_by, table_row
from lunet.reporting.result_files import (
    Grid,
    ResultFiles,
    from_grid,
    from_inputs,
    read_cases,
    read_runs,
    with_required,
)
from lunet.reporting.tables import pruning as tables_pruning
from lunet.reporting.tables.claims import compared
from lunet.reporting.tables.costs import conditions, efficiency, star
from lunet.reporting.tables.index import TABLES, make_table, write_table

PRESETS = (*DICE, "atlas_prior")
PUBLISHED = ROOT / "config" / "published" / "brats2021.csv"
STATISTICS = {"resamples": 200, "reference": "lunet_small_2f"}
SETTINGS = {"statistics": STATISTICS, "report": {"published": str(PUBLISHED)}}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), folds=2, cases=12, epochs=3)


def sources(study: Path, name: str, presets: tuple[str, ...] = PRESETS) -> ResultFiles:
    grid = Grid(study, presets, (0, 1), (0, 1), study / "manifest.json")
    return from_grid(grid, table_row(name).needs)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_the_same_files_give_the_same_bytes(name: str, study: Path, tmp_path: Path) -> None:
    one, two = (
        write_table(name, sources(study, name), SETTINGS, tmp_path / str(k) / name)
        for k in range(2)
    )
    assert [path.suffix for path in one] == [".csv", ".md", ".tex", ".json"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
    assert all(path.stat().st_size for path in one)


def test_every_table_has_one_row_and_one_function() -> None:
    assert set(TABLES) | set(tables_pruning.TABLES) == set(DECLARED)
    assert set(tables_pruning.TABLES) == set(made_by(DECLARED, "pruning_table"))


@pytest.mark.parametrize("name", TABLES)
def test_json_holds_what_is_printed_and_the_numbers_of_the_csv(
    name: str, study: Path, tmp_path: Path
) -> None:
    table = make_table(name, sources(study, name), SETTINGS)
    paths = {path.suffix: path for path in write(table, tmp_path / name)}
    read = read_table(paths[".json"])
    assert dataclasses.replace(read, records=()) == dataclasses.replace(table, records=())
    rows = pd.read_csv(paths[".csv"], dtype="str", keep_default_na=False).to_dict("records")
    told = [
        {key: "" if row.get(key) is None else str(row[key]) for key in rows[0]}
        for row in read.records
    ]
    assert told == rows


def test_accuracy_has_the_means_of_the_files(study: Path) -> None:
    table = make_table("accuracy", sources(study, "accuracy"), SETTINGS)
    found = pd.DataFrame(table.records).set_index(["preset", "label"])
    rows = pd.concat(
        pd.read_csv(path) for path in (study / "runs" / "unet_small_4f").rglob("metrics.csv")
    )
    posterior = rows[rows["label"] == "posterior"].groupby("case")["dice"].mean()
    row = found.loc[("unet_small_4f", "posterior")]
    assert row["dice_mean"] == pytest.approx(posterior.mean())
    assert row["dice_sd"] == pytest.approx(posterior.std())
    assert row["n"] == 24
    assert row["dice_ci_low"] < row["dice_mean"] < row["dice_ci_high"]
    both = rows.groupby(["seed", "case"])["dice"].mean().groupby("case").mean()
    assert found.loc[("unet_small_4f", "mean over labels"), "dice_mean"] == pytest.approx(
        both.mean()
    )
    assert "atlas_prior" in found.index.get_level_values("preset")


def test_missed_structures_are_counted_and_named(study: Path) -> None:
    table = make_table("accuracy", sources(study, "accuracy"), SETTINGS)
    missed = {(r["preset"], r["label"]): r["n_missed"] for r in table.records}
    assert missed["lunet_small_2f", "anterior"] == 2
    assert missed["lunet_small_2f", "posterior"] == 0
    failures = make_table("failures", sources(study, "failures"), SETTINGS).records
    worst = next(r for r in failures if r["preset"] == "lunet_small_2f")
    assert (worst["case"], worst["status"], worst["dice"]) == ("case_0103", "missed", 0)


def test_planted_loss_is_found_and_bold_only_where_tests_say_so(study: Path) -> None:
    table = make_table("comparisons", sources(study, "comparisons"), SETTINGS)
    verdicts = {(r["preset"], r["reference"], r["label"]): r["verdict"] for r in table.records}
    assert verdicts["lunet_small_4f", "lunet_small_2f", "posterior"] == "better"
    for row in table.rows:
        assert row[-1].bold == (row[-1].lines != ("not resolved",))
        assert not any(item.bold for item in row[:-1])
    accuracy = make_table("accuracy", sources(study, "accuracy"), SETTINGS)
    assert not any(item.bold for row in accuracy.rows for item in row)


def test_costs_name_unit_device_and_instability(study: Path) -> None:
    table = make_table("efficiency", sources(study, "efficiency"), SETTINGS)
    assert table.caption == "Cost of each network, input 64 × 64 × 64 voxels, on CPU model."
    starred = [row[0].lines[0] for row in table.rows if row[4].lines[0].endswith("*")]
    assert table.columns[4].title == "Latency p50 (ms)"
    assert starred == ["unet_small_2f"]
    for title in ("p95 (ms)", "Jitter (ms)", "Throughput (images/s)"):
        index = [column.title for column in table.columns].index(title)
        assert [row[0].lines[0] for row in table.rows if row[index].lines[0][-1] == "*"] == starred
    assert table.records[0]["throughput_batch"] == 4
    assert table.records[0]["training_memory_mib"] == 1024


@pytest.mark.parametrize(
    ("change", "latency", "training"),
    [
        ({}, 0, 0),
        ({"busy": True}, 1, 1),
        ({"busy": False}, 0, 0),
        ({"training_step": {"p50_ms": 1.0, "unstable": True}}, 0, 1),
    ],
)
def test_a_busy_machine_marks_all_times(change: dict, latency: int, training: int) -> None:
    row = {"batch": 1, "engine": "eager", "precision": "fp32", "p50_ms": 2.0, "unstable": False}
    step = {"training_step": {"p50_ms": 1.0, "unstable": False}}
    cost = {"latency": [row], "training_step_ms": 1.0, **step, **change}
    numbers = flat(cost)
    assert (numbers["unstable"], numbers["training_step_unstable"]) == (latency, training)
    assert star(numbers, "latency_p50_ms") == "*" * latency
    assert star(numbers, "training_step_ms") == "*" * training
    assert star(numbers, "parameters") == ""
    assert busy({"a": cost}).startswith("The times of a were") is bool(latency or training)


def test_times_of_different_devices_are_not_compared() -> None:
    costs = {name: {"device": {"type": "cpu", "cpu": name}} for name in ("A", "B")}
    assert "on different devices (A; B), whose times cannot be compared" in conditions(costs)


def test_one_preset_alone_gives_empty_comparisons(study: Path) -> None:
    for name in ("comparisons", "claims"):
        alone = sources(study, name, ("lunet_small_2f", "atlas_prior"))
        assert make_table(name, alone, SETTINGS).rows == ()


def test_nothing_is_compared_that_nobody_asked_for(study: Path) -> None:
    table = make_table("claims", sources(study, "claims"), {"statistics": {"resamples": 100}})
    assert table.rows == ()
    assert "No comparison is configured" in table.note


def test_all_pairs_on_request_with_the_cheaper_one_as_candidate(study: Path) -> None:
    kinds = with_required(table_row("claims").needs, {"pairs": "all"})
    grid = Grid(study, PRESETS, (0, 1), (0, 1), study / "manifest.json")
    settings = {"statistics": {"resamples": 100, "pairs": "all", "cost": "macs"}}
    table = make_table("claims", from_grid(grid, kinds), settings)
    pairs = {(row["preset"], row["reference"]) for row in table.records}
    assert len(pairs) == 10
    assert all(MACS[one] < MACS[other] for one, other in pairs)
    with pytest.raises(ConfigError, match="macs of unet_small_4f are not known"):
        make_table("claims", sources(study, "claims"), settings)


def test_without_a_margin_none_is_spoken_of(study: Path) -> None:
    settings = {"statistics": STATISTICS | {"margin": 0}}
    table = make_table("claims", sources(study, "claims"), settings)
    words = [table.note, *(row["sentence"] for row in table.records)]
    assert not any("margin" in text or "non-inferior to" in text for text in words)


def test_another_metric_states_its_own_margin(study: Path) -> None:
    settings = {"statistics": STATISTICS | {"metric": "hd95"}}
    with pytest.raises(ConfigError, match=r"statistics\.margin: none given, hd95 needs its own"):
        make_table("claims", sources(study, "claims"), settings)


def test_figure_and_table_share_one_family_of_tests(study: Path) -> None:
    statistics = StatisticsSettings(**STATISTICS)
    cases = read_cases(sources(study, "claims"))
    table = compared(cases, statistics).set_index(["preset", "label"])
    for row in differences(cases, statistics).data.to_dict("records"):
        same = table.loc[(row["preset"], row["label"])]
        assert (row["p_difference_holm"], row["verdict"]) == (
            same["p_difference_holm"], same["verdict"],
        )  # fmt: skip


def test_a_miss_is_a_rate_and_no_distance_where_found(study: Path) -> None:
    table = make_table("detection", sources(study, "detection"), SETTINGS)
    rows = {(row["preset"], row["label"]): row for row in table.records}
    missing = rows["lunet_small_2f", "anterior"]  # one of 24 cases, in both trainings
    assert missing["missed"] == pytest.approx(1 / 24)
    assert missing["missed_low"] < 1 / 24 < missing["missed_high"]
    assert missing["hd95_found_mean"] < 5
    accuracy = make_table("accuracy", sources(study, "accuracy"), SETTINGS)
    whole = {(row["preset"], row["label"]): row for row in accuracy.records}
    assert whole["lunet_small_2f", "anterior"]["hd95_mean"] > missing["hd95_found_mean"] + 2


def test_limits_are_told_of_presets_and_of_comparisons(study: Path) -> None:
    table = make_table("limits", sources(study, "limits"), SETTINGS)
    by_pair = {(r["preset"], r["reference"], r["label"]): r for r in table.records}
    assert by_pair["unet_small_4f", "", "anterior"]["n_seeds"] == 2
    assert by_pair["atlas_prior", "", "anterior"]["limit"] == "subjects"
    row = by_pair["unet_small_4f", "lunet_small_2f", "anterior"]
    assert 0 <= row["share_trainings"] <= 1
    assert row["error"] > 0


def test_protocol_tells_settings_versions_and_commit(study: Path) -> None:
    records = make_table("protocol", sources(study, "protocol"), SETTINGS).records
    values = {r["key"]: r["value"] for r in records}
    assert values["statistics.resamples"] == "200"
    assert values["made_with.packages.torch"] == "2.13.0"
    assert values["made_with.git.commit"] == "0123abc"
    assert values["lunet_small_4f.recipe.optimiser.name"] == "adam"


@pytest.mark.parametrize("key", ["settings", "code", "data"])
def test_runs_made_differently_are_refused(study: Path, tmp_path: Path, key: str) -> None:
    paths = []
    for fold in (0, 1):
        path = tmp_path / f"runs/unet_small_4f/fold-{fold}/seed-0/run.json"
        run = read_json(study / f"runs/unet_small_4f/fold-{fold}/seed-0/run.json")
        other = {"other": 1} if key == "settings" else "other"
        write_json(path, run | ({key: other} if fold else {}))
        paths.append(path)
    with pytest.raises(DataError, match=f"its {key} differ from .*fold-0"):
        read_runs(ResultFiles(runs=tuple(paths)))


def test_inputs_may_be_files_folders_and_lists(study: Path, tmp_path: Path) -> None:
    run = study / "runs/unet_small_4f/fold-0/seed-0"
    listing = tmp_path / "list.txt"
    listing.write_text(f"{run / 'metrics.csv'}\n\n{study / 'presets/unet_small_4f'}\n")
    found = from_inputs([f"@{listing}", str(run / "run.json")])
    assert found.metrics == (run / "metrics.csv",)
    assert found.runs == (run / "run.json",)
    assert found.efficiency == (study / "presets/unet_small_4f/efficiency.json",)
    assert len(from_inputs([str(run)]).histories) == 1


def test_a_row_twice_and_a_missing_file_are_errors(study: Path) -> None:
    path = study / "runs/unet_small_4f/fold-0/seed-0/metrics.csv"
    with pytest.raises(DataError, match="occurs twice"):
        make_table("accuracy", ResultFiles(metrics=(path, path)), SETTINGS)
    with pytest.raises(DataError, match=r"fold-7.*missing"):
        from_grid(Grid(study, PRESETS, (7,), (0,)), ("metrics",))
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        table_row("acuracy")
    settings = {"report": {"metrics": ["dise"]}}
    with pytest.raises(ConfigError, match=r"report\.metrics.*'dise'"):
        make_table("accuracy", ResultFiles(metrics=(path,)), settings)


def test_command_writes_the_table_or_nothing(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["table", "joint", "--results", str(study), "--presets", "unet_small_4f", "atlas_prior"]
    words += ["--folds", "0", "1", "--settings", json.dumps(SETTINGS)]
    assert main([*words, "--out", str(tmp_path / "joint")]) == 0
    assert "353,949" in (tmp_path / "joint.md").read_text()
    assert main([*words, "--seeds", "5", "--out", str(tmp_path / "bad")]) == 2
    assert "seed-5" in capsys.readouterr().err
    assert not list(tmp_path.glob("bad*"))


def test_numbers_are_rounded_by_their_uncertainty() -> None:
    assert [decimals(u) for u in (0.0114, 0.098, 1.3, 13.0, 0.0996, 0.0)] == [3, 3, 1, 0, 2, 3]
    assert fixed(-0.0001, 2) == "0.00"
    assert fixed(-1.234, 1) == "−1.2"
    assert [significant(v) for v in (0.954597, 46.3146, 12345.6, 0)] == [
        "0.955",
        "46.3",
        "12,300",
        "0",
    ]


def test_markup_escapes_and_reads_back(tmp_path: Path) -> None:
    rows = ((cell("a_b | 50 % & $x^2$"), cell("0.853 ± 0.042", "[0.841, 0.864]")),)
    rows += ((cell("c"), cell("better", bold=True)),)
    columns = (Column("Preset", text=True), Column("Dice"))
    table = Table("t", "A caption.", columns, rows, ({"a": 1.0},), note="A note.")
    write(table, tmp_path / "t")
    assert read_table(tmp_path / "t.json") == table
    assert "**better**" in markdown(table)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unet_small_4f, 0.853 [0.841, 0.864]", "unet_small_4f, 0.853 [0.841, 0.864]"),
        ("< 0.001", "< 0.001"),
        ("12.3* and * more", "12.3* and * more"),
        ("a | b\nc", "a \\| b c"),
        ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert(1)>"),
        ("[x](javascript:alert(1))", "[x]\\(javascript:alert(1))"),
        ("**bold** _it_ `code` ~~gone~~", r"\*\*bold\** \_it\_ \`code\` \~\~gone\~\~"),
        ("&lt;b&gt;", r"\&lt;b\&gt;"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, shown: str) -> None:
    table = Table("t", text, (Column(text, text=True),), ((cell(text),),), (), text)
    caption, _, head, _, row, _, note, _ = markdown(table).split("\n")
    assert (caption, note) == (shown, shown)
    assert head == row == f"| {shown} |"


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [[{"lines": ["1"], "bold": False}] * 3]},
        {"rows": [["text"]]},
        {"columns": None},
        {"note": None, "records": 3},
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, change: dict) -> None:
    table = Table("t", "A caption.", (Column("Dice"),), ((cell("1"),),), ({"a": 1.0},))
    paths = write(table, tmp_path / "t")
    write_json(paths[-1], read_json(paths[-1]) | change)
    with pytest.raises(DataError, match=r"t\.json: .*`lunet table`"):
        read_table(paths[-1])


def test_costs_that_did_not_fit_into_memory_are_named() -> None:
    head = {"engine": "eager", "precision": "fp32"}
    costs = {
        "big": {
            "parameters": 9,
            "latency": [],
            "left_out": [
                head | {"batch": 1, "reason": "out of memory: 9 GiB"},
                head | {"batch": 2, "engine": "onnx", "reason": "onnxruntime is not installed"},
            ],
            "out_of_memory": {"training_step": "out of memory"},
        },
        "small": {"parameters": 2, "latency": [head | {"batch": 1, "p50_ms": 3.0}]},
    }
    note = efficiency(costs).note
    named = "big (training_step, latency of eager fp32 at batch 1)."
    assert f"Not measured, because the memory was full: {named}" in note
    assert "memory was full" not in efficiency({"small": costs["small"]}).note
