"""The matrix products that replace torch's interpolation on CUDA, beside it on a CPU."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lunet.models.resizing import resize, resize_by_products

sides = st.integers(1, 9)
PAIRS = st.lists(st.tuples(sides, sides), min_size=2, max_size=3)


@given(PAIRS)
def test_products_give_the_same_values_and_gradients(axes: list[tuple[int, int]]) -> None:
    before, after = [a for a, _ in axes], [b for _, b in axes]
    image = torch.randn(2, 3, *before, dtype=torch.float64)
    weights = torch.randn(2, 3, *after, dtype=torch.float64)
    found = []
    for way in (resize, resize_by_products):
        x = image.clone().requires_grad_()
        y = way(x, after)
        found.append((y.detach(), *torch.autograd.grad((y * weights).sum(), x)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_products_are_not_rounded_by_autocast() -> None:
    x = torch.randn(1, 2, 5, 6, 7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = resize_by_products(x, (9, 10, 11))
    torch.testing.assert_close(y, resize(x, (9, 10, 11)), rtol=1e-5, atol=1e-5)


def test_a_tensor_of_the_wanted_size_is_returned_as_it_is() -> None:
    x = torch.randn(1, 2, 4, 5)
    assert resize(x, (4, 5)) is x
