"""The forms of the selective scan against a plain loop with autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_golden import read_json
from torch import Tensor
from torch.nn import functional

from lunet.models import selective_scan as scans

FORMS = [scans.serial_scan, scans.blocked_scan, scans.selective_scan]


def plain_scan(u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The definition, step by step."""
    state, outputs = torch.zeros(*u.shape[1:], A.shape[-1], dtype=u.dtype), []
    for t in range(len(u)):
        decay = torch.exp(dt[t].unsqueeze(-1) * A.unsqueeze(1))
        state = decay * state + (dt[t] * u[t]).unsqueeze(-1) * B[t].unsqueeze(-2)
        outputs.append((state * C[t].unsqueeze(-2)).sum(-1))
    return torch.stack(outputs)


def example(length: int, directions: int, batch: int, inner: int, states: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(length * 31 + inner)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    values = [
        normal(length, directions, batch, inner),
        functional.softplus(normal(length, directions, batch, inner)),
        -torch.exp(normal(directions, inner, states)),
        normal(length, directions, batch, states),
        normal(length, directions, batch, states),
    ]
    return [value.requires_grad_() for value in values]


def with_gradients(scan: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    y = scan(*inputs)
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).reshape(y.shape)
    return [y, *torch.autograd.grad((y * weights).sum(), inputs)]


@settings(max_examples=25)
@given(
    length=st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65, 130])),
    directions=st.integers(1, 3),
    batch=st.integers(1, 2),
    inner=st.integers(1, 4),
    states=st.integers(1, 4),
)
def test_all_forms_equal_the_definition(
    length: int, directions: int, batch: int, inner: int, states: int
) -> None:
    inputs = example(length, directions, batch, inner, states)
    wanted = with_gradients(plain_scan, inputs)
    for scan in FORMS:
        for found, value in zip(with_gradients(scan, inputs), wanted, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-11)


def test_golden_values() -> None:
    wanted = read_json("slim_unetrv2.json")["unit"]["selective_scan"]["y (L,D) row-major"]
    i, n = np.arange(12), np.arange(18)
    u, dt = np.sin(0.7 * i).reshape(6, 1, 1, 2), (0.1 + 0.05 * np.cos(i)).reshape(6, 1, 1, 2)
    a = -np.outer(np.arange(1, 3), np.arange(1, 4)).reshape(1, 2, 3).astype(float)
    b, c = np.cos(0.3 * n).reshape(6, 1, 1, 3), np.sin(0.5 + 0.3 * n).reshape(6, 1, 1, 3)
    inputs = [torch.from_numpy(value) for value in (u, dt, a, b, c)]
    for scan in FORMS:
        np.testing.assert_allclose(scan(*inputs).flatten(), wanted, rtol=2e-5, atol=1e-7)


def test_long_steps_neither_overflow_nor_vanish() -> None:
    u, dt, a, b, c = (x.detach() for x in example(200, 1, 1, 2, 2))
    inputs = [u, dt * 1000, a, b, c]
    wanted = plain_scan(*inputs)
    for scan in FORMS:
        torch.testing.assert_close(scan(*inputs), wanted, rtol=1e-10, atol=1e-10)


def test_state_stays_wide_under_autocast() -> None:
    inputs = [x.detach().float().requires_grad_() for x in example(100, 3, 1, 4, 4)]
    wanted = with_gradients(scans.selective_scan, inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(scans.selective_scan, inputs)
    assert found[0].dtype == torch.float32
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_number_of_threads_is_left_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with_gradients(scans.serial_scan, example(70, 1, 1, 2, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_kernel_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call of mamba_ssm's kernel, with a stand-in written from its documented layout."""

    def kernel(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        groups = B.shape[1]
        split = [x.unflatten(1, (groups, -1)).permute(3, 1, 0, 2) for x in (u, delta)]
        b, c = (x.permute(3, 1, 0, 2) for x in (B, C))
        y = plain_scan(*split, A.unflatten(0, (groups, -1)), b, c)
        return y.permute(2, 1, 3, 0).flatten(1, 2)

    monkeypatch.setattr(scans, "_mamba_kernel", lambda: kernel)
    inputs = example(9, 3, 2, 4, 5)
    torch.testing.assert_close(scans._kernel_scan(*inputs), plain_scan(*inputs))
