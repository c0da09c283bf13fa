"""Tiles cover the volume, blend without seams and in bounded memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lunet.inference.sliding_window import blend, gaussian, tile_starts


@given(st.integers(1, 200), st.integers(1, 64), st.floats(0, 0.9))
def test_tiles_cover_every_voxel_and_overlap_enough(size: int, patch: int, overlap: float) -> None:
    starts = tile_starts(size, patch, overlap)
    covered = np.zeros(size, bool)
    for start in starts:
        assert 0 <= start <= max(0, size - patch)
        covered[start : start + patch] = True
    assert covered.all()
    assert starts == sorted(set(starts))
    steps = np.diff(starts)
    assert (steps <= max(1, int(patch * (1 - overlap)))).all()


def test_gaussian_is_symmetric_and_never_zero() -> None:
    weights = gaussian(32)
    np.testing.assert_allclose(weights, weights[::-1])
    assert weights.max() > 0.99
    assert weights.min() == pytest.approx(0.01)


@settings(max_examples=30)
@given(
    st.tuples(*[st.integers(1, 23)] * 3),
    st.tuples(*[st.integers(2, 12)] * 3),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_blend_of_a_pointwise_function_is_exact(
    shape: tuple[int, int, int], patch: tuple[int, int, int], overlap: float
) -> None:
    image = np.random.default_rng(0).random((2, *shape), np.float32)
    out = np.full((3, *shape), np.nan, np.float32)
    blend(
        lambda tile: torch.stack([tile[0], tile[1], tile.sum(0)]),
        image, out, patch=patch, overlap=overlap,
    )  # fmt: skip
    np.testing.assert_allclose(out, [*image, image.sum(0)], atol=2e-6)


def test_two_dimensions() -> None:
    image = np.random.default_rng(1).random((1, 30, 41), np.float32)
    out = np.zeros_like(image)
    blend(lambda tile: tile, image, out, patch=(16, 8), overlap=0.5)
    np.testing.assert_allclose(out, image, atol=1e-6)


def test_planes_that_exceed_the_device_are_blended_by_the_host() -> None:
    """The same numbers; the meta device computes nothing, so a copy from it would fail."""
    image = np.random.default_rng(2).random((1, 20, 9, 9), np.float32)
    found = np.zeros_like(image), np.zeros_like(image)
    for out, most in zip(found, (0, 1e9), strict=True):
        blend(lambda tile: tile * tile, image, out, patch=(8, 4, 9), overlap=0.5, most_bytes=most)
    np.testing.assert_array_equal(*found)
    with pytest.raises(NotImplementedError, match="meta"):
        blend(lambda tile: tile, image, found[0], patch=(8, 4, 9), overlap=0.5, device="meta")
    blend(
        lambda tile: torch.ones(tile.shape), image, found[0],
        patch=(8, 4, 9), overlap=0.5, device="meta", most_bytes=0,
    )  # fmt: skip
    np.testing.assert_allclose(found[0], 1, rtol=1e-6)


def test_weights_favour_the_middle_of_a_tile() -> None:
    """A function that marks tile borders wrong leaves next to nothing of it in the blend."""
    image = np.zeros((1, 64), np.float32)
    out = np.zeros_like(image)

    def wrong_at_borders(tile: torch.Tensor) -> torch.Tensor:
        result = torch.zeros_like(tile)
        result[:, [0, -1]] = 1
        return result

    blend(wrong_at_borders, image, out, patch=(16,), overlap=0.5)
    assert out[0, 1:-1].max() < 0.02
    assert out[0, 0] == pytest.approx(1)


def test_memory_does_not_grow_with_the_length(tmp_path: object) -> None:
    def peak(length: int) -> int:
        image = np.broadcast_to(np.float32(1), (1, length, 32, 32))
        out = np.memmap(f"{tmp_path}/{length}", np.float32, "w+", shape=(1, length, 32, 32))
        tracemalloc.start()
        blend(lambda tile: tile, image, out, patch=(16, 16, 16), overlap=0.5)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(512) < 1.2 * peak(64)
