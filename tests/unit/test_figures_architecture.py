"""The architecture figure shows the blocks, widths and ways of the built network."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lunet.cli import main


def test_blocks_of_a_nested_network(tmp_path: Path) -> None:
    words = ["figure", "architecture", "--preset", "unetpp_small_1f", "--out"]
    assert main([*words, str(tmp_path / "a")]) == 0
    data = pd.read_csv(tmp_path / "a.csv").set_index("block")
    assert len(data) == 5 + 10 + 1
    assert data.loc["node.0_2", "fed_by"].split() == ["encoder.0", "node.0_1", "node.1_1"]
    assert data.loc["encoder.4", "widths"] == "16 16"
    assert (tmp_path / "a.svg").stat().st_size > 5_000


def test_a_network_without_plan_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["figure", "architecture", "--preset", "mednext_small", "--out", str(tmp_path / "b")]
    assert main(words) == 2
    assert "no plan of its blocks" in capsys.readouterr().err
