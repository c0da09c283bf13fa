"""A plan's topology reaches the networks that ask for it, and no others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lunet.commands.arguments import read_settings
from lunet.errors import ConfigError
from lunet.models.build import build_network
from lunet.study.presets import find_preset
from lunet.study.study import Study, study_of
from lunet.study.topology import with_topology

STRIDES = [[1, 1, 1], [2, 2, 1], [2, 2, 2]]
KERNELS = [[3, 3, 1], [3, 3, 3], [3, 3, 3]]
TOPOLOGY = {"strides": STRIDES, "kernels": KERNELS}
PLANNED = {"arguments": {"topology": "planned"}}
STUDY = {
    "study": "s",
    "dataset": {"name": "phantom"},
    "presets": ["lunet", "unet", "lunet_small_4f", "pocket_small_8f"],
    "variants": {
        "lunet": {"base": "lunet_small_4f", **PLANNED},
        "unet": {"base": "unet_small_4f", **PLANNED},
    },
}


def arguments_of(study: Study, preset: str, plan: Path | None = None) -> dict[str, Any]:
    text = json.dumps(study.sections("train", preset))
    given = argparse.Namespace(settings=text, plan=str(plan) if plan else None)
    return read_settings(given, "train")["model"]["arguments"]


@pytest.mark.parametrize("how", ["key", "file", "auto"])
def test_a_plan_fills_strides_kernels_and_widths(how: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({"topology": TOPOLOGY, "train": {"batch_size": 2}}))
    own = {"key": {"topology": TOPOLOGY}, "file": {"plan": str(path)}, "auto": {"plan": "auto"}}
    study = study_of(STUDY | own[how])
    plan = path if how == "auto" else None
    for preset, widths in (
        ("lunet", [4, 4, 4]), ("unet", [4, 8, 16]), ("pocket_small_8f", [8, 8, 8]),
    ):  # fmt: skip
        found = arguments_of(study, preset, plan)
        assert (found["strides"], found["kernels"], found["widths"]) == (STRIDES, KERNELS, widths)
        assert "topology" not in found
    assert "strides" not in arguments_of(study, "lunet_small_4f", plan)
    lunet, unet = (arguments_of(study, name, plan) for name in ("lunet", "unet"))
    assert {key for key in lunet if lunet[key] != unet[key]} == {"widths"}


def test_a_variant_that_states_it_needs_a_plan() -> None:
    with pytest.raises(ConfigError, match=r"variants.lunet.arguments.topology.*nothing is planned"):
        study_of(STUDY)
    study = study_of(STUDY | {"presets": ["pocket_small_8f"], "variants": {}})
    assert arguments_of(study, "pocket_small_8f")["topology"] == "planned"


def test_one_kernel_per_stride() -> None:
    with pytest.raises(ConfigError, match="3 strides and 2 kernels"):
        study_of(STUDY | {"topology": TOPOLOGY | {"kernels": KERNELS[1:]}})


@pytest.mark.parametrize(
    ("preset", "levels", "widths"),
    [
        ("nnunet_like_32f", 4, [32, 64, 128, 256]),
        ("nnunet_like_32f", 7, [32, 64, 128, 256, 320, 320, 320]),
        ("unet_small_4f", 7, [4, 8, 16, 32, 64, 128, 256]),
        ("unet_large_24f", 6, [24, 48, 96, 192, 320, 320]),
        ("lunet_small_4f", 7, [4] * 7),
        ("xtiny_64f", 7, [32, 64, 64, 64, 64, 64, 64]),
        ("xtiny_4f", 3, [4, 4, 4]),
    ],
)
def test_widths_end_earlier_or_continue_as_they_ended(
    preset: str, levels: int, widths: list[int]
) -> None:
    planned = {"strides": [[1, 1, 1]] + [[2, 2, 2]] * (levels - 1), "kernels": [[3] * 3] * levels}
    row = find_preset(preset)
    assert with_topology(row.arguments | {"topology": "planned"}, planned)["widths"] == widths


@pytest.mark.parametrize("levels", [3, 8])
def test_a_residual_encoder_continues_its_blocks(levels: int) -> None:
    planned = {"strides": [[1, 1]] + [[2, 2]] * (levels - 1), "kernels": [[3, 3]] * levels}
    filled = with_topology(find_preset("resenc_2f").arguments, planned)
    assert filled["convs_per_block"] == [3, 6, 8, 12, 12, 12, 12, 12][:levels]
    network = build_network("unet", "UNet", in_channels=1, out_channels=1, ndim=2, arguments=filled)
    assert network.multiple == (2 ** (levels - 1),) * 2


def test_a_pruned_network_keeps_its_widths() -> None:
    pruned = {"topology": "planned", "widths": {"encoder.0": [3, 2]}}
    assert with_topology(pruned, TOPOLOGY) == pruned


HIPPOCAMPUS = {
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
    "kernels": [[3, 3, 3]] * 4,
}
MIST = {
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 1]],
    "kernels": [[3, 3, 3]] * 5,
}


@pytest.mark.parametrize(
    ("preset", "topology", "parameters", "source"),
    [
        # MIST's topology for 48 x 64 x 48 voxels of 1 mm, one channel, three classes
        ("pocket_small_32f", MIST, 609_475, "2104.10745"),
        # nnU-Net's 3d_fullres of Task04_Hippocampus, plain and with the residual encoder
        ("nnunet_like_32f", HIPPOCAMPUS, 5_603_177, "s41592-020-01008-z"),
        ("resenc_32f", HIPPOCAMPUS, 25_895_593, "2404.09556"),
        # by arithmetic: 27 (f + 13 f f) + 3 * 14 f, 3 * (8 f f + f), 3 (3 f + 3) for f = 4
        ("xtiny_4f", HIPPOCAMPUS, 27 * (4 + 16 * 16) + 42 * 4 + 3 * 132 + 3 * 15, "2605.09639"),
    ],
)
def test_presets_have_the_size_of_their_source(
    preset: str, topology: dict[str, Any], parameters: int, source: str
) -> None:
    row = find_preset(preset)
    network = build_network(
        row.module, row.network, in_channels=1, out_channels=3, ndim=3,
        arguments=with_topology(row.arguments, topology),
    )  # fmt: skip
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert source in row.source
    assert row.recipe == "nnunet"


def test_caps_limit_the_widths_of_nnunet() -> None:
    widths = {cap: find_preset(f"xtiny_{cap}f").arguments["widths"] for cap in (4, 100, 400)}
    assert widths == {
        4: [4] * 6,
        100: [32, 64, 100, 100, 100, 100],
        400: [32, 64, 128, 256, 320, 320],
    }
