"""A study with rows that others predicted: a tool's folder, nnU-Net's results, a second reader."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from external_rows import nnunet_results, predict, renumbered, same
from paths import ROOT
from stub_search import StubMaker

from lunet.data.phantoms.make import make_phantom
from lunet.data.settings import PhantomSettings
from lunet.study.smallest_run import find_smallest
from lunet.study.study import study_of

ENGINE = {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "compile": "off"}
NAMES = {"Anterior": 1, "Posterior": 2}


def snakemake(root: Path, *words: str) -> str:
    command = [sys.executable, "-m", "snakemake", *words, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--cores", "2", "--configfile", "study.yaml"]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True)
    logs = "".join(path.read_text() for path in root.glob("results/*/logs/**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return done.stdout + done.stderr


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def study(root: Path, **changes: Any) -> dict[str, Any]:
    return {
        "study": "x",
        "dataset": {
            "name": "mine",
            "path": str(root / "data"),
            "channels": ["MRI"],
            "labels": NAMES,
        },
        "preprocess": {"size": [16, 24, 16]},
        "split": {"folds": 3},
        "presets": ["unet_small_1f", "lunet_small_1f"],
        "folds": [0, 1],
        "seeds": [0],
        "train": {"epochs": 1, "batch_size": 4, "engine": ENGINE},
        "statistics": {"reference": "unet_small_1f", "resamples": 100, "margin": 0.05},
        "efficiency": {
            "size": [16, 24, 16],
            "warmups": 1,
            "repeats": 5,
            "processes": 1,
            "budget_s": 0.1,
            "throughput_batch": 0,
        },
    } | changes


def write(root: Path, config: dict[str, Any]) -> None:
    (root / "study.yaml").write_text(yaml.safe_dump(config))


def rows_of_others(root: Path, labels: Path, folds: list[dict[str, Any]]) -> dict[str, Any]:
    """The section ``external``; nnU-Net lacks a prediction of the first test case."""
    missing = [folds[0]["test"][0]]
    model = nnunet_results(root, labels, folds, names=NAMES, missing=missing)
    cases = sorted(path.name.removesuffix(".nii.gz") for path in labels.glob("*.nii.gz"))
    predict(labels, cases, root / "tool", renumbered({1: 17, 2: 53}))
    predict(labels, cases, root / "reader", same)
    return {
        "nnunet_3d_fullres": {
            "predictions": str(model),
            "layout": "nnunet",
            "cost": {"parameters": 31195784, "macs": 5e11, "latency_ms": 900, "device": "an A100"},
            "source": "nnU-Net v2, 3d_fullres",
        },
        "tool": {"predictions": str(root / "tool"), "map": {17: "Anterior", "53": 2}},
        "second_reader": {"predictions": str(root / "reader"), "role": "reader"},
    }


@pytest.mark.slow
def test_rows_of_others_are_evaluated_compared_drawn_and_reported(tmp_path: Path) -> None:
    """The whole workflow, and then one edited prediction."""
    root, settings = tmp_path, PhantomSettings(kind="hippocampus", subjects=8, scale=0.5)
    labels = make_phantom(settings, root / "data") / "labelsTr"
    write(root, study(root))
    snakemake(root, "results/x/splits.json")
    folds = json.loads((root / "results/x/splits.json").read_text())["folds"]
    external = rows_of_others(root, labels, folds)
    write(root, study(root, external=external))
    snakemake(root)
    check_runs(root / "results/x", folds[0]["test"][0])
    check_tables(root / "results/x", external)
    check_report(root / "results/x", folds[0]["test"][0])

    assert "Nothing to be done" in snakemake(root)
    predict(labels, folds[1]["test"][:1], root / "tool", renumbered({1: 17, 2: 17}))
    again = snakemake(root, "results/x/runs/tool/fold-0/seed-0/metrics.csv", "--dry-run")
    assert "Nothing to be done" in again
    again = snakemake(root, "results/x/tables/accuracy.csv", "--dry-run")
    steps = dict(re.findall(r"^(\w+) +(\d+)$", again, re.MULTILINE))
    assert steps.get("external") == steps.get("evaluate") == "1"
    assert not {"train", "predict", "prior", "preprocess"} & set(steps)


def test_a_search_asks_for_the_folds_of_an_external_reference(tmp_path: Path) -> None:
    """All files that a whole search asks for, in a dry run."""
    root, settings = tmp_path, PhantomSettings(kind="hippocampus", subjects=6, scale=0.5)
    labels = make_phantom(settings, root / "data") / "labelsTr"
    cases = sorted(path.name.removesuffix(".nii.gz") for path in labels.glob("*.nii.gz"))
    predict(labels, cases, root / "tool", same)
    config = study(root, external={"tool": {"predictions": str(root / "tool")}})
    del config["presets"]  # those of the search
    config["statistics"]["reference"] = "tool"
    config["smallest"] = {"reference": "tool", "families": ["lunet_small"], "widths": [1, 2]}
    write(root, config)
    stub = config | {"roots": {"results": str(root / "stub/results"), "work": str(root / "work")}}
    dice = {"tool": 0.8, "lunet_small_2f": 0.8, "lunet_small_1f": 0.8}
    maker = StubMaker(dice, folds=3, given={"tool": {}})
    assert find_smallest(study_of(stub), maker, lambda _: None)["answer"] == "lunet_small_1f"
    files = {os.path.relpath(file, root / "stub") for call in maker.calls for file in call}
    told = snakemake(root, "--dry-run", *sorted(files))
    found = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", told, re.MULTILINE)}
    taken = len(maker.taken)
    assert (found["external"], found["external_cost"], found["measure"]) == (taken, 1, 2)
    assert taken >= 1
    assert found["train"] == len(maker.trained) >= 2 * taken


def check_runs(results: Path, missed: str) -> None:
    nnunet = results / "runs/nnunet_3d_fullres/fold-0/seed-0"
    metrics = rows_of(nnunet / "metrics.csv")
    assert {row["status"] for row in metrics if row["case"] == missed} == {"missed"}
    assert {row["status"] for row in metrics if row["case"] != missed} == {"ok"}
    record = json.loads((nnunet / "run.json").read_text())
    assert record["external"]["missing"] == [missed]
    reader = rows_of(results / "runs/second_reader/fold-0/seed-0/metrics.csv")
    assert {float(row["dice"]) for row in reader} == {1.0}


def check_tables(results: Path, external: dict[str, Any]) -> None:
    claims = rows_of(results / "tables/claims.csv")
    assert {row["preset"] for row in claims} == {"lunet_small_1f", "nnunet_3d_fullres", "tool"}
    for row in claims:
        assert ("made elsewhere" in row["sentence"]) == (row["preset"] in external)
    accuracy = {row["preset"] for row in rows_of(results / "tables/accuracy.csv")}
    assert {*external, "atlas_prior", "unet_small_1f"} <= accuracy
    costs = {row["preset"]: row for row in rows_of(results / "tables/joint.csv")}
    assert float(costs["nnunet_3d_fullres"]["parameters"]) == 31195784
    assert costs["tool"]["parameters"] == costs["second_reader"]["parameters"] == ""
    front = {row["preset"] for row in rows_of(results / "figures/pareto_parameters.csv")}
    assert front == {"unet_small_1f", "lunet_small_1f", "nnunet_3d_fullres"}


def check_report(results: Path, missed: str) -> None:
    page = (results / "report.html").read_text()
    for text in (
        "second_reader is a second reader",
        "inter-rater: second_reader",
        "test cases there is no prediction of nnunet_3d_fullres",
        f"counted as missed ({missed})",
        "no case was predicted by a model of nnunet_3d_fullres that trained on it",
        "Whether tool was trained on cases of this data set is not recorded",
        "No cost is given for tool",
    ):
        assert text in page, text
