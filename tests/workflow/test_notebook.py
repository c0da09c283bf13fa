"""The notebook of the documentation, cell by cell: a real training, and the tables of a study."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from PIL import Image
from study_of_numbers import write_study

from lunet.cli import main
from lunet.reading import read_json
from lunet.reporting.result_files import from_inputs
from lunet.reporting.tables.index import write_table

CONFIG = ROOT / "config/demo.yaml"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the demo's configuration, its prepared data, and results of its networks."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    study = ["--config", str(CONFIG)]
    assert main(["download", *study, "--out", "work/demo/raw"]) == 0
    assert main(["preprocess", *study, "work/demo/raw", "--out", "work/demo/prepared"]) == 0
    manifest = ["--manifest", "work/demo/prepared/manifest.json"]
    assert main(["folds", *study, *manifest, "--out", "results/demo/splits.json"]) == 0
    results = write_study(tmp_path / "results/demo", folds=3, cases=12, epochs=3)
    settings = {"statistics": {"reference": "unet_small_2f", "resamples": 100}}
    write_table("claims", from_inputs([str(results / "runs")]), settings, results / "tables/claims")
    return tmp_path


@pytest.mark.slow
def test_the_notebook_runs(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = read_json(ROOT / "docs/howto/study.ipynb")
    assert all(not cell.get("outputs") for cell in notebook["cells"]), "clear the outputs"
    names: dict[str, Any] = {}
    shown = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            body = ast.parse("".join(cell["source"])).body
            last = body.pop() if isinstance(body[-1], ast.Expr) else None
            exec(compile(ast.Module(body, []), "cell", "exec"), names)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), names))
    assert shown[1] == Path("results/demo/by-hand/runs/lunet_small_2f/fold-0/seed-1")
    assert shown[2]["epoch"].tolist() == [1, 2]
    assert isinstance(shown[3], Image.Image)
    assert shown[-1]["label"].tolist() == ["anterior", "posterior", "mean over labels"]
    assert "lunet_small_2f is worse than unet_small_2f" in capsys.readouterr().out
    # a second start of the notebook does not train again
    before = (demo / shown[1] / "run.json").read_bytes()
    again = names["lunet"].train(
        "config/demo.yaml", "lunet_small_2f", seed=1, changes={"train.epochs": 2}
    )
    assert (again, (demo / again / "run.json").read_bytes()) == (shown[1], before)
    assert "it is not trained again" in capsys.readouterr().out
