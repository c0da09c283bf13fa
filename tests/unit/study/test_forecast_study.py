"""What a study makes of forecasts: resources of trainings, what is told, the command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from measured import MIB, PRESET, broken, cost, manifest, recipe, run

from lunet.cli import main
from lunet.errors import ConfigError
from lunet.files import write_json
from lunet.study.config import parse
from lunet.study.forecast import FALLBACK_MB, FALLBACK_MINUTES, Forecasts, Gap
from lunet.study.study import Study

CONFIG = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": [PRESET],
    "folds": [0],
    "train": {"epochs": 1000, "batch_size": 2},
}


def write_study(root: Path) -> Path:
    """The files of a forecast: efficiency, manifest, splits; returns the first."""
    path = root / f"results/s/presets/{PRESET}/efficiency.json"
    write_json(path, cost())
    write_json(root / "work/s/prepared/manifest.json", manifest())
    parts = {"train": list("abcdefgh"), "validation": list("ijk"), "test": ["l"]}
    write_json(root / "results/s/splits.json", {"seed": 0, "held_out": [], "folds": [parts]})
    return path


ROW = SimpleNamespace(preset=PRESET, fold="0", seed="0")


def forecasts(said: list[str], **changes: Any) -> Forecasts:
    return Forecasts(Study(parse(CONFIG | changes)), said.append)


def inputs(found: Forecasts, prefix: str = "") -> SimpleNamespace:
    """A rule's inputs, as Snakemake hands them over."""
    study = found.study
    splits = f"{prefix}{study.results}/splits.json"
    return SimpleNamespace(manifest=f"{prefix}{study.manifest}", splits=splits)


def asked(found: Forecasts, *, attempt: int = 1, threads: int = 1) -> tuple[int, int]:
    return (
        found.mem_mb(ROW, inputs(found), attempt, threads),
        found.runtime(ROW, inputs(found), attempt, threads),
    )


def test_a_study_below_a_prefix_reads_its_own_files(root: Path) -> None:
    write_study(root / "sub")
    found = forecasts([])
    without = found.mem_mb(ROW, inputs(found), 1, 1)
    assert without == FALLBACK_MB
    assert found.mem_mb(ROW, inputs(found, "sub/"), 1, 1) != without


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_training_is_given_its_forecast_and_more_with_each_attempt(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    found = forecasts(said)
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    write_study(root)
    # 4 steps x 1000 epochs at 50 ms and the validations: 230 s, twice that and ten minutes
    assert asked(found) == (1000, 10 + 8)
    # what failed once gets no less than without a forecast, which the first may not have had
    assert asked(found, attempt=3) == (3 * FALLBACK_MB, 3 * FALLBACK_MINUTES)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "300")
    assert asked(found, attempt=2) == (2 * FALLBACK_MB, 300)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "15")
    assert asked(found) == (1000, 15)
    monkeypatch.setenv("LUNET_LONGEST_MINUTES", "a day")
    with pytest.raises(ConfigError, match="LUNET_LONGEST_MINUTES: found 'a day'"):
        asked(found)
    monkeypatch.delenv("LUNET_LONGEST_MINUTES")
    found = forecasts([], train={"batch_size": 2, "epochs": 10**6})
    assert found.runtime(ROW, inputs(found), 1, 1) == 1440
    large = cost()
    large["training_engine"]["tried"][1]["growth_bytes"] = 4000 * MIB
    write_json(root / f"results/s/presets/{PRESET}/efficiency.json", large)
    assert asked(found)[0] == 6452  # 1.5 x (300 + 1 + 4000 MiB and 55 kB)
    assert said == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (f"results/s/presets/{PRESET}/efficiency.json", "efficiency"),
        (f"results/s/presets/{PRESET}/efficiency.json", "[]"),
        (f"results/s/presets/{PRESET}/efficiency.json", json.dumps(cost(size=["x", 1, 1]))),
        ("work/s/prepared/manifest.json", '{"task": {}, "cases": []}'),
        (
            "work/s/prepared/manifest.json",
            '{"task": {}, "cases": [{"labelled": 1, "shape": [[]]}]}',
        ),
        ("results/s/splits.json", "{}"),
        ("results/s/splits.json", '{"seed": 0, "held_out": [], "folds": []}'),
    ],
)
def test_a_broken_file_is_told_once_and_stops_nothing(root: Path, file: str, text: str) -> None:
    write_study(root)
    (root / file).write_text(text)
    said: list[str] = []
    found = forecasts(said)
    assert asked(found) == asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    (line,) = said
    assert file in line
    assert "\n" not in line
    assert line.endswith("Without a forecast: 8000 MB, 240 min.")
    write_study(root)
    assert asked(found) == (1000, 18)


@pytest.mark.parametrize(
    ("wanted", "measured", "is_used"),
    [
        ("auto", {"device": {"type": "cpu"}}, True),
        ("cpu", {"device": {"type": "cpu"}}, True),
        ("cuda", {"device": {"type": "cpu"}}, False),
        ("cpu", {"device": {"type": "cuda"}}, False),
        ("auto", {"settings": {"device": "cpu", "threads": 1}}, False),
        ("auto", {"device": {"type": "cuda"}}, True),
    ],
)
def test_another_kind_of_device_has_no_forecast(
    root: Path, wanted: str, measured: dict[str, Any], is_used: bool
) -> None:
    write_json(write_study(root), cost(**measured))
    said: list[str] = []
    found = forecasts(said, train=CONFIG["train"] | {"engine": {"device": wanted}})
    assert isinstance(found.look(PRESET, 0), Gap) != is_used
    assert (asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)) != is_used
    assert said == []


def test_without_a_measured_step_there_is_none_and_nothing_to_say(root: Path) -> None:
    write_json(write_study(root), broken(("training_engine",), None))
    said: list[str] = []
    found = forecasts(said, efficiency={"training_step": False})
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    assert said == []
    assert "forecast" not in found.study.tables
    assert "forecast" in forecasts(said).study.tables


def test_a_plan_of_the_data_is_part_of_it(root: Path) -> None:
    write_study(root)
    found = forecasts([], plan="auto")
    assert asked(found) == (FALLBACK_MB, FALLBACK_MINUTES)
    plan = root / "results/s/plan.yaml"
    plan.write_text("train: {patch: [20, 20, 20]}\n")
    # eight times the voxels of a step; those of the validation part stay
    assert asked(found)[1] == 10 + -(-2 * (8 * 200 + 30 + 8 * 0.45) // 60)
    plan.write_text("train: {ptach: [20, 20, 20]}\n")
    gap = found.look(PRESET, 0)
    assert isinstance(gap, Gap)
    assert "patch" in gap.reason


def test_the_command_says_what_is_missing_and_then_the_numbers(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "c.yaml").write_text(json.dumps(CONFIG))
    assert main(["forecast", "--config", "c.yaml"]) == 0
    text = capsys.readouterr().out
    assert (
        f"no forecast of {PRESET}: results/s/presets/{PRESET}/efficiency.json does not exist"
        in text
    )
    write_study(root)
    model = Study(parse(CONFIG)).sections("train", PRESET)["model"]
    done = run(settings={"recipe": recipe(), "model": model})
    write_json(root / f"results/s/runs/{PRESET}/fold-0/seed-0/run.json", done)
    assert main(["forecast", "--config", "c.yaml"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:5] == [PRESET, "391", "0:03:50", "1000", "18"]
    assert row[5:] == ["1", "361", "722", "-50", "%", "5", "8", "-42", "%"]
    (root / f"results/s/presets/{PRESET}/efficiency.json").unlink()
    assert main(["forecast", "--config", "c.yaml"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == [PRESET, "-", "-", "8000", "240", "1", "-", "722", "-", "-", "8", "-"]
    assert main(["forecast"]) == 2


def test_the_forecast_needs_no_heavy_library() -> None:
    code = "import sys, lunet.study.forecast; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "numpy", "pandas"}
