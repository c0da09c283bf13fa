"""Costs that do not fit into memory are rows with a reason; everything else is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import BINARY, UNET

import lunet.efficiency.run as run
from lunet.efficiency import measure
from lunet.efficiency.measure import MeasureJob, measure_network
from lunet.efficiency.room import Room
from lunet.efficiency.run import measure_efficiency
from lunet.efficiency.settings import EfficiencySettings
from lunet.reporting.costs import flat
from lunet.settings import plain

SMALL = EfficiencySettings(
    size=(16, 16, 8), batches=(1, 2), engines=("eager",), precisions=("fp32",), processes=1,
    repeats=5, warmups=1, throughput_batch=4, memory_batches=(1, 2), device="cpu",
)  # fmt: skip


def full(*_: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more")


def test_only_a_full_memory_is_survived() -> None:
    room = Room("cpu")
    assert room.measure("one", lambda: 1) == 1
    assert room.measure("two", full) is None
    assert room.lost == {"two": "out of memory: CUDA out of memory. Tried to allocate 2 GiB"}
    with pytest.raises(RuntimeError, match="size"):
        room.measure("three", lambda: torch.zeros(2) @ torch.zeros(3))


def test_a_process_measures_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    real = measure.Bench.image

    def image(bench: measure.Bench, batch: int) -> torch.Tensor:
        return full() if batch > 1 else real(bench, batch)  # type: ignore[return-value]

    monkeypatch.setattr(measure.Bench, "image", image)
    job: MeasureJob = {
        "model": UNET, "task": BINARY.as_dict(), "efficiency": plain(SMALL), "training_batch": 3,
        "engine": {}, "first": True, "network": True, "training": True, "killed": "",
    }  # fmt: skip
    found = measure_network(job)
    network, training = found["network"], found["training"]
    assert [row["batch"] for row in network["latency"]] == [1]
    assert [(row["batch"], row["reason"][:13]) for row in network["left_out"]] == [
        (2, "out of memory")
    ]
    assert network["throughput"]["batch"] == 1
    assert [*network["out_of_memory"]] == ["throughput at batch 2"]
    assert training["training"] is None
    assert {*training["out_of_memory"]} == {"training_step", "training_peak_measured_bytes"}
    assert training["training_peak_bytes"] > 0


@pytest.mark.slow
def test_a_network_that_fits_nowhere_still_has_counts(tmp_path: Path) -> None:
    settings = EfficiencySettings(size=(30_000,) * 3, processes=1, device="cpu", batches=(1,))
    written = measure_efficiency(
        model=UNET, task=BINARY.as_dict(), settings=settings, out=tmp_path / "e.json",
        engine={"precision": "fp32"},
    )  # fmt: skip
    assert json.loads((tmp_path / "e.json").read_text()) == json.loads(json.dumps(written))
    assert written["macs"] > 1e12
    assert written["latency"] == []
    assert {row["reason"][:13] for row in written["left_out"]} >= {"out of memory"}
    assert {"training_step", "training_engine", "macs_fvcore"} <= {*written["out_of_memory"]}
    assert flat(written)["parameters"] > 0


def test_a_killed_process_is_followed_by_one_that_only_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def process(job: Mapping[str, Any], *_: object, **__: object) -> dict[str, Any]:
        asked.append(job["killed"])
        if not job["killed"]:
            raise MemoryError("out of memory: the measuring process was killed")
        return measure_network(dict(job))  # type: ignore[arg-type]

    monkeypatch.setattr(run, "_fresh_process", process)
    found = measure_efficiency(
        model=UNET, task=BINARY.as_dict(), settings=SMALL, out=tmp_path / "e.json",
        keep=tmp_path / "kept",
    )  # fmt: skip
    assert [bool(killed) for killed in asked] == [False, True]
    assert found["latency"] == []
    assert len(found["left_out"]) == 2
    assert found["macs"] > 0
    assert "training_step_ms" not in found
    assert "killed" in found["out_of_memory"]["training_step"]
    assert not [*(tmp_path / "kept").rglob("0.json")]  # next time there may be more memory
