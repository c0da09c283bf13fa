"""Padding, plans as data, skips, pruned shapes, building by name, import discipline."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lunet.errors import ConfigError, DataError
from lunet.models import padding
from lunet.models.build import build_for_task, build_network
from lunet.models.mednext import GlobalResponseNorm, MedNeXt, UpBlock
from lunet.models.unet import UNet
from lunet.models.unetpp import UNetPlusPlus
from lunet.task import Task

MODELS = Path(padding.__file__).parent


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


SHARED = {"blocks", "units", "own", "planned", "padding", "resizing", "mamba", "selective_scan"}


@given(
    sizes=st.lists(st.integers(1, 70), min_size=2, max_size=3),
    multiple=st.sampled_from([1, 2, 8, 16]),
    minimum=st.sampled_from([1, 5, 16]),
    long_side=st.sampled_from([1, 2, 32]),
)
def test_legal_sizes(sizes: list[int], multiple: int, minimum: int, long_side: int) -> None:
    found = padding.legal_sizes(
        sizes, multiple=[multiple] * len(sizes), minimum=minimum, long_side=long_side
    )
    assert all(n % multiple == 0 and n >= minimum for n in found)
    assert all(n >= given for n, given in zip(found, sizes, strict=True))
    assert max(found) >= long_side * multiple
    rounded = [-(-max(n, minimum) // multiple) * multiple for n in sizes]
    assert found[1:] == tuple(rounded[1:])
    is_long = max(rounded) >= long_side * multiple
    assert found[0] == (rounded[0] if is_long else long_side * multiple)


def test_the_long_side_counts_the_multiples_of_each_axis() -> None:
    sizes = padding.legal_sizes((1, 8, 8), multiple=(1, 8, 8), long_side=2)
    assert sizes == (2, 8, 8)  # one voxel of 8 x 8 is a single one at the deepest level


def test_padding_is_cropped_and_legal_sizes_pass_untouched() -> None:
    x = torch.randn(2, 1, 5, 6, 7)
    seen: list[Tensor] = []

    def network(padded: Tensor) -> list[Tensor]:
        seen.append(padded)
        return [padded + 1, padded * 2]

    first, second = padding.run_padded(network, x, (8, 8, 8))
    assert torch.equal(first, x + 1)
    assert torch.equal(second, x * 2)
    assert torch.equal(seen[0][..., :5, :6, :7], x)
    assert float(seen[0].abs().sum()) == pytest.approx(float(x.abs().sum()))
    padding.run_padded(network, x, (5, 6, 7))
    assert torch.equal(seen[1], x)


NETWORKS: list[Any] = [
    (UNet, {"widths": [2, 3, 4]}),
    (UNetPlusPlus, {"widths": [2, 3, 4]}),
    (MedNeXt, {"width": 2, "blocks": [1, 1, 1]}),
]


@pytest.mark.parametrize(("make", "arguments"), NETWORKS)
def test_one_voxel_trains(make: Any, arguments: dict[str, Any]) -> None:
    network = make(1, 2, **arguments).train()
    assert network(torch.randn(1, 1, 1, 1, 1)).shape == (1, 2, 1, 1, 1)


@pytest.mark.parametrize(("make", "arguments"), NETWORKS)
def test_wrong_image(make: Any, arguments: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="built for"):
        make(1, 2, **arguments)(torch.zeros(1, 2, 8, 8, 8))


@pytest.mark.parametrize("make", [UNet, UNetPlusPlus])
def test_plan_tells_what_was_built(make: Any) -> None:
    network = make(2, 1, widths=[2, 3, 5, 7], convs_per_block=3)
    plan = network.plan
    registered = [n for n, m in network.named_modules() if n in plan.wiring]
    assert registered == list(plan.wiring)
    for name, widths in plan.widths.items():
        module = network.get_submodule(name)
        convs = [module] if name.startswith("up.") else [unit.conv for unit in module]
        assert [conv.out_channels for conv in convs] == list(widths)
        assert convs[0].in_channels == plan.in_width(name)


def test_offsets_of_consumers() -> None:
    plan = UNetPlusPlus(1, 1, widths=[2, 3, 5]).plan
    assert plan.consumers("encoder.0") == [("encoder.1", 0), ("node.0_1", 0), ("node.0_2", 0)]
    assert plan.consumers("up.0_2") == [("node.0_2", 4)]
    skip = UNet(1, 1, widths=[2, 3, 5]).plan.consumers("encoder.1")
    assert skip == [("decoder.1", 3), ("bottleneck", 0)]


@pytest.mark.parametrize("make", [UNet, UNetPlusPlus])
def test_pruned_widths_rebuild(make: Any) -> None:
    full = make(1, 2, widths=[4, 6, 8])
    widths = {name: list(ws) for name, ws in full.plan.widths.items()}
    for index, name in enumerate(widths):
        if name.split(".")[0] not in ("up", "head"):
            widths[name] = [width - 1 - index % 2 for width in widths[name]]
    pruned = make(1, 2, widths=json.loads(json.dumps(widths)))
    again = make(1, 2, widths=pruned.plan.widths)
    again.load_state_dict(pruned.state_dict())
    x = torch.randn(1, 1, 9, 8, 12)
    with torch.no_grad():
        assert torch.equal(pruned.eval()(x), again.eval()(x))
    assert sum(p.numel() for p in pruned.parameters()) < sum(p.numel() for p in full.parameters())


def test_flat_pruning_keeps_up_convolutions() -> None:
    """UNet of base 4 with all convolutions cut to 4, up-convolutions left: 16,133 parameters."""
    full = UNet(1, 1, widths=[4, 8, 16, 32, 64]).plan.widths
    flat = {n: ws if n.startswith("up.") else (4,) * len(ws) for n, ws in full.items()}
    assert sum(p.numel() for p in UNet(1, 1, widths=flat).parameters()) == 16_133


def test_skip_levels() -> None:
    every, none = UNet(1, 1, widths=[4, 8, 16]), UNet(1, 1, widths=[4, 8, 16], skip_levels=[])
    top = UNet(1, 1, widths=[4, 8, 16], skip_levels=[0])
    # a skip of width w costs 27 w w weights in the first decoder convolution
    sizes = [sum(p.numel() for p in n.parameters()) for n in (every, top, none)]
    assert [sizes[0] - sizes[1], sizes[1] - sizes[2]] == [27 * 8 * 8, 27 * 4 * 4]
    none.eval()
    x = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        before = none(x)
        none.bottleneck[0].conv.weight.zero_(), none.bottleneck[0].conv.bias.zero_()
        flat = none(x)
    assert not torch.equal(before, flat)
    assert float(flat[..., 3:5, 3:5, 3:5].std()) < float(before.std())
    rebuilt = UNet(1, 1, widths=none.plan.widths, skip_levels=[])
    rebuilt.load_state_dict(none.state_dict())


def test_each_dropout_is_set_alone() -> None:
    network = UNet(1, 1, widths=[4, 8, 16], dropout=0.1)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Dropout3d)}
    assert len(layers) == 2 * 5 - 1
    assert not any(name.startswith("head") for name in layers)
    assert {layer.p for layer in layers.values()} == {0.1}
    network.train()
    x = torch.ones(1, 1, 4, 4, 8)
    for layer in layers.values():
        layer.p = 0.0
    assert torch.equal(network(x), network(x))
    network.get_submodule("encoder.0.1.dropout").p = 0.5
    assert any(not torch.equal(network(x), network(x)) for _ in range(9))


def test_official_padding_of_mednext_differs() -> None:
    study = MedNeXt(1, 1).eval()
    official = MedNeXt(1, 1, up_padding="after_compress").eval()
    official.load_state_dict(study.state_dict())
    x = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert (study(x) - official(x)).abs().max() > 1e-4
    style = official.get_submodule("decoder.up_0").style
    with torch.no_grad():
        raised = UpBlock(4, style, 8)(torch.randn(1, 4, 3, 3, 3))
    assert raised.shape == (1, 2, 6, 6, 6)
    assert float(raised[..., 0, :, :].abs().max()) == 0  # padded last, so the border is zero


def test_global_response_norm() -> None:
    norm = GlobalResponseNorm(2, ndim=3)
    x = torch.stack([torch.full((2, 2, 2), 3.0), torch.full((2, 2, 2), 1.0)])[None]
    with torch.no_grad():
        assert torch.equal(norm(x), x)
        norm.gamma.fill_(1.0), norm.beta.fill_(0.5)
        found = norm(x)[0, :, 0, 0, 0]
    # responses 3 and 1 times sqrt 8, mean 2 times sqrt 8: shares 1.5 and 0.5
    assert found.tolist() == pytest.approx([3 + 3 * 1.5 + 0.5, 1 + 0.5 + 0.5], rel=1e-5)
    assert len(list(MedNeXt(1, 1, grn=True, norm="layer").parameters())) == 228 + 2 * 26


BAD: list[Any] = [
    ("unett", "UNet", {}, "did you mean 'unet'"),
    ("unet", "Unet", {}, "did you mean 'UNet'"),
    ("unet", "PlannedNetwork", {}, "no such network"),
    ("unet", "UNet", {"width": [2, 2]}, "did you mean 'widths'"),
    ("unet", "UNet", {}, "widths: missing"),
    ("unet", "UNet", {"widths": [4]}, "two or more levels"),
    ("unet", "UNet", {"widths": [4, 0]}, "two or more levels"),
    ("unet", "UNet", {"widths": 4}, r"UNet.widths: found 4, a value of type Sequence"),
    ("unet", "UNet", {"widths": [4, 4.5]}, "found"),
    ("unet", "UNet", {"widths": [4, 4], "dropout": "1e-3"}, "UNet.dropout: found '1e-3'"),
    ("unet", "UNet", {"widths": [4, 4], "convs_per_block": True}, "found True"),
    ("unet", "UNet", {"widths": [4, 4], "convs_per_block": 0}, "convs_per_block"),
    ("unet", "UNet", {"widths": [4, 4], "dropout": 1.0}, "dropout"),
    ("unet", "UNet", {"widths": [4, 4], "skip_levels": [1]}, "skip_levels"),
    ("unet", "UNet", {"widths": {"encoder.0": [4]}}, "missing or unknown"),
    ("mednext", "MedNeXt", {"blocks": [2, 2]}, "odd number"),
    ("mednext", "MedNeXt", {"kernel": 4}, "kernel"),
    ("mednext", "MedNeXt", {"norm": "batch"}, "instance"),
]


@pytest.mark.parametrize(("module", "name", "arguments", "message"), BAD)
def test_refused(module: str, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_network(module, name, in_channels=1, out_channels=1, ndim=3, arguments=arguments)


def test_refused_dimension() -> None:
    with pytest.raises(ConfigError, match="ndim"):
        build_network(
            "unet", "UNet", in_channels=1, out_channels=1, ndim=4, arguments={"widths": [2, 2]}
        )


def test_a_section_is_built_for_its_task() -> None:
    task = Task(("T1", "T2"), {"a": 1, "b": 2}, dimensions=2)
    section = {"module": "unet", "name": "UNet", "arguments": {"widths": [2, 2]}}
    assert build_for_task(section, task)(torch.zeros(1, 2, 4, 4)).shape == (1, 3, 4, 4)
    for key in ("module", "name"):
        with pytest.raises(ConfigError, match=rf"model\.{key}: missing"):
            build_for_task({k: v for k, v in section.items() if k != key}, task)


def test_no_model_module_imports_another() -> None:
    for path in MODELS.glob("[a-z]*.py"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imported = {n.module for n in tree if isinstance(n, ast.ImportFrom) and n.module}
        models = {m.split(".")[2] for m in imported if m.startswith("lunet.models.")}
        assert models <= SHARED
        assert path.stem != "build" or models <= {"own"}  # which holds no network
