"""Weights of other code carried over by position."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lunet.errors import DataError
from lunet.exchange.import_weights import carry_over, read_entries
from lunet.models.attention_unet import AttentionUNet
from lunet.models.mednext import MedNeXt
from lunet.models.unet import UNet
from lunet.models.unetpp import UNetPlusPlus


def networks() -> list[nn.Module]:
    return [
        UNet(1, 1, widths=[2, 3, 4]),
        UNetPlusPlus(1, 1, widths=[2, 3, 4]),
        MedNeXt(1, 1, width=2, blocks=[1, 1, 1]),
        AttentionUNet(1, 1, widths=2, ndim=3),
    ]


def foreign(network: nn.Module, seed: int) -> dict[str, Tensor]:
    """A state with other names in the same order, with running statistics off their start."""
    random = torch.Generator().manual_seed(seed)
    state = network.state_dict().values()
    values = [
        torch.rand(t.shape, generator=random) if t.is_floating_point() else torch.tensor(7)
        for t in state
    ]
    return {f"module.z{len(values) - i}": value for i, value in enumerate(values)}


@pytest.mark.parametrize("index", range(4))
def test_parity_by_position(index: int, tmp_path: Path) -> None:
    source, target = networks()[index].eval(), networks()[index].eval()
    state = foreign(source, index)
    source.load_state_dict(dict(zip(source.state_dict(), state.values(), strict=True)))
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "net.pth")
    pairs = carry_over(target, read_entries(tmp_path / "net.pth"))
    assert len(pairs) == sum(t.is_floating_point() for t in state.values())
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(source(x), target(x))


def test_parameters_alone(tmp_path: Path) -> None:
    source, target = networks()[0], networks()[0]
    state = {f"p{i}": p.detach() for i, p in enumerate(source.parameters())}
    torch.save(state, tmp_path / "net.pt")
    carry_over(target, read_entries(tmp_path / "net.pt"))
    pairs = zip(source.parameters(), target.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_safetensors_by_order_and_by_name(tmp_path: Path) -> None:
    source = networks()[0]
    state = foreign(source, 5)
    path = tmp_path / "net.safetensors"
    save_file(state, path, metadata={"order": json.dumps(list(state))})
    target = networks()[0]
    carry_over(target, read_entries(path))
    wanted = [value for value in state.values() if value.is_floating_point()]
    found = [value for value in target.state_dict().values() if value.is_floating_point()]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    save_file(target.state_dict(), path)
    again = networks()[0]
    carry_over(again, read_entries(path))
    assert all(torch.equal(a, again.state_dict()[n]) for n, a in target.state_dict().items())


def test_other_preset_changes_nothing() -> None:
    target = networks()[0]
    before = {name: value.clone() for name, value in target.state_dict().items()}
    wider = list(UNet(1, 1, widths=[2, 3, 5]).state_dict().items())
    renamed = [(f"x.{name}", value) for name, value in wider]
    with pytest.raises(DataError, match=r"shape \(5, 3, 2, 2, 2\), \(4, 3, 2, 2, 2\) is needed"):
        carry_over(target, renamed)
    with pytest.raises(DataError, match="the network has"):
        carry_over(target, renamed[:-1])
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_refused_files(tmp_path: Path) -> None:
    torch.save(networks()[0], tmp_path / "whole.pt")
    with pytest.raises(DataError, match="state_dict"):
        read_entries(tmp_path / "whole.pt")
    state = networks()[0].state_dict()
    torch.save({"model": state, "ema": state}, tmp_path / "two.pt")
    with pytest.raises(DataError, match="2 states: model, ema"):
        read_entries(tmp_path / "two.pt")
    assert len(read_entries(tmp_path / "two.pt", key="ema")) == len(state)
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    for name in ("text.pt", "text.safetensors", "absent.pt"):
        with pytest.raises(DataError, match=name):
            read_entries(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x1f\x8b\x08", b"]q\x00.", b"{}"])
def test_a_file_of_another_kind_is_bad_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.pth: "):
        read_entries(path)
