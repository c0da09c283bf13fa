"""Runs of one preset were trained in one arithmetic, or the tables are refused or say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_of_numbers import write_study

from lunet.errors import DataError
from lunet.reporting.arithmetic import mixed_arithmetic
from lunet.reporting.outputs import table_row
from lunet.reporting.result_files import Grid, ResultFiles, from_grid
from lunet.reporting.tables.index import make_table

PRESET = "lunet_small_2f"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A study in which one of a preset's two folds was trained in bf16."""
    root = write_study(tmp_path, folds=2, seeds=1)
    path = root / f"runs/{PRESET}/fold-1/seed-0/run.json"
    record = json.loads(path.read_text())
    record["engine"]["precision"] = "bf16"
    path.write_text(json.dumps(record))
    return root


def sources(root: Path) -> ResultFiles:
    grid = Grid(root, (PRESET, "unet_small_2f"), (0, 1), (0,))
    return from_grid(grid, table_row("accuracy").needs)


def test_tables_of_mixed_arithmetic_are_refused(results: Path) -> None:
    with pytest.raises(DataError, match=f"{PRESET} in bf16 on cpu and in fp32 on cpu"):
        make_table("accuracy", sources(results), {"statistics": {"resamples": 100}})


def test_or_say_so_where_the_configuration_allows_it(results: Path) -> None:
    settings = {"statistics": {"resamples": 100}, "report": {"mixed_arithmetic": True}}
    note = make_table("accuracy", sources(results), settings).note
    assert f"Trained in more than one arithmetic: {PRESET} in bf16 on cpu and in fp32" in note


def test_threads_and_runs_without_a_record_do_not_count() -> None:
    engine = {"device": "cuda", "precision": "bf16", "memory_format": "contiguous", "compile": True}
    runs = [
        {"preset": "a", "engine": engine | {"threads": 1}},
        {"preset": "a", "engine": engine | {"threads": 2}},
        {"preset": "atlas_prior"},
    ]
    assert mixed_arithmetic(runs) == {}
    runs.append({"preset": "a", "engine": engine | {"compile": False}})
    words = ["bf16 on cuda contiguous", "bf16 on cuda contiguous compiled"]
    assert mixed_arithmetic(runs) == {"a": words}
