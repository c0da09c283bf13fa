"""Metrics of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lunet.errors import ConfigError
from lunet.metrics.case import evaluate_case
from lunet.metrics.catalog import known_metrics, plugins, title
from lunet.study.config import parse
from lunet.study.study import Study

ROWS = """from lunet.metrics.catalog import Metric

ROW = Metric("nearest_mm", "Nearest", "border", "lower", definition="d", source="s", unit="mm",
             function="plugged_metrics.code:nearest")
"""
CODE = """def nearest(a, b):
    return float(min(a.min(), b.min()))
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with a metric."""
    package, about = tmp_path / "plugged_metrics", tmp_path / "plugged_metrics-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged-metrics\nVersion: 1.0\n")
    entry = "[lunet.metrics]\nnearest_mm = plugged_metrics.rows:ROW\n"
    (about / "entry_points.txt").write_text(entry)
    (package / "__init__.py").write_text("")
    (package / "rows.py").write_text(ROWS)
    (package / "code.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.cache_clear()
    yield package
    plugins.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plugged_metrics")]:
        del sys.modules[name]


def test_it_is_a_column_with_the_rules_of_its_kind(plugin: Path) -> None:
    reference, prediction = np.zeros((2, 9, 9, 9), bool)
    reference[2:4, 2:4, 2:4] = True
    empty = evaluate_case(reference, prediction, spacing=(1, 1, 2))
    assert empty["nearest_mm"][0] == empty["hd"][0]
    prediction[2:4, 2:4, 6:8] = True
    found = evaluate_case(reference, prediction, spacing=(1, 1, 2))
    assert found["nearest_mm"][0] == 6
    assert title("nearest_mm") == "Nearest (mm)"


def test_an_edit_of_its_code_evaluates_again_and_trains_nothing(plugin: Path) -> None:
    config = {
        "study": "s",
        "dataset": {"name": "phantom"},
        "presets": ["unet_small_1f"],
        "report": {"metrics": ["dice", "nearest_mm"]},
    }
    steps = ("evaluate", "train", "predict")
    before = {step: Study(parse(config)).digest(step, "unet_small_1f") for step in steps}
    (plugin / "code.py").write_text(CODE.replace("min(a.min(), b.min())", "a.min()"))
    after = {step: Study(parse(config)).digest(step, "unet_small_1f") for step in steps}
    assert [step for step in steps if after[step] != before[step]] == ["evaluate"]


@pytest.mark.parametrize(
    "rows", ["ROW = 3\n", ROWS.replace('"border"', '"volume"'), ROWS.replace(".code:", ".code.")]
)
def test_a_wrong_row_is_named(plugin: Path, rows: str) -> None:
    (plugin / "rows.py").write_text(rows)
    with pytest.raises(ConfigError, match=r"entry point nearest_mm of lunet\.metrics"):
        known_metrics()
