"""Slim UNETRV2 and its parts against golden sizes, values and gradients."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from models_golden import assert_matches, fill64, hash64, image64, read_json, sine_fill
from torch import nn

from lunet.errors import ConfigError
from lunet.models.mamba import TriMamba
from lunet.models.padding import legal_sizes
from lunet.models.slim_unetr import LocalBlock, SlimUNETRV2, SparseBlock, UpLayer, divisible_sizes

GOLDEN = read_json("slim_unetrv2.json")
UNITS = GOLDEN["unit"]
SETTINGS: dict[str, dict[str, Any]] = {
    "128": {"strides": (4, 2, 2, 2), "slices": (64, 32, 16, 8)},
    "96": {"strides": (2, 2, 2, 2), "slices": (16, 8, 4, 2)},
}
LISTED = "param_shapes_in1_out3 [fill_index,name,shape]"
NAMES = [name for _, name, _ in GOLDEN["sets"]["96"][LISTED]]


@pytest.mark.parametrize("setting", SETTINGS)
def test_sizes_and_shapes(setting: str) -> None:
    golden = GOLDEN["sets"][setting]
    for key, wanted in golden["n_params"].items():
        into, out = map(int, re.findall(r"\d+", key))
        with torch.device("meta"):
            network = SlimUNETRV2(into, out, **SETTINGS[setting])
        assert sum(p.numel() for p in network.parameters()) == wanted
    with torch.device("meta"):
        network = SlimUNETRV2(1, 3, **SETTINGS[setting])
    assert [list(p.shape) for p in network.parameters()] == [s for _, _, s in golden[LISTED]]
    assert len(network.state_dict()) == golden["n_state_tensors"]
    parts = [network.down, network.sparse, network.local, network.mlp]
    counts = [sum(p.numel() for p in m.parameters()) for part in parts for m in part]
    assert counts == list(golden["params_by_module_in1_out3"].values())[:16]


def test_fill_anchors() -> None:
    first = [0.766621616, -0.136944006, -0.947132457, 0.941763956]
    np.testing.assert_allclose(hash64(4, 0), first, atol=1e-9)
    image = [-0.694457687, 0.690179269, -0.973262043, -0.337028384]
    np.testing.assert_allclose(hash64(4, 1000000), image, atol=1e-9)


def filled(setting: str, dtype: torch.dtype) -> SlimUNETRV2:
    network = SlimUNETRV2(1, 3, **SETTINGS[setting]).to(dtype).eval()
    fill64(network, NAMES)
    return network


def test_golden_output_and_gradients_96() -> None:
    network = filled("96", torch.float64)
    x = image64((1, 1, 32, 32, 32)).requires_grad_()
    y = network(x)
    assert_matches(y, GOLDEN["parity_hash"]["set=96|in=1|batch=1|size=32"])
    (y * image64(y.shape, k=2000000)).mean().backward()
    golden = GOLDEN["parity_hash"]["gradients set=96 size=32 in=1"]
    assert float(x.grad.abs().sum()) == pytest.approx(golden["input_grad_abs_sum"], rel=2e-5)
    sums = [float(p.grad.abs().sum()) for p in network.parameters()]
    assert list(golden["param_grad_abs_sum"]) == NAMES
    # biases before an instance norm have no gradient but rounding
    wanted = list(golden["param_grad_abs_sum"].values())
    assert sums == pytest.approx(wanted, rel=2e-5, abs=1e-12)


@pytest.mark.parametrize("deterministic", [True, False])
def test_deterministic_attention_uses_no_fused_kernel(
    monkeypatch: pytest.MonkeyPatch, deterministic: bool
) -> None:
    fused = []

    def attention(q: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        cuda = torch.backends.cuda
        fused.append(cuda.flash_sdp_enabled() or cuda.mem_efficient_sdp_enabled())
        return q

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        filled("96", torch.float32)(torch.zeros(1, 1, 32, 32, 32))
    finally:
        torch.use_deterministic_algorithms(before)
    assert set(fused) == {not deterministic}


def test_golden_output_128() -> None:
    golden = GOLDEN["parity_hash"]["set=128|in=1|batch=1|size=128"]
    network = filled("128", torch.float32)
    with torch.no_grad():
        y = network(image64((1, 1, 128, 128, 128)).float())
    assert_matches(y, golden, absolute=4 * golden["ref_float32_max_abs_dev"])


def sine(*shape: int, step: float, size: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(size * np.sin(step * np.arange(np.prod(shape)))).reshape(shape)


def unit_filled(module: nn.Module, names: list[str]) -> nn.Module:
    sine_fill(module, names)
    return module.double().eval()


def names_in(golden: dict[str, Any]) -> list[str]:
    return [name for _, name, _ in golden["fill_order [k,name,shape]"]]


@pytest.mark.parametrize("key", [key for key in UNITS if key.startswith("tri_mamba")])
def test_tri_mamba(key: str) -> None:
    golden = UNITS[key]
    width, length, slices = map(int, re.findall(r"\d+", key))
    layer = unit_filled(TriMamba(width), names_in(golden))
    x = sine(1, length, width, step=0.1).requires_grad_()
    y = layer(x, slices=slices)
    np.testing.assert_allclose(y.detach().flatten(), golden["y_flat"], rtol=2e-5, atol=1e-6)
    (y * torch.cos(y.detach())).sum().backward()
    wanted = golden["grad_of_sum(y*cos(stopgrad y))"]
    found = {"x_abs_sum": float(x.grad.abs().sum())}
    found |= {n: float(p.grad.abs().sum()) for n, p in layer.named_parameters()}
    assert found == pytest.approx(wanted, rel=2e-5)


@pytest.mark.parametrize("key", [key for key in UNITS if key.startswith("block_step")])
def test_sparse_block(key: str) -> None:
    stage, width, heads, slices, side = map(int, re.findall(r"\d+", key))
    stride = (4, 4, 2, 1)[stage]
    block = unit_filled(SparseBlock(width, stride=stride, heads=heads), names_in(UNITS[key]))
    with torch.no_grad():
        y = block(sine(1, width, side, side, side, step=0.1), slices=slices)
    assert_ends(y, UNITS[key])


def assert_ends(y: torch.Tensor, golden: dict[str, Any]) -> None:
    flat = y.flatten().numpy()
    np.testing.assert_allclose(flat[:16], golden["flat[0:16]"], rtol=2e-5, atol=2e-6)
    if "flat[-8:]" in golden:
        np.testing.assert_allclose(flat[-8:], golden["flat[-8:]"], rtol=2e-5, atol=2e-6)
    assert float(y.std()) == pytest.approx(golden["stats"]["std_unbiased"], rel=2e-5)


@pytest.mark.parametrize(("key", "activation"), [("True", nn.GELU), ("False", nn.SiLU)])
def test_local_block(key: str, activation: type[nn.Module]) -> None:
    block = LocalBlock(4, activation)
    block = unit_filled(block, [name for name, _ in block.named_parameters()])
    with torch.no_grad():
        y = block(sine(1, 4, 4, 4, 4, step=0.1))
    assert_ends(y, UNITS[f"sfm_c4_shallow{key}"])


def test_up_layer() -> None:
    golden = UNITS["decoder_layer_in8_out4_r2"]
    layer = unit_filled(UpLayer(8, 4, 2), golden["state_order"])
    skip = torch.from_numpy(np.cos(0.05 * np.arange(256))).reshape(1, 4, 4, 4, 4)
    with torch.no_grad():
        y = layer(sine(1, 8, 2, 2, 2, step=0.01, size=5.0), skip)
    assert_ends(y, golden)


SMALL: dict[str, Any] = {"widths": (4, 8, 8, 16), "hidden": 8}


@pytest.mark.parametrize("slices", [(16, 8, 4, 2), "planes"])
def test_any_size_and_gradients(slices: Any) -> None:
    torch.manual_seed(0)
    network = SlimUNETRV2(2, 3, slices=slices, **SMALL).train()
    x = torch.randn(2, 2, 33, 30, 17)
    y = network(x)
    assert y.shape == (2, 3, 33, 30, 17)
    y.square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("size", "legal"),
    [((128, 128, 64), (128, 128, 64)), ((64, 64, 256), (64, 64, 256)), ((64,) * 3, None)]
    + [((96, 96, 96), (128, 128, 128)), ((120, 100, 60), (128, 128, 64))],
)
def test_legal_sizes_of_the_128_setting(size: tuple[int, ...], legal: Any) -> None:
    rounded = legal_sizes(size, multiple=(64, 64, 64))
    found = divisible_sizes(rounded, 64, (4, 8, 16, 32), (64, 32, 16, 8))
    if legal is None:  # four equally small ones exist
        assert sorted(found) in ([64, 128, 128], [64, 64, 256])
    else:
        assert found == legal


def test_planes_equal_the_fixed_slices_of_their_size() -> None:
    torch.manual_seed(0)
    planes = SlimUNETRV2(1, 1, slices="planes", **SMALL).eval()
    fixed = SlimUNETRV2(1, 1, slices=(4, 2, 2, 2), **SMALL).eval()
    fixed.load_state_dict(planes.state_dict())
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(planes(x), fixed(x))


def test_initial_steps_of_the_forward_scan() -> None:
    layer = TriMamba(48)
    steps = nn.functional.softplus(layer.get_parameter("dt_proj.bias")).detach()
    assert 1e-3 * 0.999 <= float(steps.min()) <= float(steps.max()) <= 0.1 * 1.001
    default = nn.functional.softplus(layer.get_parameter("dt_proj_b.bias")).detach()
    assert float(default.min()) > 0.4


@pytest.mark.parametrize(
    ("arguments", "where"),
    [({"slices": "rows"}, "slices"), ({"ndim": 2}, "ndim"), ({"strides": (2, 2)}, "strides")]
    + [({"heads": (5, 2, 4, 4)}, "heads")],
)
def test_wrong_arguments(arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ConfigError, match=where):
        SlimUNETRV2(1, 1, **arguments)


def test_he_initialisation_is_a_choice() -> None:
    arguments = {"widths": (16, 16, 16, 16), "heads": (1, 1, 1, 1), "hidden": 16}
    network = SlimUNETRV2(1, 1, initialisation="he", **arguments)
    weight = network.local[0].first[0].weight
    assert weight.std().item() == pytest.approx((2 / (1 + 1e-4) / (16 * 27)) ** 0.5, rel=0.05)
    assert not network.local[0].first[0].bias.any()
    assert torch.equal(
        network.sparse[0].mamba.state_dict()["A_log"][0], torch.arange(1.0, 17).log()
    )
    with pytest.raises(ConfigError, match="initialisation"):
        SlimUNETRV2(1, 1, initialisation="kaiming", **arguments)
