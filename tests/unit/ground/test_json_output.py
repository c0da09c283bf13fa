"""`--json`: standard output is one strict JSON value, whatever else a command has to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT
from tiny_dataset import make

from lunet.cli import main


def refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def answer(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    """What a command prints, which must be JSON and nothing else."""
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    demo = ("--config", str(ROOT / "config/demo.yaml"))
    presets = {row["preset"]: row for row in answer(capsys, "list", "presets", *demo)}
    assert presets["lunet_small_2f"]["parameters"] == 2569
    assert set(presets) == {"unet_small_2f", "lunet_small_4f", "lunet_small_2f"}
    recipes = answer(capsys, "list", "recipes")
    assert all(row["learning_rate"] > 0 and row["batch"] >= 1 for row in recipes)
    sets = {row["data_set"]: row for row in answer(capsys, "list", "datasets")}
    assert sets["Task04_Hippocampus"]["labels"] == ["Anterior", "Posterior"]
    for what in ("losses", "augmentations"):
        assert len(answer(capsys, "list", what)) > 5


def test_audit_and_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = str(make(tmp_path / "raw"))
    found = answer(capsys, "audit", raw, "--out", str(tmp_path / "audit"))
    summary = json.loads((tmp_path / "audit/summary.json").read_text())
    assert found["summary"] == summary
    assert sum(summary["findings"].values()) == len(found["findings"])
    plan = answer(capsys, "plan", raw, "--memory-gb", "4", "--out", str(tmp_path / "plan.json"))
    assert plan == json.loads((tmp_path / "plan.json").read_text())


def test_an_audit_with_errors_is_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make(tmp_path / "raw")
    min((raw / "labelsTr").iterdir()).write_bytes(b"no image")
    found = answer(capsys, "audit", str(raw), "--out", str(tmp_path / "audit"), code=2)
    assert found["summary"]["findings"]["error"] > 0
    assert found["findings"][0]["severity"] == "error"


def test_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = answer(capsys, "forecast", "--config", str(ROOT / "config/demo.yaml"))
    assert [row["preset"] for row in rows] == ["unet_small_2f", "lunet_small_4f", "lunet_small_2f"]
    assert all(row["seconds"] is None and row["requested_mib"] > 0 for row in rows)
    assert all("efficiency.json" in row["gap"] for row in rows)


def test_power(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sd-subjects", "0.02", "--sd-trainings", "0.004", "--subjects", "24"]
    found = answer(capsys, "power", *words)
    assert found["question"]["margin"] == 0.01
    assert found["sentence"]
