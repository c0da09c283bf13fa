"""The architecture figure shows the blocks, widths and ways of the built network."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import lunet
from lunet.cli import main
from lunet.reporting.figures.model_graph import trace


def test_blocks_of_a_nested_network(tmp_path: Path) -> None:
    words = ["figure", "architecture", "--preset", "unetpp_small_1f", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    data = pd.read_csv(tmp_path / "a.csv").set_index("block")
    assert len(data) == 5 + 10 + 1
    assert data.loc["node.0_2", "fed_by"].split() == ["encoder.0", "node.0_1", "node.1_1"]
    assert data.loc["encoder.4", "widths"] == "16 16"
    assert (tmp_path / "a.svg").stat().st_size > 5_000


def test_what_is_traced_is_what_the_plan_says() -> None:
    for preset in ("unet_small_1f", "unetpp_small_1f"):
        model = lunet.build_model(preset)
        found = trace(model, channels=1, ndim=3, side=32)
        wiring = {name: set(sources) - {"image"} for name, sources in model.plan.wiring.items()}
        assert {name: set(block.sources) for name, block in found.items()} == (
            wiring | {"project": {list(wiring)[-1]}}
        )
        for name, widths in model.plan.widths.items():
            assert found[name].channels == widths[-1]


def test_skips_that_are_off_are_not_drawn() -> None:
    model = lunet.build_model("unet_small_1f", skip_levels=[1])
    found = trace(model, channels=1, ndim=3, side=32)
    assert found["decoder.1"].sources == ["encoder.1", "up.1"]
    assert found["decoder.0"].sources == ["up.0"]


@pytest.mark.parametrize(
    ("preset", "block", "sources", "levels"),
    [
        ("mednext_small", "decoder.stage_2", "encoder.stage_2 decoder.up_2", 5),
        ("slim_unetrv2_96_planes", "up.1", "sparse.2 up.0", 6),
        ("attention_unet2d_16f", "decoder.0", "encoder.3 encoder.4", 5),
    ],
)
def test_a_network_without_plan_is_followed_through_a_pass(
    tmp_path: Path, preset: str, block: str, sources: str, levels: int
) -> None:
    words = ["figure", "architecture", "--preset", preset, "--out", str(tmp_path / "b")]
    if "2d" in preset:
        words += ["--set", "dataset.dimensions=2"]
    assert main(words) == 0
    data = pd.read_csv(tmp_path / "b.csv").set_index("block")
    assert data.loc[block, "fed_by"] == sources
    assert data["level"].max() == levels - 1
    assert data["fed_by"].isna().sum() == 1  # the first one sees the image
    assert (tmp_path / "b.svg").stat().st_size > 5_000
