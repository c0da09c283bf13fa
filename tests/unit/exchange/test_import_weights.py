"""Foreign weights become a folder that prediction takes; nothing in the file is executed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from lunet.cli import main
from lunet.inference.load import load_model
from lunet.study.networks import build_model

SLIM = {"widths": [4, 4, 8, 8], "heads": [1, 1, 2, 2], "hidden": 8}


def foreign_file(path: Path, network: nn.Module, **others: object) -> Path:
    """The network's state under other names, inside a checkpoint."""
    state = {f"net.{i:03d}": value for i, value in enumerate(network.state_dict().values())}
    torch.save({"state_dict": state, **others}, path)
    return path


@pytest.mark.parametrize("preset", ["lunet_small_2f", "unetpp_small_1f", "mednext_small"])
def test_parity_by_position(tmp_path: Path, preset: str) -> None:
    torch.manual_seed(1)
    theirs = build_model(preset).eval()
    file = foreign_file(tmp_path / "published.pth", theirs, epoch=7)
    out = tmp_path / "imported"
    assert main(["import-weights", str(file), "--preset", preset, "--out", str(out)]) == 0
    ours = load_model(out)
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x))
    assert ours.lunet.training["imported"]["file"] == "published.pth"


def test_regions_and_channels_of_a_configuration(tmp_path: Path, capsys) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(
        "study: s\ndataset: {name: BraTS2021}\npresets: [tiny]\n"
        f"variants: {{tiny: {{base: slim_unetrv2_96, arguments: {SLIM}}}}}\n"
    )
    theirs = build_model("slim_unetrv2_96", in_channels=4, out_channels=3, **SLIM).eval()
    file = foreign_file(tmp_path / "net.pth", theirs, ema={"x": torch.zeros(1)})
    words = ["import-weights", str(file), "--config", str(config), "--preset", "tiny", "--names"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 2
    assert "2 states: state_dict, ema" in capsys.readouterr().err
    assert main([*words, "--key", "state_dict", "--out", str(tmp_path / "a")]) == 0
    assert "net.000 -> " in capsys.readouterr().out
    ours = load_model(tmp_path / "a")
    assert ours.lunet.task.names == ("WT", "TC", "ET")
    x = torch.randn(1, 4, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(theirs(x), ours(x))


def test_refusals_leave_nothing(tmp_path: Path, capsys) -> None:
    file = foreign_file(tmp_path / "net.pth", build_model("lunet_small_2f"))
    out = tmp_path / "out"
    words = ["import-weights", str(file), "--out", str(out)]
    assert main(words) == 2
    assert main([*words, "--preset", "lunet_small_4f"]) == 2
    assert "Choose the preset" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--preset", "lunet_small_2f"]) == 0
    assert main([*words, "--preset", "lunet_small_2f"]) == 0  # its own folder
    (out / "notes.txt").write_text("mine")
    assert main([*words, "--preset", "lunet_small_2f"]) == 2
    assert "notes.txt exists and was not written" in capsys.readouterr().err


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path, capsys) -> None:
    network = build_model("lunet_small_2f")
    with torch.no_grad():
        next(network.parameters()).view(-1)[0] = float("inf")
    file = foreign_file(tmp_path / "net.pth", network)
    out = tmp_path / "out"
    words = ["import-weights", str(file), "--preset", "lunet_small_2f", "--out", str(out)]
    assert main(words) == 2
    assert "values of net.000 are NaN or infinite" in capsys.readouterr().err
    torch.save({name: t.to(torch.int32) for name, t in build_model(
        "lunet_small_2f").state_dict().items()}, file)  # fmt: skip
    assert main(words) == 2
    assert "stored as torch.int32" in capsys.readouterr().err
    assert not out.exists()


class Trap:
    """Executes when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_nothing_in_a_file_is_executed(tmp_path: Path, capsys, how: str) -> None:
    file, mark = tmp_path / "evil.pth", tmp_path / "executed"
    if how == "torch":
        torch.save({"state_dict": Trap(mark)}, file)
    else:
        file.write_bytes(pickle.dumps(Trap(mark)))
    words = [str(file), "--preset", "lunet_small_2f", "--out", str(tmp_path / "out")]
    assert main(["import-weights", *words]) == 2
    assert "not a plain state" in capsys.readouterr().err
    assert not mark.exists()
