"""Resampling of image and label against ``torch.nn.functional.grid_sample`` in double precision."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lunet.training.augmentation import look_up
from lunet.training.augmentation.batched import Augmenter
from lunet.training.augmentation.spatial import Warp, draw_warp, resample_batch, sampling_grid
from lunet.training.recipe import Augmentation

EVERY = Augmentation(
    affine_p=0.7,
    elastic_p=0.7,
    grid_distortion_p=0.7,
    degrees=40.0,
    scale=(0.5, 1.5),
    translate=0.3,
    elastic_voxels=3.0,
)
SIZES = ((9, 11), (40, 17), (1, 7), (6, 5, 7), (17, 24, 11), (8, 1, 9), (1, 1, 1), (32, 32, 32))


def sample_batch(
    size: tuple[int, ...], channels: int = 1, seed: int = 0, count: int = 3
) -> tuple[torch.Tensor, torch.Tensor, Warp]:
    """Images of noise, labels of 0 to 200, and a warp that also looks outside of the images."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, channels, *size, generator=generator) - 1
    labels = torch.randint(0, 200, (count, *size), generator=generator).to(torch.uint8)
    return images, labels, draw_warp(EVERY, count, size, (1.0,) * len(size), generator)[1]


def identity(size: tuple[int, ...], count: int) -> Warp:
    axes = tuple((torch.arange(s) - (s - 1) / 2).expand(count, -1) for s in size)
    return Warp(torch.eye(len(size)).repeat(count, 1, 1), torch.zeros(count, len(size)), axes)


def expected(
    images: torch.Tensor, labels: torch.Tensor, warp: Warp
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, labels, and where a label is not halfway between two voxels."""
    size = images.shape[2:]
    grid = sampling_grid(warp, size, images.device).double()
    low = images.double().amin(tuple(range(2, images.ndim)), keepdim=True)
    moved = functional.grid_sample(images - low, grid, align_corners=True) + low
    mapped = functional.grid_sample(labels[:, None].double(), grid, "nearest", align_corners=True)
    places = (grid + 1) / 2 * (torch.tensor(size).flip(0) - 1)
    clear = ((places - places.floor() - 0.5).abs() > 1e-4).all(-1)
    return moved, mapped[:, 0].to(labels.dtype), clear


@settings(max_examples=40)
@given(st.sampled_from(SIZES), st.sampled_from([1, 4]), st.integers(0, 2**31))
def test_equals_grid_sample(size: tuple[int, ...], channels: int, seed: int) -> None:
    images, labels, warp = sample_batch(size, channels, seed)
    before = images.clone(), labels.clone()
    moved, mapped = resample_batch(images, labels, warp)
    right, classes, clear = expected(images, labels, warp)
    assert (moved.dtype, mapped.dtype) == (torch.float32, torch.uint8)
    scale = (images.max() - images.min()).item()
    torch.testing.assert_close(moved.double(), right, rtol=0.0, atol=1e-5 * max(scale, 1.0))
    assert torch.equal(mapped[clear], classes[clear])
    assert clear.double().mean() > 0.99
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32])
def test_no_warp_changes_nothing(size: tuple[int, ...], dtype: torch.dtype) -> None:
    images, labels, _ = sample_batch(size, 2)
    moved, mapped = resample_batch(images, labels.to(dtype), identity(size, len(images)))
    torch.testing.assert_close(moved, images, rtol=0.0, atol=1e-5)
    assert mapped.dtype == dtype
    assert torch.equal(mapped, labels.to(dtype))


@pytest.mark.parametrize("size", [(9, 11), (6, 5, 7)])
@pytest.mark.parametrize("distance", [-1e6, -1.01, 1.01, 1e6])
def test_outside_are_the_minimum_and_class_0(size: tuple[int, ...], distance: float) -> None:
    images, labels, _ = sample_batch(size, 2)
    for axis in range(len(size)):
        warp = identity(size, len(images))
        warp.shift[:, axis] = distance * size[axis]
        moved, mapped = resample_batch(images, labels + 1, warp)
        low = images.amin(tuple(range(2, images.ndim)), keepdim=True)
        torch.testing.assert_close(moved, low.expand_as(moved))
        assert not mapped.any()


def test_the_border_fades_into_the_minimum() -> None:
    images, labels, _ = sample_batch((6, 5, 7))
    warp = identity((6, 5, 7), len(images))
    warp.shift[:, 1] = 0.25
    moved, _ = resample_batch(images, labels, warp)
    low = images.amin((2, 3, 4))[..., None, None]
    torch.testing.assert_close(moved[..., -1, :], torch.lerp(images[..., -1, :], low, 0.25))


def test_parts_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels, warp = sample_batch((17, 24, 11), 2, count=5)
    threads = torch.get_num_threads()
    whole = resample_batch(images, labels, warp)
    for at_once, number in ((1, 1), (700, 2), (2**17, 3)):
        monkeypatch.setattr(look_up, "_AT_ONCE", at_once)
        torch.set_num_threads(number)
        try:
            again = resample_batch(images, labels, warp)
            with ThreadPoolExecutor(1) as pool:
                kept = torch.get_num_threads(), pool.submit(torch.get_num_threads).result()
        finally:
            torch.set_num_threads(threads)
        assert kept == (number, number)
        assert torch.equal(again[1], whole[1])
        torch.testing.assert_close(again[0], whole[0], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_warp_mirrors_as_a_flip_before_it(ndim: int, share: float) -> None:
    images, labels, _ = sample_batch((20, 15, 18)[:ndim], 2, count=8)
    warped = Augmentation(affine_p=share, elastic_p=share, grid_distortion_p=share, translate=0.1)
    both = Augmentation(
        flip_axes=(1, 0), flip_p=(0.6, 0.4), **{n: getattr(warped, n) for n in SPATIAL}
    )
    moved, mapped = Augmenter(both, ndim)(images, labels, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    for axis, probability in ((1, 0.6), (0, 0.4)):
        for i in (torch.rand(8, generator=generator) < probability).nonzero().flatten():
            images[i], labels[i] = images[i].flip(1 + axis), labels[i].flip(axis)
    right, classes = Augmenter(warped, ndim)(images, labels, generator)
    torch.testing.assert_close(moved, right, rtol=0.0, atol=1e-4)
    assert (mapped == classes).double().mean() > 0.999


SPATIAL = ("affine_p", "elastic_p", "grid_distortion_p", "translate")
