"""Measurements that are kept: what they depend on, what is shared, and how they resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from small_networks import BINARY, UNET

import lunet.efficiency.run as run
from lunet.cli import main
from lunet.efficiency.run import measure_efficiency
from lunet.efficiency.settings import EfficiencySettings
from lunet.study.study import study_of

SETTINGS = EfficiencySettings(size=(16, 16, 16), batches=(1,), processes=3, device="cpu")
ENGINE = {"precision": "fp32"}


class Machine:
    """Stands for the fresh processes: each call takes longer than the one before."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, bool, bool]] = []
        self.share = 1.0
        self.load = 0.5
        self.fails_at: int | None = None

    def process(
        self, job: Mapping[str, Any], settings: EfficiencySettings, *, module: str = "network"
    ) -> dict[str, Any]:
        if len(self.jobs) == self.fails_at:
            raise KeyboardInterrupt
        is_engine = module.endswith("training_engine")
        kind = "engine" if is_engine else "process"
        self.jobs.append((kind, job["network"], job["training"]))
        if is_engine:
            return {"batch": job["training_batch"], "tried": []}
        series = {"ms": [float(len(self.jobs))] * 10, "cpu_share": self.share}
        head = {"engine": "eager", "precision": "fp32", "batch": 1, "prepare_s": 0.0}
        found: dict[str, Any] = {"device": {"type": "cpu", "load": self.load}}
        if job["network"]:
            found["network"] = {"latency": [head | series], "left_out": [], "macs": 1}
        if job["training"]:
            found["training"] = {"training": series}
        return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    stand_in = Machine()
    monkeypatch.setattr(run, "_fresh_process", stand_in.process)
    return stand_in


def measure(
    folder: Path, *, name: str = "a", batch: int = 4, keep: bool = True, **changes: Any
) -> dict[str, Any]:
    """Measure a preset of this name, and return its file."""
    options = {"settings": SETTINGS, "engine": ENGINE, "code": "1", "task": BINARY.as_dict()}
    out = folder / f"{name}.json"
    measure_efficiency(
        model=UNET | {"preset": name} | changes.pop("model", {}),
        out=out,
        training_batch=batch,
        keep=folder / "kept" if keep else None,
        **options | changes,
    )
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_the_same_network_has_the_same_costs(tmp_path: Path, machine: Machine) -> None:
    one = measure(tmp_path, name="a")
    assert machine.jobs == [("process", True, True)] * 3 + [("engine", True, True)]
    other = measure(tmp_path, name="b")
    assert len(machine.jobs) == 4
    assert (one.pop("preset"), other.pop("preset")) == ("a", "b")
    assert one == other


def test_without_a_folder_it_is_measured_again(tmp_path: Path, machine: Machine) -> None:
    one, other = (measure(tmp_path, keep=False)["latency"][0]["p50_ms"] for _ in range(2))
    assert one < other


def test_another_batch_measures_the_training_only(tmp_path: Path, machine: Machine) -> None:
    one = measure(tmp_path, name="a", batch=4)
    other = measure(tmp_path, name="b", batch=8)
    assert machine.jobs[4:] == [("process", False, True)] * 3 + [("engine", True, True)]
    assert one["latency"] == other["latency"]
    assert one["training_step"]["p50_ms"] < other["training_step"]["p50_ms"]
    assert other["training_engine"]["batch"] == 8


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"arguments": UNET["arguments"] | {"widths": [2, 4]}}},
        {"settings": EfficiencySettings(size=(8, 8, 8), batches=(1,), processes=3, device="cpu")},
        {"task": BINARY.as_dict() | {"channels": ["CT", "PET"]}},
        {"code": "2"},
    ],
)
def test_what_a_measurement_depends_on(
    tmp_path: Path, machine: Machine, changes: dict[str, Any]
) -> None:
    measure(tmp_path)
    measure(tmp_path, **changes)
    assert len(machine.jobs) == 8


def test_names_of_channels_and_labels_change_no_cost(tmp_path: Path, machine: Machine) -> None:
    measure(tmp_path)
    measure(tmp_path, task=BINARY.as_dict() | {"channels": ["PET"], "labels": {"liver": 1}})
    assert len(machine.jobs) == 4


def test_an_interrupted_measurement_resumes(tmp_path: Path, machine: Machine) -> None:
    machine.fails_at = 2
    with pytest.raises(KeyboardInterrupt):
        measure(tmp_path)
    assert not (tmp_path / "a.json").exists()
    machine.fails_at = None
    found = measure(tmp_path)
    assert len(machine.jobs) == 4
    assert found["latency"][0]["p50_of_processes_ms"] == [1, 2, 3]


def test_more_processes_add_to_those_that_are_kept(tmp_path: Path, machine: Machine) -> None:
    measure(tmp_path)
    more = EfficiencySettings(size=(16, 16, 16), batches=(1,), processes=4, device="cpu")
    assert measure(tmp_path, settings=more)["latency"][0]["processes"] == 4
    assert len(machine.jobs) == 5


@pytest.mark.parametrize(
    ("share", "load", "is_busy"), [(1.0, 0.5, False), (0.8, 0.5, True), (1.0, 1e6, True)]
)
def test_a_busy_machine_is_recorded(
    tmp_path: Path, machine: Machine, share: float, load: float, is_busy: bool
) -> None:
    machine.share, machine.load = share, load
    found = measure(tmp_path)
    assert found["busy"] is is_busy
    assert found["device"]["load"] == load


def study(**train: Any) -> Any:
    variants = {"other": {"base": "lunet_small_1f", "train": train}}
    return study_of(
        {
            "study": "s",
            "dataset": {"name": "phantom"},
            "presets": ["lunet_small_1f", "other"],
            "variants": variants,
        }
    )


def test_the_recipe_that_costs_do_not_depend_on() -> None:
    changes = {"optimiser": {"lr": 0.5}, "epochs": 3, "loss": {"bce": 1.0}, "monitor": "loss"}
    sections = study(**changes).sections("efficiency", "other")
    assert sections == study().sections("efficiency", "other")
    assert set(sections["training_step"]) == {"batch_size", "engine"}
    assert study(batch_size=3).sections("efficiency", "other") != sections


def test_the_digest_covers_what_the_fresh_processes_run() -> None:
    from lunet.study.code_digest import closure
    from lunet.study.steps import STEPS

    reached = closure(*STEPS["efficiency"].modules)
    assert {"lunet.efficiency.measure", "lunet.efficiency.training_engine"} <= reached
    assert "lunet.training.losses.formulas" not in reached


@pytest.mark.slow
def test_the_command_shows_progress_and_measures_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["efficiency", "--preset", "lunet_small_1f", "--size", "16", "16", "16"]
    options = ["--repeats", "5", "--warmups", "1", "--processes", "1", "--budget-s", "0.1"]
    keep = ["--set", "efficiency.throughput_batch=0", "--keep", str(tmp_path)]
    assert main([*words, *options, *keep]) == 0
    first, progress = capsys.readouterr()
    assert "measured 1/2, " in progress
    assert "measured 2/2, 0 s left" in progress
    results = sorted(path.name for path in tmp_path.glob("*/[0-9e]*.json"))
    assert results == ["0.json", "0.json", "engine.json"]
    assert main([*words, *options, *keep]) == 0
    assert capsys.readouterr().out == first
