"""A faulty arithmetic is refused and named; a sound one passes, in all families, if small too."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import TASK
from torch import Tensor, nn
from torch.nn import functional

from lunet.errors import ConfigError
from lunet.models.build import build_network
from lunet.training.compute import autotune, gradient_check
from lunet.training.compute.arithmetic import Arithmetic, plain_arithmetic
from lunet.training.compute.autotune import Question, choose_arithmetic
from lunet.training.compute.gradient_check import BOUNDS, disagreement, find_fault
from lunet.training.losses.build import build_objective
from lunet.training.recipe import Engine
from lunet.training.volumes import Batch

PLAIN = plain_arithmetic(Engine(threads=1), torch.device("cpu"))
BF16 = replace(PLAIN, precision="bf16")
SOUND = [
    replace(PLAIN, memory_format="channels_last"),
    BF16,
    replace(BF16, memory_format="channels_last"),
]
OBJECTIVE = build_objective({"dice": 1.0}, {}, task=TASK)
FAMILIES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "unet.UNet": ("unet", 3, {"widths": [4, 8, 16]}),
    "unetpp.UNetPlusPlus": ("unetpp", 3, {"widths": [4, 8]}),
    "attention_unet.AttentionUNet": ("attention_unet", 2, {"widths": [4, 8, 16]}),
    "mednext.MedNeXt": ("mednext", 3, {"width": 2, "blocks": [1] * 9}),
    "slim_unetr.SlimUNETRV2": (
        "slim_unetr",
        3,
        {"widths": [4, 8, 8, 8], "hidden": 8, "slices": [2, 1, 1, 1]},
    ),
}


def maker(family: str) -> Callable[[], nn.Module]:
    module, axes, arguments = FAMILIES[family]
    return lambda: build_network(
        module,
        family.split(".")[1],
        in_channels=1,
        out_channels=TASK.out_channels,
        ndim=axes,
        arguments=arguments,
    )


def batch(*size: int) -> Batch:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, *size), dtype=torch.uint8)
    return Batch(torch.randn(2, 1, *size), label, ("a", "b"))


def fault(choice: Arithmetic, family: str = "unet.UNet", size: tuple[int, ...] = (8, 8, 8)) -> Any:
    torch.manual_seed(0)
    return find_fault(choice, maker(family), batch(*size), OBJECTIVE)


@pytest.fixture(autouse=True)
def right_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in bf16 as they should be, on every CPU: float32 of what is rounded to bf16.

    Those of torch 2.13 are wrong in sizes that differ between CPUs with AVX-512.
    """
    for name in ("conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"):
        monkeypatch.setattr(functional, name, in_float32(getattr(functional, name)))


def in_float32(real: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return real(x, weight, bias, *rest)
        given = [None if t is None else t.bfloat16().float() for t in (x, weight, bias)]
        with torch.autocast("cpu", enabled=False):
            return real(*given, *rest).bfloat16()

    return call


def break_weights(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor], only: int | None = None
) -> None:
    """Convolutions in bf16 whose weight gradient is spoilt, all or those of a number of inputs."""
    real = functional.conv3d

    def conv(x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        if torch.is_autocast_enabled("cpu") and only in (None, weight.shape[1]):
            weight = weight.view_as(weight)
            if weight.requires_grad:
                weight.register_hook(spoil)
        return real(x, weight, *rest)

    monkeypatch.setattr(functional, "conv3d", conv)


def test_noise_as_gradient_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    break_weights(monkeypatch, lambda g: torch.randn_like(g) * g.norm() / g.numel() ** 0.5)
    assert "encoder.0.0.conv.weight differs from float32's" in fault(BF16)
    assert fault(SOUND[0]) is None


@pytest.mark.parametrize(
    "spoil",
    [torch.zeros_like, lambda g: 2 * g, lambda g: g / 0],
    ids=["zero", "doubled", "infinite"],
)
def test_one_wrong_weight_of_many_is_refused(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Tensor], Tensor]
) -> None:
    break_weights(monkeypatch, spoil, only=8)
    assert "conv.weight" in fault(BF16)


def test_unequal_repeats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    break_weights(monkeypatch, lambda g: g * (1 + 1e-4 * torch.rand(())))
    assert "two equal steps give different gradients" in fault(BF16)


def test_a_wrong_gradient_of_an_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = nn.Conv3d._conv_forward

    def forward(self: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if torch.is_autocast_enabled("cpu") and x.requires_grad:
            x = x.view_as(x)
            x.register_hook(lambda g: g.flip(2))
        return real(self, x, weight, bias)

    monkeypatch.setattr(nn.Conv3d, "_conv_forward", forward)
    assert "the input of" in fault(BF16)


CHANNELS_LAST = replace(PLAIN, memory_format="channels_last")


class _Chaotic(nn.Module):
    """A change of its first layer's output in the size of rounding turns its gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 16, 3, padding=1)
        self.last = nn.Conv3d(16, TASK.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        y = self.first(x)
        if not y.is_contiguous():  # as if another layout had rounded differently
            y = y * (1 + 3e-6)
        return [self.last(torch.sin(1e5 * y))]


def test_rounding_of_a_step_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    assert find_fault(CHANNELS_LAST, _Chaotic, batch(8, 8, 8), OBJECTIVE) is None
    monkeypatch.setattr(gradient_check, "_CHANGES", 0)
    torch.manual_seed(0)
    found = find_fault(CHANNELS_LAST, _Chaotic, batch(8, 8, 8), OBJECTIVE)
    assert "differs from float32's: cosine" in str(found)


def test_a_wrong_gradient_between_the_layers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = nn.MaxPool3d.forward

    def forward(self: nn.MaxPool3d, x: Tensor) -> Tensor:
        if x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous():
            x = x.view_as(x)
            x.register_hook(lambda g: g.roll(1, 2))
        return real(self, x)

    monkeypatch.setattr(nn.MaxPool3d, "forward", forward)
    assert "differs from float32's" in str(fault(CHANNELS_LAST))


def test_a_negligible_gradient_has_no_direction_but_must_stay_small() -> None:
    expected = {"a": torch.ones(9), "b": torch.full((9,), 1e-6)}
    assert disagreement(expected | {"b": -expected["b"]}, expected, BOUNDS["bf16"]) is None
    wrong = disagreement(expected | {"b": torch.full((9,), 0.5)}, expected, BOUNDS["bf16"])
    assert "gradient of b" in str(wrong)


def question(**fixed: Any) -> Question:
    settings = replace(Engine(threads=1), **fixed)
    steps, make = 3000, maker("unet.UNet")
    return Question(settings, {}, make, batch(8, 8, 8), OBJECTIVE, steps, 1, training=unused)


def unused(choice: Arithmetic) -> Any:
    pytest.fail(f"{choice} was measured")


def test_the_engine_names_and_refuses_a_fast_but_wrong_arithmetic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    break_weights(monkeypatch, torch.zeros_like)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    speed = {"bf16": 0.01, "fp32": 0.1}
    monkeypatch.setattr(autotune, "step_seconds", lambda _, choice: speed[choice.precision])
    said: list[str] = []
    assert choose_arithmetic(question(), cache=None, log=said.append) == PLAIN
    assert [line for line in said if "bf16 contiguous is refused" in line and "cosine" in line]
    fixed = question(precision="bf16", memory_format="contiguous")
    with pytest.raises(ConfigError, match="bf16 contiguous on this cpu gives wrong gradients"):
        choose_arithmetic(fixed, cache=None, log=said.append)


def test_what_cannot_be_checked_is_refused_where_it_is_suspect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any) -> str:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(autotune, "find_fault", full)
    fixed, said = question(precision="bf16", memory_format="contiguous"), []
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert choose_arithmetic(fixed, cache=None, log=said.append).precision == "bf16"
    assert "could not be checked" in said[0]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with pytest.raises(ConfigError, match="too little memory"):
        choose_arithmetic(fixed, cache=None, log=said.append)


@pytest.mark.parametrize("family", FAMILIES)
def test_sound_arithmetics_pass_at_small_sizes(family: str) -> None:
    draw = random.Random(family)
    axes = FAMILIES[family][1]
    for choice in SOUND:
        size = tuple(draw.randint(1, 6) for _ in range(axes))
        assert fault(choice, family, size) is None, (size, choice)
