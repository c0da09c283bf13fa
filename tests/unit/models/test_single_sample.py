"""Single samples on a CPU: the same values as PyTorch's own convolution, by a faster kernel."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from lunet.models.single_sample import fast_copy, fast_single_samples
from lunet.study.networks import build_model


@pytest.mark.parametrize(
    "name", ["lunet_small_4f", "unet_small_8f", "unetpp_small_2f", "mednext_small"]
)
@pytest.mark.parametrize("size", [(17, 24, 19), (48, 64, 48)])
def test_values_differ_by_rounding_alone(name: str, size: tuple[int, ...]) -> None:
    model = build_model(name, in_channels=1, out_channels=3).eval()
    x = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model(x)
        with fast_single_samples([model]):
            found = model(x)
        again = model(x)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(again, wanted)  # the network is as it was


def test_the_slow_kernel_is_left_to_small_images_and_single_voxels() -> None:
    torch.set_num_threads(1)
    model = build_model("lunet_small_4f", in_channels=1, out_channels=3).eval()
    x = torch.zeros(1, 1, 48, 64, 48)
    fast = fast_copy(model)
    assert all("forward" not in vars(layer) for layer in model.modules())
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for key, network in (("plain", model), ("fast", fast), ("copied", copy.deepcopy(fast))):
        with (
            torch.inference_mode(),
            profile(activities=[ProfilerActivity.CPU], record_shapes=True) as kernels,
        ):
            network(x)
        slow = [event for event in kernels.events() if event.name == "aten::slow_conv3d"]
        shapes[key] = {
            tuple(event.input_shapes[0][2:])
            for event in slow
            if tuple(event.input_shapes[1][2:]) == (3, 3, 3)
        }
    assert (48, 64, 48) in shapes["plain"]  # or PyTorch has mended it, and all this can go
    for key in ("fast", "copied"):
        assert all(math.prod(shape) < 512 for shape in shapes[key])


def test_a_copy_has_its_own_weights() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)).eval()
    fast, x = fast_copy(model), torch.ones(1, 1, 16, 16, 16)
    with torch.no_grad():
        before = fast(x)
        model[0].weight.zero_()
        assert torch.equal(fast(x), before)
        fast[0].weight.zero_()
        fast[0].bias.zero_()
        assert not fast(x).any()


def test_gradients_batches_and_other_types_go_the_ordinary_way() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1))
    x = torch.randn(2, 1, 16, 16, 16)
    with fast_single_samples([model]):
        model(x[:1]).sum().backward()
        assert model[0].weight.grad is not None
        with torch.inference_mode():
            assert model(x).shape == (2, 2, 16, 16, 16)
            assert model.double()(x.double()).dtype == torch.float64
            assert model.float().to("meta")(x.to("meta")[:1]).is_meta
