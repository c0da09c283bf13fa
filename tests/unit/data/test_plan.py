"""The plan follows the data: spacing, window or z-score, and sizes that fit memory and network."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import tiny_dataset as tiny
import yaml

from lunet.cli import main
from lunet.data.dataset import read_dataset
from lunet.data.fingerprint import Channel, Fingerprint, fingerprint_of
from lunet.data.plan import Choice, NetworkCost, propose
from lunet.efficiency.step_cost import network_cost
from lunet.errors import DataError
from lunet.study.networks import build_model

DATA = os.environ.get("LUNET_TEST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="LUNET_TEST_DATA names no folder")
MR = Channel("T1", 10, 50, 90, 50, 10, 0)
CT = Channel("CT", -50, 80, 150, 80, 20, -1000)
COST = NetworkCost(bytes_per_voxel=1000, fixed_bytes=1e6, multiple=(16, 16, 16))


def cost_of(topology: object) -> NetworkCost:
    """The cost of a network that no plan changes."""
    return COST


def fingerprint(spacings, shapes, channel: Channel = MR) -> Fingerprint:
    return Fingerprint(
        len(shapes), np.array(spacings, float), np.array(shapes), (channel,), 0.1, len(shapes)
    )


def values(choices: tuple[Choice, ...]) -> dict[str, object]:
    assert all(choice.reason for choice in choices)
    return {choice.key: choice.value for choice in choices}


def test_equal_spacings_are_kept_and_small_volumes_stay_whole() -> None:
    found = values(propose(fingerprint([[1, 1, 1]] * 3, [[43, 59, 47]] * 3), cost_of, memory=4e9))
    assert found["preprocess.spacing"] == "keep"
    assert found["preprocess.size"] == [48, 64, 48]
    assert found["train.batch_size"] == 16
    assert found["preprocess.normalise"] == "zscore"
    assert "train.patch" not in found


def test_spacings_that_differ_meet_at_the_median() -> None:
    spacings = [[0.7, 0.7, 1], [0.8, 0.8, 1.2], [0.9, 0.9, 1.4]]
    found = values(propose(fingerprint(spacings, [[100, 100, 80]] * 3), cost_of, memory=1e10))
    assert found["preprocess.spacing"] == [0.8, 0.8, 1.2]


def test_thick_slices_keep_their_thinner_tenth() -> None:
    spacings = [[0.5, 0.5, z] for z in (2.0, 5, 5, 5, 6)]
    found = values(propose(fingerprint(spacings, [[300, 300, 30]] * 5), cost_of, memory=1e10))
    x, y, z = found["preprocess.spacing"]
    assert (x, y) == (0.5, 0.5)
    assert z == pytest.approx(np.percentile([2, 5, 5, 5, 6], 10))


def test_masked_background_is_left_out() -> None:
    masked = Channel("T1", 10, 50, 90, 50, 10, 0, zeros=0.6)
    found = values(propose(fingerprint([[1, 1, 1]], [[64, 64, 64]], masked), cost_of, memory=1e10))
    assert found["preprocess.normalise"] == "zscore_nonzero"


def test_ct_gets_a_window_of_the_foreground() -> None:
    found = values(propose(fingerprint([[1, 1, 1]], [[64, 64, 64]], CT), cost_of, memory=1e10))
    assert found["preprocess.window"] == [-50, 150]
    assert "preprocess.clip" not in found


@pytest.mark.parametrize("memory", [3e8, 1e9, 5e9])
def test_patches_fit_memory_and_network(memory: float) -> None:
    found = values(propose(fingerprint([[1, 1, 1]], [[512, 512, 300]]), cost_of, memory=memory))
    patch, batch = found["train.patch"], found["train.batch_size"]
    assert all(n % 16 == 0 for n in patch)
    assert batch >= 2
    assert COST.fixed_bytes + batch * COST.bytes_per_voxel * math.prod(patch) <= memory
    longer = [*patch]
    longer[int(np.argmin(patch))] += 16
    assert COST.fixed_bytes + 2 * COST.bytes_per_voxel * math.prod(longer) > memory
    assert found["predict.patch"] == patch


@pytest.mark.parametrize(
    ("spacing", "shape"),
    [((0.7, 0.7, 5), (512, 512, 200)), ((1, 1, 3), (256, 256, 256)), ((4, 1, 1), (160, 300, 300))],
)
def test_patches_have_fewer_voxels_along_the_coarse_axis(spacing, shape) -> None:
    cost = NetworkCost(1000, 1e6, (8, 8, 8))
    found = values(propose(fingerprint([spacing] * 3, [shape] * 3), lambda _: cost, memory=2e9))
    patch = np.array(found["train.patch"])
    coarse = int(np.argmax(spacing))
    assert (np.delete(patch, coarse) > 2 * patch[coarse]).all()
    # each axis is within a step or two of the others in mm
    extents, steps = patch * spacing, 8 * np.array(spacing)
    assert np.ptp(extents) <= 1.01 * steps.max()
    thin = values(
        propose(fingerprint([spacing] * 3, [(512, 512, 20)] * 3), lambda _: cost, memory=2e9)
    )
    assert thin["train.patch"][2] <= 24  # never longer than the volumes


def test_too_little_memory_is_said() -> None:
    with pytest.raises(DataError, match="do not hold one patch of 16 x 16 x 16"):
        propose(fingerprint([[1, 1, 1]], [[512, 512, 300]]), cost_of, memory=2e6)


def test_fingerprint_of_files(tmp_path: Path) -> None:
    found = fingerprint_of(read_dataset(tiny.make(tmp_path / "raw", 3)))
    assert found.cases == 3
    assert found.shapes.tolist() == [list(tiny.SHAPE)] * 3
    image, label = tiny.volumes(1)
    assert found.foreground == pytest.approx((label > 0).mean(), rel=0.1)
    assert found.channels[0].mean == pytest.approx(image[label > 0].mean(), rel=0.1)
    tiny.write_listing(tmp_path / "raw", [], test=["./imagesTr/case_01.nii.gz"])
    with pytest.raises(DataError, match="no labelled case"):
        fingerprint_of(read_dataset(tmp_path / "raw"))


def test_cost_grows_with_the_network() -> None:
    costs = [
        network_cost(build_model(name), channels=1, ndim=3)
        for name in ("lunet_small_4f", "unet_large_24f")
    ]
    assert costs[0].multiple == (16, 16, 16)
    assert 50 < costs[0].bytes_per_voxel < costs[1].bytes_per_voxel < 50_000
    assert costs[0].fixed_bytes < costs[1].fixed_bytes


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tiny.make(tmp_path / "raw", 2)
    words = ["plan", str(raw), "--memory-gb", "2", "--out"]
    assert main([*words, str(tmp_path / "plan.yaml")]) == 0
    assert main([*words, str(tmp_path / "plan.json")]) == 0
    plan = yaml.safe_load((tmp_path / "plan.yaml").read_text())
    assert plan["preprocess"]["size"] == [32, 32, 16]
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["preprocess"] == plan["preprocess"]
    assert set(content["reasons"]) >= {"preprocess.spacing", "train.batch_size"}
    assert "preprocess.spacing: keep" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--memory-gb", "-1"], "--memory-gb: found -1, a number above 0"),
        (["--memory-gb", "nan"], "--memory-gb: found 'nan'"),
        (["--largest-batch", "0"], "--largest-batch: found '0'"),
        (["--out", "plan.txt"], "--out: found plan.txt, a .yaml or .json file"),
        (["--out", "/proc/x.yaml"], "/proc: no file can be created in this folder"),
    ],
)
def test_impossible_options_are_told_before_the_data_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str], message: str
) -> None:
    words = ["plan", str(tmp_path / "none"), "--out", str(tmp_path / "plan.yaml"), *option]
    try:
        code = main(words)
    except SystemExit as stop:  # the parser's own refusal
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


@needs_data
def test_real_ct(tmp_path: Path) -> None:
    folder = Path(DATA) / "spleen_ct_crop"
    words = ["plan", str(folder), "--memory-gb", "0.5", "--out", str(tmp_path / "plan.json")]
    assert main([*words, "--preset", "unet_large_24f"]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    low, high = plan["preprocess"]["window"]
    assert -200 < low < 86 < high < 400
    assert all(n % 8 == 0 for n in plan["train"]["patch"])
