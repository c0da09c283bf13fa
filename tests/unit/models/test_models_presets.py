"""Every preset of the LUNet study against golden sizes, shapes, order and outputs."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from models_golden import fill32, hash32, preset_model, preset_rows, read_json
from torch import nn

from lunet.models.build import build_network

ROWS = {row["preset"]: row for row in preset_rows()}
WITH_OUTPUT = [name for name, row in ROWS.items() if row["H_eval_mean"]]
SHAPES = read_json("lunet_state_shapes.json")
FAMILIES = read_json("lunet_param_roles.json")


def network_of(preset: str, *, in_channels: int = 1, out_channels: int = 1, ndim: int = 3) -> Any:
    module, name, arguments = preset_model(ROWS[preset])
    return build_network(
        module,
        name,
        in_channels=in_channels,
        out_channels=out_channels,
        ndim=ndim,
        arguments=arguments,
    )


def role(name: str, levels: int) -> str:
    """The neutral role name of one of our parameters, from its name alone."""
    block, *rest, kind = name.split(".")
    word = {"weight": "W", "bias": "b"}[kind]
    if block == "project":
        return f"head.project1x1.{word}"
    if block == "up":
        key = rest[0]
        row, _, column = key.partition("_")
        return f"up_into(row{row},col{column}).{word}" if column else f"up_to[{key}].{word}"
    if rest[-1] == "norm":
        word = {"W": "gamma", "b": "beta"}[word]
    if block == "head":
        return f"head.{rest[-1]}.{word}"
    part = f"{rest[-1]}{int(rest[-2]) + 1}"
    return f"{_block_role(block, rest[0], levels)}.{part}.{word}"


def _block_role(block: str, key: str, levels: int) -> str:
    if block == "bottleneck":
        return f"enc[{levels - 1}=deepest]"
    if block == "node":
        row, column = key.split("_")
        return f"node(row{row},col{column})"
    return f"{ {'encoder': 'enc', 'decoder': 'dec'}[block] }[{key}]"


def mednext_role(name: str) -> str:
    *path, kind = name.split(".")
    word = {"weight": "W", "bias": "b"}[kind]
    if path in (["stem"], ["project"]):
        return f"{'stem1x1' if path == ['stem'] else 'head.project1x1'}.{word}"
    part = path[-1] if path[-1] in ("depthwise", "norm") else f"{path[-1]}1x1"
    word = {"W": "gamma", "b": "beta"}[word] if part == "norm" else word
    if path[0] == "bottleneck":
        return f"enc[4=deepest].block{int(path[1]) + 1}.{part}.{word}"
    kind, level = path[1].split("_")
    if kind in ("down", "up"):
        return f"{'down_from' if kind == 'down' else 'up_to'}[{level}].{part}.{word}"
    side = {"encoder": "enc", "decoder": "dec"}[path[0]]
    return f"{side}[{level}].block{int(path[2]) + 1}.{part}.{word}"


@pytest.mark.parametrize("preset", ROWS)
def test_size_shapes_and_order(preset: str) -> None:
    row = ROWS[preset]
    network = network_of(preset)
    assert sum(p.numel() for p in network.parameters()) == int(row["n_params"])
    assert [list(p.shape) for p in network.parameters()] == SHAPES[preset]
    (roles,) = [f["roles"] for f in FAMILIES.values() if preset in f["presets"]]
    to_role = mednext_role if preset.startswith("mednext") else None
    names = [name for name, _ in network.named_parameters()]
    levels = int(row["levels"])
    assert [to_role(name) if to_role else role(name, levels) for name in names] == roles


@pytest.mark.parametrize(
    ("preset", "entries"),
    [("unet_small_4f", 136), ("unet_large_6f", 155), ("unetpp_small_1f", 232)]
    + [("unetpp_large_6f", 224), ("mednext_small", 228)],
)
def test_complete_state(preset: str, entries: int) -> None:
    assert len(network_of(preset).state_dict()) == entries


def test_fill_anchors() -> None:
    anchors = [-0.616055053, -0.198011089, 0.747766765, 0.603977822, -0.724026284]
    np.testing.assert_allclose(hash32(5, -1), anchors, atol=1e-9)
    np.testing.assert_allclose(hash32(32**3, -1).sum(), -9.338068606797606, rtol=1e-12)
    network = network_of("lunet_small_4f").double()
    fill32(network)
    total = sum(float(p.detach().sum()) for p in network.parameters())
    assert total == pytest.approx(86.3289405880, rel=1e-11)


@pytest.mark.parametrize("preset", WITH_OUTPUT)
def test_golden_output(preset: str) -> None:
    network = network_of(preset).double().eval()
    fill32(network)
    x = torch.from_numpy(hash32(32**3, -1)).reshape(1, 1, 32, 32, 32)
    with torch.no_grad():
        y = network(x).numpy()
    statistics = {"mean": y.mean(), "std": y.std(), "min": y.min(), "max": y.max()}
    wanted = {key: float(ROWS[preset][f"H_eval_{key}"]) for key in statistics}
    assert statistics == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize(("preset", "ndim"), list(itertools.product(ROWS, (2, 3))))
def test_odd_sizes_and_gradients(preset: str, ndim: int) -> None:
    torch.manual_seed(ndim)
    network = network_of(preset, in_channels=2, out_channels=3, ndim=ndim).train()
    without_dead_units(network)
    x = torch.randn(1, 2, *(17, 18, 9)[:ndim])
    y = network(x)
    assert y.shape == (1, 3, *x.shape[2:])
    (y * torch.randn(y.shape)).sum().backward()
    cut_off = [name for name, p in network.named_parameters() if p.grad is None]
    # an instance norm removes the constant that a bias just before it adds
    zero = {n for n, p in network.named_parameters() if not float(p.grad.abs().sum()) > 0}
    assert cut_off == []
    assert {name for name in zero if "depthwise.bias" not in name} == set()


def without_dead_units(network: nn.Module) -> None:
    """A smooth activation, since a ReLU at rest stops gradients by chance."""
    for module in list(network.modules()):
        if isinstance(getattr(module, "relu", None), nn.ReLU):
            module.relu = nn.Softplus()


@pytest.mark.parametrize(
    ("preset", "width", "parameters"),
    [("lunet", 6, 22_081), ("lunet", 12, 87_289), ("lunet", 18, 195_625), ("lunet", 24, 347_089)]
    + [("lunet", 8, 39_025)],
)
def test_other_widths(preset: str, width: int, parameters: int) -> None:
    network = build_network(
        "unet",
        "UNet",
        in_channels=1,
        out_channels=1,
        ndim=3,
        arguments={"widths": [width] * 5, "convs_per_block": 2},
    )
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_initialisation_is_the_default_of_the_layers() -> None:
    network = network_of("lunet_small_4f")
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    assert all(bool((m.weight == 1).all() and (m.bias == 0).all()) for m in norms)
    assert {(m.eps, m.momentum) for m in norms} == {(1e-5, 0.1)}
    bound = 1 / np.sqrt(4 * 27)
    weight = network.encoder["0"][1].conv.weight
    assert 0.9 * bound < float(weight.detach().abs().max()) <= bound
