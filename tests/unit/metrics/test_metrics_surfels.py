"""Surfel areas by hand and by symmetry, without the package that defines them."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lunet.metrics.nearest import Grid, neighbours, step_lengths
from lunet.metrics.surface import corner_codes
from lunet.metrics.surfels import corner_bits, surfel_measures

SPACING = (2.0, 3.0, 5.0)


def code_of(corners: set[tuple[float, ...]], ndim: int = 3) -> int:
    return sum(1 << bit for bit, corner in enumerate(corner_bits(ndim)) if corner in corners)


def area_of_mask(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
    grid = Grid.around(mask.shape, neighbours(spacing), spacing)
    return float(surfel_measures(spacing)[corner_codes(grid, grid.pad(mask))].sum())


def test_pieces_known_by_hand() -> None:
    areas = surfel_measures(SPACING)
    assert areas[0] == areas[255] == 0
    # One corner: the triangle through the midpoints of its three edges.
    triangle = np.linalg.norm(np.cross((-1.0, 1.5, 0.0), (-1.0, 0.0, 2.5))) / 2
    assert areas[code_of({(0.0, 0.0, 0.0)})] == pytest.approx(triangle)
    # A flat face across the cell, normal to each axis.
    for axis, expected in enumerate((15.0, 10.0, 6.0)):
        face = {corner for corner in corner_bits(3) if corner[axis] == 0}
        assert areas[code_of(face)] == pytest.approx(expected)
    # Two neighbours along the last axis: a rectangle over the cut edges of the first two axes.
    edge = {(0.0, 0.0, 0.0), (0.0, 0.0, 1.0)}
    assert areas[code_of(edge)] == pytest.approx(5.0 * math.hypot(1.0, 1.5))


def test_inside_and_outside_have_the_same_surface() -> None:
    areas = surfel_measures(SPACING)
    assert areas == pytest.approx(areas[::-1])


def test_every_rotation_and_mirror_keeps_the_area_at_unit_spacing() -> None:
    areas = surfel_measures((1.0, 1.0, 1.0))
    for order, flip in itertools.product(
        itertools.permutations(range(3)), itertools.product((0.0, 1.0), repeat=3)
    ):
        for code in range(256):
            inside = {c for bit, c in enumerate(corner_bits(3)) if code >> bit & 1}
            turned = {
                tuple(abs(c[a] - f) for a, f in zip(order, flip, strict=True)) for c in inside
            }
            assert areas[code_of(turned)] == pytest.approx(areas[code])


def test_contours_by_hand() -> None:
    lengths = surfel_measures((2.0, 3.0))
    assert lengths[code_of({(0.0, 0.0)}, 2)] == pytest.approx(math.hypot(1.0, 1.5))
    assert lengths[code_of({(0.0, 0.0), (1.0, 0.0)}, 2)] == pytest.approx(2.0)
    assert lengths[code_of({(0.0, 0.0), (1.0, 1.0)}, 2)] == pytest.approx(2 * math.hypot(1.0, 1.5))


def test_whole_surfaces() -> None:
    voxel = np.ones((1, 1, 1), dtype=bool)
    # An octahedron of unit spacing: 8 triangles of side sqrt(0.5).
    assert area_of_mask(voxel, (1.0, 1.0, 1.0)) == pytest.approx(8 * math.sqrt(3) / 4 / 2)
    pixel = np.ones((1, 1), dtype=bool)
    assert area_of_mask(pixel, (1.0, 1.0)) == pytest.approx(4 * math.sqrt(0.5))
    # A large ball: marching cubes on a binary mask overestimates a sphere by some 9 %.
    ball = np.linalg.norm(np.indices((41, 41, 41)) - 20, axis=0) <= 18
    excess = area_of_mask(ball, (1.0, 1.0, 1.0)) / (4 * math.pi * 18**2)
    assert 1.0 < excess < 1.12


def test_a_surface_at_the_border_of_the_image_is_closed() -> None:
    block = np.ones((4, 4, 4), dtype=bool)
    assert area_of_mask(block, SPACING) == pytest.approx(area_of_mask(np.pad(block, 2), SPACING))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.0, 7.0), (0.7, 3.0)])
def test_neighbours_are_complete_and_sorted(spacing: tuple[float, ...]) -> None:
    near = neighbours(spacing)
    assert (np.diff(near.distances) >= 0).all()
    axis = np.arange(-20, 21)
    steps = np.stack(np.meshgrid(*[axis] * len(spacing), indexing="ij"), -1)
    lengths = np.sort(step_lengths(steps.reshape(-1, len(spacing)), spacing))[1:]
    np.testing.assert_array_equal(near.distances, lengths[: near.distances.size])
    assert len({tuple(step) for step in near.steps.tolist()}) == len(near.steps)
