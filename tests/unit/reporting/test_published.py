"""Published numbers beside the study's own, each marked with its origin."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from paths import ROOT
from study_of_numbers import DICE, write_study

from lunet.errors import ConfigError, DataError
from lunet.reporting.figures.index import write_figure
from lunet.reporting.outputs import TABLES, table_row
from lunet.reporting.published import OWN, PUBLISHED, read_published
from lunet.reporting.result_files import Grid, ResultFiles, from_grid
from lunet.reporting.tables.index import write_table
from lunet.study.config import load, parse
from lunet.study.outputs import sources_of
from lunet.study.study import Study

FILES = sorted((ROOT / "config" / "published").glob("*.csv"))
BRATS = ROOT / "config" / "published" / "brats2021.csv"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> ResultFiles:
    study = write_study(tmp_path_factory.mktemp("study"), folds=2, seeds=1, cases=8, epochs=2)
    return from_grid(Grid(study, tuple(DICE), (0, 1), (0,)), table_row("published").needs)


def settings(path: Path) -> dict:
    return {"statistics": {"resamples": 100}, "report": {"published": str(path)}}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_files_are_read_and_their_means_agree(path: Path) -> None:
    publication = read_published(path)
    assert "http" in publication.source or "github.com" in publication.source
    rows = publication.rows
    assert not rows.duplicated(["model", "structure", "metric"]).any()
    assert rows.loc[rows["metric"] == "dice", "value"].between(0.5, 1).all()
    for (_, metric), part in rows.groupby(["model", "metric"]):
        values = part.set_index("structure")["value"]
        if "mean" in values and len(values) > 1:
            tolerance = 0.0005 if metric == "dice" else 0.011
            assert values.drop("mean").mean() == pytest.approx(values["mean"], abs=tolerance)
    study = ROOT / "config" / f"{path.stem}.yaml"
    if study.is_file():
        assert load(study).report.published == f"config/{path.parent.name}/{path.name}"


def test_published_and_own_rows_are_marked_apart(sources: ResultFiles, tmp_path: Path) -> None:
    paths = write_table("published", sources, settings(BRATS), tmp_path / "published")
    table = pd.read_csv(paths[0], keep_default_na=False)
    assert set(table["origin"]) == {PUBLISHED, OWN}
    models = {origin: set(part["model"]) for origin, part in table.groupby("origin")}
    assert models[OWN] == set(DICE)
    assert "Slim UNETRV2" in models[PUBLISHED]
    assert not models[OWN] & models[PUBLISHED]
    given = table[(table["model"] == "Slim UNETRV2") & (table["metric"] == "throughput_per_s")]
    assert float(given["value"].iloc[0]) == 140.856
    text = paths[1].read_text()
    assert "deepang-ai" in text
    assert "no test compares" in text
    assert "standard deviation" in text
    rows = [line for line in text.splitlines() if line.startswith("| published")]
    assert len(rows) == 10


@pytest.mark.parametrize("name", ["published_dice", "published_hd95"])
def test_figures_show_both(name: str, sources: ResultFiles, tmp_path: Path) -> None:
    write_figure(name, sources, settings(BRATS), tmp_path / name)
    data = pd.read_csv(tmp_path / f"{name}.csv")
    counts = data["origin"].value_counts()
    assert (counts[PUBLISHED], counts[OWN]) == (10, len(DICE))
    assert (data["x"] > 0).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,structure,metric,value\nA,mean,dice,0.9\n", "first line '# source'"),
        ("# s\nmodel,metric,value\nA,dice,0.9\n", "columns: model, metric, value"),
        ("# s\nmodel,structure,metric,value\nA,mean,dise,0.9\n", "metric 'dise'"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_published(path)
    with pytest.raises(ConfigError, match=r"report\.published"):
        read_published(None)


def test_only_studies_that_name_a_file_ask_for_it() -> None:
    base = {"study": "s", "dataset": {"name": "phantom"}, "presets": ["lunet_small_1f"]}
    plain, named = Study(parse(base)), Study(parse(base | {"report": {"published": "p.csv"}}))
    assert "published" not in plain.tables
    assert {"published", "replication"} <= set(named.tables)
    assert {"published_dice", "published_hd95"} <= set(named.figures)
    wildcards = type("Wildcards", (), {"name": "published"})
    assert sources_of(named, TABLES)(wildcards)[-1] == "p.csv"
    wildcards.name = "accuracy"
    assert "p.csv" not in sources_of(named, TABLES)(wildcards)


def table_of(
    sources: ResultFiles, tmp_path: Path, rows: str, statistics: dict | None = None
) -> tuple[pd.DataFrame, str]:
    """The table of replications for published rows, as data and as text."""
    path = tmp_path / "p.csv"
    path.write_text(f"# someone 2025\nmodel,structure,metric,value,low,high,sd,n,preset\n{rows}\n")
    chosen = {"statistics": {"resamples": 100, **(statistics or {})}} | {
        "report": {"published": str(path)}
    }
    paths = write_table("replication", sources, chosen, tmp_path / "replication")
    return pd.read_csv(paths[0], keep_default_na=False), paths[1].read_text()


def test_published_numbers_are_tested_where_their_error_is_known(
    sources: ResultFiles, tmp_path: Path
) -> None:
    """The planted mean Dice of unet_small_4f is 0.88, give or take 0.005."""
    rows = """Same,mean,dice,0.88,0.878,0.882,,,unet_small_4f
Far,mean,dice,0.94,,,,375,unet_small_4f
Far too,mean,dice,0.94,,,0.02,375,unet_small_4f
Vague,mean,dice,0.90,0.80,1.00,,,unet_small_4f
Bare,mean,dice,0.94,,,,,unet_small_4f
Absent,mean,dice,0.94,,,,375,another_network
Structure,anterior,dice,0.94,,,,375,unet_small_4f"""
    table, text = table_of(sources, tmp_path, rows, {"margin": 0.05})
    verdicts = dict(zip(table["model"], table["verdict"], strict=True))
    assert verdicts == {
        "Same": "confirmed",
        "Far": "refuted",
        "Far too": "refuted",
        "Vague": "unresolved",
        "Bare": "no interval published",
        "Structure": "refuted",
    }
    assert "someone 2025" in text
    assert "Margin: 0.05" in text
    assert table.loc[table["model"] == "Bare", "difference_low"].tolist() == [""]
    table, text = table_of(sources, tmp_path, rows, {"margin": 0})
    assert "confirmed" not in set(table["verdict"])
    assert "nothing can be confirmed" in text


def test_the_authors_number_and_its_rerun_are_both_rows(sources: ResultFiles) -> None:
    rows = read_published(ROOT / "config/published/brats2023.csv").rows
    mean = rows[(rows["structure"] == "mean") & (rows["metric"] == "dice")].set_index("model")
    assert (mean.loc["Slim UNETRV2", "value"], mean.loc["Slim UNETRV2", "n"]) == (0.9418, 375)
    rerun = mean.loc["Slim UNETRV2 (re-run)"]
    assert (rerun["value"], rerun["n"]) == (0.9029, 251)
    assert rerun["source"].startswith("SPARK-UNet")
    assert "slim_unetrv2_128" in rerun["preset"].split()
