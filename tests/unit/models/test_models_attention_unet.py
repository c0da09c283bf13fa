"""2D (Attention) U-Net against golden sizes, shapes, gate values and outputs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from models_golden import assert_matches, fill64, image64, read_json, sine_fill

from lunet.errors import ConfigError
from lunet.models.attention_unet import AttentionGate, AttentionUNet

GOLDEN = read_json("attention_unet.json")
FULL = "n_channels=1,n_classes=2,deep_supervision=True,bilinear=True,base=64"
OUTPUTS = [key for key in GOLDEN["parity_hash"] if key != "_meta"]


def option(text: str, name: str, default: str) -> str:
    found = re.search(rf"{name}=(\w+)", text)
    return found.group(1) if found else default


def network_of(text: str) -> AttentionUNet:
    return AttentionUNet(
        int(option(text, "n_channels", "1")),
        int(option(text, "n_classes", "2")),
        widths=int(option(text, "base", "64")),
        upsampling="linear" if option(text, "bilinear", "True") == "True" else "transposed",
        attention=not text.startswith("UNet"),
        deep_supervision=option(text, "deep_supervision", "False") == "True",
    )


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("text", "wanted"), list(GOLDEN["other_param_counts"].items()))
def test_parameter_counts(text: str, wanted: int) -> None:
    assert count(network_of(text)) == wanted


@pytest.mark.parametrize("text", GOLDEN["models"])
def test_state(text: str) -> None:
    network = network_of(text)
    assert count(network) == GOLDEN["models"][text]["n_params"]
    assert len(network.state_dict()) == GOLDEN["models"][text]["n_state_tensors"]
    if text == FULL:
        listed = GOLDEN["models"][text]["param_shapes [fill_index,name,shape]"]
        assert [list(p.shape) for p in network.parameters()] == [shape for _, _, shape in listed]


def names_of(network: AttentionUNet) -> list[str]:
    """Reference-like endings: a 1-D weight belongs to a norm."""
    return [name for name, _ in network.named_parameters()]


@pytest.mark.parametrize("text", OUTPUTS)
def test_golden_output(text: str) -> None:
    network = network_of(text).double().eval()
    fill64(network, names_of(network))
    shape = [int(n) for n in re.search(r"input=\[(.*)\]", text).group(1).split(",")]
    with torch.no_grad():
        y = network(image64(shape))
    assert_matches(y, GOLDEN["parity_hash"][text])


def test_attention_gate_unit() -> None:
    golden = GOLDEN["unit_attention_gate"]
    gate = AttentionGate(8, 6, ndim=2)
    sine_fill(gate, [name for name, _ in gate.named_parameters()])
    gate.double().eval()
    g = torch.from_numpy(2 * np.sin(0.01 * np.arange(128))).reshape(1, 8, 4, 4)
    x = torch.from_numpy(np.cos(0.05 * np.arange(384))).reshape(1, 6, 8, 8)
    with torch.no_grad():
        y = gate(g, x)
    flat = y.reshape(-1).numpy()
    np.testing.assert_allclose(flat[:10], golden["out_flat_0_9"], rtol=2e-5)
    np.testing.assert_allclose(y.std(unbiased=False), 0.227075, rtol=2e-5)


def test_deep_supervision_order_and_sizes() -> None:
    torch.manual_seed(0)
    network = AttentionUNet(1, 2, widths=4, deep_supervision=True)
    x = torch.randn(2, 1, 37, 50)
    logits = network.train()(x)
    assert isinstance(logits, list)
    assert [tuple(y.shape) for y in logits] == [(2, 2, 37, 50)] * 4
    logits[1].sum().backward()
    touched = [head.weight.grad is not None for head in network.side_heads]
    assert touched == [False, False, True]  # declared 1/8, 1/4, 1/2; returned 1/2, 1/4, 1/8
    assert network.eval()(x).shape == (2, 2, 37, 50)


@pytest.mark.parametrize("upsampling", ["linear", "transposed"])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("ndim", [2, 3])
def test_flat_widths_any_size(upsampling: str, attention: bool, ndim: int) -> None:
    options: dict[str, Any] = {"upsampling": upsampling, "attention": attention, "ndim": ndim}
    network = AttentionUNet(2, 1, widths=[6] * 4, deep_supervision=True, **options)
    network.train()
    x = torch.randn(1, 2, *(19, 5, 8)[:ndim])
    logits = network(x)
    sum(y.square().sum() for y in logits).backward()
    assert [y.shape[2:] for y in logits] == [x.shape[2:]] * 3
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_wrong_upsampling() -> None:
    with pytest.raises(ConfigError, match="upsampling"):
        AttentionUNet(1, 1, upsampling="nearest")
