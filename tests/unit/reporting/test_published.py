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
        if len(values) > 1:
            tolerance = 0.0005 if metric == "dice" else 0.011
            assert values.drop("mean").mean() == pytest.approx(values["mean"], abs=tolerance)
    assert (
        load(ROOT / "config" / f"{path.stem}.yaml").report.published
        == f"config/{path.parent.name}/{path.name}"
    )


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
    assert "published" in named.tables
    assert {"published_dice", "published_hd95"} <= set(named.figures)
    wildcards = type("Wildcards", (), {"name": "published"})
    assert sources_of(named, TABLES)(wildcards)[-1] == "p.csv"
    wildcards.name = "accuracy"
    assert "p.csv" not in sources_of(named, TABLES)(wildcards)
