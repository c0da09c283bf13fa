"""One row and one function are a metric: everything that shows metrics shows a new one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from study_of_numbers import DICE, write_study

from lunet.cli import main
from lunet.errors import ConfigError
from lunet.metrics import catalog, overlap, surface
from lunet.metrics.case import evaluate_case
from lunet.metrics.catalog import (
    METRICS,
    Metric,
    case_columns,
    column_in,
    find_metric,
    names_of,
    title,
    unit_suffix,
)
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.examples import choose_cases
from lunet.reporting.figures.index import FIGURES, Material
from lunet.reporting.figures.style import style
from lunet.reporting.result_files import Grid, from_grid
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.index import make_table
from lunet.study.config import parse
from lunet.study.config_docs import manual

HD99 = Metric(
    "hd99",
    "HD99",
    "border",
    "lower",
    definition="larger of the 99th percentiles of both directions",
    source="a test",
    unit="mm",
)
STATISTICS = {"metric": "hd99", "margin": 0.5, "resamples": 100, "reference": "lunet_small_2f"}
PAIRS = [["lunet_small_4f", "unet_small_4f"], ["lunet_small_2f", "unet_small_2f"]]
SETTINGS = {"statistics": STATISTICS, "report": {"metrics": ["dice", "hd99"]}}
CONFIG = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["lunet_small_1f"]}
PRESETS = (*DICE, "atlas_prior")
COMPARED = ("joint", "comparisons", "claims", "failures")


def _hd99(a: np.ndarray, b: np.ndarray) -> float:
    return float(max(np.percentile(a, 99), np.percentile(b, 99)))


@pytest.fixture
def with_hd99(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a new metric is: a row of the catalog, and a function."""
    monkeypatch.setitem(METRICS, "hd99", HD99)
    monkeypatch.setattr(surface, "hd99", _hd99, raising=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_study(tmp_path_factory.mktemp("study"), folds=1, seeds=2, cases=12, epochs=3)
    for path in root.rglob("metrics.csv"):
        frame = pd.read_csv(path)
        far = 9.0 * (frame["preset"] == "lunet_small_2f")
        frame.assign(hd99=1.5 * frame["hd95"] + far).to_csv(path, index=False)
    return root


def grid(study: Path) -> Grid:
    return Grid(study, PRESETS, (0,), (0, 1))


def test_every_row_has_its_function() -> None:
    for module, kind in ((overlap, "overlap"), (surface, "border")):
        assert names_of(kind)
        assert all(callable(getattr(module, name)) for name in names_of(kind))


@pytest.mark.usefixtures("with_hd99")
def test_a_new_metric_is_measured_and_has_its_worst_value_where_a_mask_is_empty() -> None:
    reference, prediction = np.zeros((2, 30, 40), dtype=bool)
    reference[5:20, 5:20] = True
    prediction[5:20, 5:20] = True
    prediction[10, 20:29] = True  # a thin spur of 9 voxels
    row = evaluate_case(reference, prediction, spacing=(1, 1)).iloc[0]
    assert row["hd95"] < row["hd99"] <= row["hd"] == 9
    missed = evaluate_case(reference, reference & False, spacing=(1, 1)).iloc[0]
    assert missed["hd99"] == missed["hd"] == 50


@pytest.mark.usefixtures("with_hd99")
@pytest.mark.parametrize("name", ["accuracy", "summary", *COMPARED])
def test_every_table_of_scores_shows_it(name: str, study: Path) -> None:
    sources = from_grid(grid(study), ("metrics", "runs", "efficiency"))
    table = make_table(name, sources, SETTINGS)
    heads = " ".join(column.title for column in table.columns)
    cells = " ".join(line for row in table.rows for item in row for line in item.lines)
    assert "HD99 (mm)" in f"{heads} {cells} {table.caption}"
    assert all(np.isfinite(row.get("hd99_mean", 0)) for row in table.records)


@pytest.mark.usefixtures("with_hd99")
def test_claims_say_its_name_unit_and_better_side(study: Path) -> None:
    sources = from_grid(grid(study), ("metrics", "runs", "efficiency"))
    rows = make_table("claims", sources, SETTINGS).records
    assert {row["metric"] for row in rows} == {"hd99"}
    assert all(row["sentence"].startswith("HD99, ") for row in rows)
    rows = make_table("comparisons", sources, SETTINGS).records
    assert {row["direction"] for row in rows} == {-1}
    better = [row for row in rows if row["verdict"] == "better"]
    assert better
    assert all(row["difference"] < 0 for row in better)


@pytest.mark.usefixtures("with_hd99")
@pytest.mark.parametrize(
    "name", ["pareto_parameters", "boxplot", "differences", "ranks", "pairs", "skips"]
)
def test_every_figure_of_scores_shows_it(name: str, study: Path) -> None:
    kinds = ("metrics", "runs", "efficiency")
    pairs = tuple(map(tuple, PAIRS)) if name == "pairs" else ()
    statistics = StatisticsSettings(**STATISTICS, pairs=pairs)
    material = Material(from_grid(grid(study), kinds), statistics, ReportSettings())
    with style():
        figure = FIGURES[name](material).figure
        words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "HD99 (mm)" in words or name == "skips"
    if name == "pareto_parameters":
        low, high = figure.axes[0].get_ylim()
        assert low > high, "the better side is up"


@pytest.mark.usefixtures("with_hd99")
def test_every_page_shows_it(study: Path, tmp_path: Path) -> None:
    words = ["--results", str(study), "--presets", *PRESETS, "--seeds", "0", "1"]
    words += ["--settings", json.dumps(SETTINGS)]
    for name in ("accuracy", "claims"):
        assert main(["table", name, *words, "--out", str(tmp_path / "tables" / name)]) == 0
    folders = ["--tables", str(tmp_path / "tables"), "--figures", str(tmp_path / "figures")]
    assert main(["report", *words, *folders, "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    for text in (
        "HD99 (mm)",
        "HD99, mean over labels",
        "larger of the 99th percentiles",  # its definition, in the methods
        "margin was 0.5 mm in HD99",
        "Networks were compared by HD99",
    ):
        assert text in page, text
    assert "| `hd99` | HD99 | mm | lower |" in manual({})


@pytest.mark.usefixtures("with_hd99")
def test_a_configuration_may_name_it() -> None:
    statistics = STATISTICS | {"reference": "lunet_small_1f"}
    config = parse(CONFIG | SETTINGS | {"statistics": statistics})
    assert config.statistics.metric == "hd99"
    with pytest.raises(ConfigError, match=r"report\.metrics: .*'hd98', did you mean 'hd9"):
        parse(CONFIG | {"report": {"metrics": ["hd98"]}})


def test_without_its_row_it_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"report\.metrics: unknown metric 'hd99'"):
        parse(CONFIG | {"report": SETTINGS["report"]})


def test_an_error_around_zero_is_bad_on_both_sides(study: Path) -> None:
    """-5 ml is no better than 5 ml: neither the best case nor hidden from the worst ones."""
    settings = {"statistics": {"metric": "volume_error_ml", "margin": 0.1, "resamples": 100}}
    sources = from_grid(grid(study), ("metrics", "runs", "efficiency"))
    for preset in DICE:
        rows = make_table("failures", sources, settings).records
        shown = [abs(row["volume_error_ml"]) for row in rows if row["preset"] == preset]
        every = pd.concat(map(pd.read_csv, (study / "runs" / preset).rglob("metrics.csv")))
        assert shown == pytest.approx(sorted(every["volume_error_ml"].abs())[-1:-6:-1])
    cases = pd.DataFrame(
        {"case": list("abc"), "volume_error_ml": [-5.0, 1.0, 2.0], "preset": "p"}
    ).assign(fold=0, seed=0, label="l")
    chosen = choose_cases(cases, StatisticsSettings(metric="volume_error_ml", margin=0.1), 3)
    assert [(shown.word, shown.case) for shown in chosen] == [
        ("best", "b"),
        ("median", "c"),
        ("worst", "a"),
    ]
    joint = make_table("joint", sources, settings)
    assert joint.columns[1].title == "Absolute volume error (ml)"
    assert all(row["volume_error_ml_mean"] > 0 for row in joint.records)


@pytest.mark.parametrize("name", ["nsd", "nsd_", "nsd_x", "nsd_1.0", "nsd_-1", "nsd_inf", "Dice"])
def test_a_column_has_one_name(name: str) -> None:
    assert find_metric(name) is None


def test_titles_have_units() -> None:
    assert catalog.title("nsd_0.5") == "NSD at 0.5 mm"
    assert catalog.title("hd95") == "HD95 (mm)"
    assert catalog.title("volume_error_ml") == "Volume error (ml)"
    assert catalog.compared_name("volume_error_ml") == "Absolute volume error"
    assert catalog.unit_suffix("volume_error_ml") == " ml"
    assert catalog.unit_suffix("dice") == ""


def test_the_catalog_needs_no_heavy_library() -> None:
    code = "import sys, lunet.metrics.catalog; print([m for m in ('numpy', 'pandas', 'torch')"
    code += " if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_images_without_a_physical_size_have_columns_in_pixels() -> None:
    columns = case_columns((1.0, 0.5), "px")
    assert [column_in(name, "mm") for name in columns] == case_columns((1.0, 0.5))
    assert [column_in(name, "px") for name in columns] == columns
    titles = [title(name) for name in columns]
    assert {"HD95 (px)", "NSD at 0.5 px", "Area error (px)", "Dice"} <= set(titles)
    assert not [text for text in titles if "mm" in text or "ml" in text]
    assert (unit_suffix("volume_px"), unit_suffix("dice")) == (" px", "")
    assert find_metric("dice_px") is None
    assert find_metric("volume_ml_px") is None


def test_pixels_are_counted_one_by_one() -> None:
    reference = np.zeros((30, 40), bool)
    reference[5:15, 5:20] = True
    moved = np.roll(reference, 3, axis=0)
    (px,) = evaluate_case(reference, moved, unit="px").to_dict("records")
    (mm,) = evaluate_case(reference, moved).to_dict("records")
    assert px["volume_px"] == reference.sum()
    assert px["volume_px"] == pytest.approx(1000 * mm["volume_ml"])
    assert px["hd_px"] == mm["hd"] == 3
    assert list(px) == case_columns((1.0,), "px")
