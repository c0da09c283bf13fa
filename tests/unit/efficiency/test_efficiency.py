"""Costs: counts against formulas, statistics of series, memory, and the file that is written.

No test asserts a time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import BINARY, UNET
from torch import nn

from lunet.cli import main
from lunet.efficiency.calibration import calibration
from lunet.efficiency.counts import count_macs, count_parameters
from lunet.efficiency.engines import Source, Unavailable, make_runner
from lunet.efficiency.measure import LEAST, Series, measure_series, training_step
from lunet.efficiency.memory import count_memory, measured_peak, training_bytes
from lunet.efficiency.run import (
    longest_s,
    measure_efficiency,
    processes_of,
    summarise_latencies,
)
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, LunetError
from lunet.models.build import build_network
from lunet.models.live_memory import LiveBytes, forward_bytes
from lunet.study.presets import find_preset
from lunet.training.compute.arithmetic import open_precisions

VOXELS = 8 * 10 * 12


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.ConvTranspose3d(4, 3, 2, stride=2),
    )


def test_parameters() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    expected = 2 * 4 * 27 + 4 + 8 + 4 * 3 * 8 + 3
    assert count_parameters(model) == {
        "parameters": expected,
        "parameters_trained": expected - 2 * 4 * 27,
        "buffers": 9,
    }


def test_both_counters_against_the_formula() -> None:
    found = count_macs(network(), (1, 2, 8, 10, 12))
    exact = VOXELS * 2 * 4 * 27 + VOXELS * 4 * 3 * 8
    assert found["macs"] == exact
    assert found["flops"] == 2 * exact
    assert found["macs_fvcore"] == exact + 2 * 4 * VOXELS  # batch norm: 2 per element
    counters = found["counters"]
    assert counters["torch"]["by_operator"] == {"convolution": exact}
    assert counters["fvcore"]["by_operator"] == {"batch_norm": 2 * 4 * VOXELS, "conv": exact}
    left_out = counters["torch"]["left_out"]
    assert left_out["relu"] == {"calls": 1, "elements": 4 * VOXELS}
    assert left_out["native_batch_norm"]["elements"] == 4 * VOXELS


def test_counting_leaves_the_network_as_it_was() -> None:
    model = network().train()
    before = [p.clone() for p in model.state_dict().values()]
    count_macs(model, (1, 2, 8, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))
    assert next(model.parameters()).device.type == "cpu"


def test_live_bytes_follow_allocation_and_release() -> None:
    x = torch.zeros(1000, device="meta")
    with LiveBytes(x) as counter:
        y = x + 1  # 4000 bytes
        z = y * 2  # 8000
        y.mul_(3)  # in place: nothing new
        view = z[:10]  # nothing new
        del y
        assert counter.live == 4000
        z = torch.cat([z, z])  # 4000 (view) + 8000
        assert counter.live == 12000
        del view
        assert counter.live == 8000
    assert counter.peak == 12000


def test_memory_of_a_chain() -> None:
    model = nn.Sequential(*[nn.Conv3d(4, 4, 3, padding=1, bias=False) for _ in range(3)])
    shape = (1, 4, 16, 16, 16)
    one = 4 * 4 * 16**3  # bytes of an activation
    found = count_memory(model, shape)
    assert found["weights_bytes"] == 3 * 4 * 4 * 27 * 4
    assert found["input_bytes"] == one
    assert found["peak_memory_bytes"] == 2 * one  # of a chain, input and output of one layer live
    assert found["activation_bytes"] == 2 * one  # the inputs of layers 2 and 3
    trained = training_bytes(model, shape, training_step)
    assert trained > found["activation_bytes"] + found["weights_bytes"]
    assert training_bytes(model, (2, *shape[1:]), training_step) > 1.8 * trained


def test_measured_peak_sees_a_large_allocation() -> None:
    size = 64 * 2**20

    def allocate() -> None:
        torch.ones(size // 4).sum().item()

    peak = measured_peak(allocate, "cpu")
    if peak is None:
        pytest.skip("this system lets no process reset its high-water mark")
    assert 0.9 * size < peak < 2 * size


def test_forward_estimate_is_that_of_the_real_tensors() -> None:
    model, x = network().eval(), torch.zeros(1, 2, 8, 8, 8)
    with torch.no_grad(), LiveBytes(x, *model.parameters(), *model.buffers()) as counter:
        model(x)
    assert forward_bytes(model, x.shape) == counter.peak


@pytest.mark.parametrize(
    "name", ["lunetpp_small_1f", "mednext_small", "slim_unetrv2_96", "attention_unet2d_64f"]
)
def test_every_family_can_be_estimated_without_memory(name: str) -> None:
    preset = find_preset(name)
    ndim = max(preset.dimensions)
    model = build_network(
        preset.module, preset.network,
        in_channels=1, out_channels=2, ndim=ndim, arguments=preset.arguments,
    )  # fmt: skip
    small, large = (forward_bytes(model, (1, 1, *(side,) * ndim)) for side in (32, 64))
    assert 2**ndim * 0.7 < large / small < 2**ndim * 1.3


def series(values: Sequence[float], share: float | None = 1.0) -> Series:
    return {"ms": list(values), "cpu_share": share}


def test_statistics_of_series() -> None:
    values = list(range(1, 101))
    row = summarise_latencies([series(values), series(values)])
    assert row["p50_ms"] == np.percentile(values * 2, 50)
    assert row["p95_ms"] == pytest.approx(np.percentile(values * 2, 95))
    assert row["p99_ms"] == pytest.approx(np.percentile(values * 2, 99))
    assert row["jitter_ms"] == pytest.approx(np.std(values), abs=1e-6)  # population, not sample
    assert row["successive_ms"] == 1
    assert (row["runs"], row["processes"], row["unstable"]) == (200, 2, False)
    # a percentile of one run in a hundred is not told from fewer than two of them
    assert summarise_latencies([series(values), series(values[1:])])["p99_ms"] is None


@pytest.mark.parametrize(
    ("medians", "unstable"), [((100, 102.9, 101), False), ((100, 104, 101), True)]
)
def test_stability_over_processes(medians: tuple[float, ...], unstable: bool) -> None:
    assert summarise_latencies([series([m] * 5) for m in medians])["unstable"] is unstable


def test_stability_of_a_single_process() -> None:
    assert summarise_latencies([series([100.0] * 10)])["unstable"] is False
    assert summarise_latencies([series([100.0] * 5 + [104.0] * 5)])["unstable"] is True


def test_a_processor_that_was_shared_is_told() -> None:
    row = summarise_latencies([series([100.0] * 10), series([100.0] * 10, 0.8)])
    assert (row["cpu_share"], row["unstable"]) == (0.8, True)
    assert summarise_latencies([series([100.0] * 10, None)])["cpu_share"] is None  # CUDA


def test_the_time_is_known_beforehand() -> None:
    settings = EfficiencySettings(
        budget_s=10, processes=3, batches=(1, 2), throughput_batch=4, training_step=True
    )
    # three processes: two latencies and a training step each; batches 1, 2, 4 once
    assert longest_s(settings) == 10 * (3 * 3 + 3)
    assert longest_s(EfficiencySettings(budget_s=0)) is None
    # 5 % of the 6.5 core hours that the cheapest default preset trains, on five cores
    assert longest_s(EfficiencySettings()) <= 0.05 * 6.5 * 3600 / 5
    assert processes_of(settings, trains=True) == 4
    assert processes_of(settings, trains=False) == 3


def test_series_keep_to_their_budget() -> None:
    calls = []

    def call() -> None:
        calls.append(torch.ones(20_000).sum())

    ended = measure_series(call, device="cpu", warmups=3, repeats=50, budget_s=0)
    assert len(ended) == 50
    assert len(calls) == 53
    short = measure_series(call, device="cpu", warmups=10**6, repeats=10**6, budget_s=1e-6)
    assert len(short) == LEAST
    assert all(value > 0 for value in short)


def source(precision: str) -> Source:
    def onnx() -> bytes:
        raise Unavailable("onnxscript is not installed")

    return Source(network().eval(), torch.zeros(1, 2, 8, 8, 8), precision, 1, onnx)


def test_engines_say_why_they_cannot_run() -> None:
    assert make_runner("eager", source("bf16")).call().dtype == torch.bfloat16
    with pytest.raises(Unavailable, match="fp32"):
        make_runner("onnx", source("bf16"))
    with pytest.raises(Unavailable, match="not installed"):
        make_runner("onnx", source("fp32"))


def test_the_file(tmp_path: Path) -> None:
    settings = EfficiencySettings(
        size=(16, 16, 8), warmups=1, repeats=5, processes=2, throughput_batch=2,
        precisions=("fp32",), engines=("eager",), device="cpu", budget_s=5,
    )  # fmt: skip
    out, ended = tmp_path / "efficiency.json", []
    written = measure_efficiency(
        model=UNET, task=BINARY.as_dict(), settings=settings, out=out, training_batch=3,
        engine={"precision": "auto", "memory_format": "channels_last"},
        advance=lambda: ended.append(1),
    )  # fmt: skip
    assert len(ended) == processes_of(settings, trains=True)
    found = json.loads(out.read_text(), parse_constant=lambda word: pytest.fail(word))
    assert found == json.loads(json.dumps(written))
    assert found["preset"] == "tiny"
    assert found["flops"] == 2 * found["macs"] > 0
    assert found["macs_fvcore"] > found["macs"]
    assert [(r["batch"], r["engine"], r["precision"]) for r in found["latency"]] == [
        (1, "eager", "fp32"),
        (2, "eager", "fp32"),
    ]
    for row in found["latency"]:
        assert row["runs"] == 10
        assert row["min_ms"] <= row["p50_ms"] <= row["p95_ms"] <= row["max_ms"]
        assert row["p99_ms"] is None
        assert row["cpu_share"] > 0
        assert isinstance(row["unstable"], bool)
    assert found["training_step"]["batch"] == 3
    assert found["training_step_ms"] > 0
    _check_engine(found["training_engine"])
    assert calibration(found).batch == 3
    assert found["device"]["threads"] == 1
    assert found["device"]["load"] >= 0
    assert found["device"]["cpu"]
    assert found["throughput"]["per_s"] > 0
    assert found["energy"] is None  # a CPU has no such counter here
    keys = ("weights_bytes", "input_bytes", "peak_memory_bytes", "activation_bytes")
    assert all(found[key] > 0 for key in keys)


def _check_engine(found: dict[str, Any]) -> None:
    """The precisions that a training tries on this CPU; memory is the largest up to then."""
    assert [(row["precision"], row["memory_format"]) for row in found["tried"]] == [
        (precision, "channels_last") for precision in open_precisions("cpu")
    ]
    assert all(row["step_ms"] > 0 and row["compile"] is False for row in found["tried"])
    if found["process_bytes"] is None:
        return  # this system does not tell
    assert found["process_bytes"] > 50 * 2**20
    growth = [row["growth_bytes"] for row in found["tried"]]
    assert growth == sorted(growth)
    assert growth[0] >= 0


def test_a_process_that_fails_is_told(tmp_path: Path) -> None:
    broken = UNET | {"name": "NoSuchNetwork"}
    settings = EfficiencySettings(size=(8, 8, 8), processes=1)
    with pytest.raises(LunetError, match="NoSuchNetwork"):
        measure_efficiency(
            model=broken, task=BINARY.as_dict(), settings=settings, out=tmp_path / "e.json"
        )
    with pytest.raises(ConfigError, match=r"efficiency\.size"):
        measure_efficiency(
            model=UNET,
            task=BINARY.as_dict(),
            settings=EfficiencySettings(size=(8, 8)),
            out=tmp_path / "e.json",
        )
    assert list(tmp_path.iterdir()) == []


def test_the_command_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["efficiency", "--preset", "lunet_small_1f", "--size", "16", "16", "16"]
    options = ["--repeats", "5", "--warmups", "1", "--processes", "1", "--budget-s", "0.1"]
    assert main([*words, *options, "--set", "efficiency.throughput_batch=0"]) == 0
    text, beforehand = capsys.readouterr()
    assert "measuring in 1 fresh process(es): at most about" in beforehand
    assert "lunet_small_1f at 16 x 16 x 16" in text
    assert "eager fp32 N=2: p50" in text
