"""A pruned structure on file is trained from scratch in another study, as a variant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lunet.errors import ConfigError, DataError
from lunet.models.build import build_network
from lunet.models.unet import widths_from_levels
from lunet.study.config import parse
from lunet.study.study import Study

WIDTHS = {
    name: list(widths) for name, widths in widths_from_levels([2, 4, 8, 16, 32], 2).items()
} | {"bottleneck": [7, 5], "encoder.3": [3, 16]}
SECTION = {
    "preset": "unet_small_2f",
    "module": "unet",
    "name": "UNet",
    "arguments": {"widths": WIDTHS, "dropout": 0.01},
}


def variant(path: Path, base: str = "unet_small_4f", **more: Any) -> Study:
    changes = {"base": base, "structure": str(path), **more}
    return Study(
        parse(
            {
                "study": "other",
                "dataset": {"name": "phantom"},
                "presets": ["pruned_elsewhere", "lunet_small_4f"],
                "variants": {"pruned_elsewhere": changes},
            }
        )
    )


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"chosen": {"iteration": 3, "model": SECTION}, "preset": "unet_small_2f"},
        SECTION,
        {"arguments": SECTION["arguments"]},
    ],
)
def test_a_variant_has_the_structure_of_the_file(tmp_path: Path, content: dict) -> None:
    study = variant(write(tmp_path / "run.json", content))
    model = study.sections("train", "pruned_elsewhere")["model"]
    assert model["preset"] == "pruned_elsewhere"
    network = build_network(
        model["module"],
        model["name"],
        in_channels=1,
        out_channels=3,
        ndim=3,
        arguments=model["arguments"],
    )
    assert network.plan.widths["bottleneck"] == (7, 5)
    assert network.plan.widths["encoder.3"] == (3, 16)
    # the recipe is the base's, so that it trains as its neighbours do
    assert study.presets["pruned_elsewhere"][1] == study.presets["lunet_small_4f"][1]


def test_arguments_of_the_variant_win(tmp_path: Path) -> None:
    study = variant(write(tmp_path / "a.json", SECTION), arguments={"dropout": 0.2})
    arguments = study.presets["pruned_elsewhere"][0].arguments
    assert (arguments["dropout"], arguments["widths"]) == (0.2, WIDTHS)


def test_another_structure_trains_the_variant_alone_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", SECTION)
    before = variant(path)
    write(path, SECTION | {"arguments": {"widths": [1, 2, 3]}})
    after = variant(path)
    for preset, changed in (("pruned_elsewhere", True), ("lunet_small_4f", False)):
        sections = [study.sections("train", preset) for study in (before, after)]
        assert (sections[0] != sections[1]) == changed


@pytest.mark.parametrize(
    ("content", "base", "message"),
    [
        (SECTION, "mednext_small", "describes unet, .*the base mednext_small is mednext"),
        ({"widths": [1, 2]}, "unet_small_4f", "neither chosen.model nor arguments"),
        ([1, 2], "unet_small_4f", "neither chosen.model nor arguments"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(
    tmp_path: Path, content: Any, base: str, message: str
) -> None:
    path = write(tmp_path / "a.json", content)
    with pytest.raises(ConfigError, match=rf"variants\.pruned_elsewhere\.structure: .*{message}"):
        variant(path, base)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"structure: .*none\.json is missing.*[Pp]rune"):
        variant(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DataError, match=r"bad\.json: is not JSON"):
        variant(tmp_path / "bad.json")
