"""Distances between the surfaces of two masks: HD, HD95, ASSD, MASD and NSD.

There are two kinds of surface, because the field uses both:

* HD, HD95, ASSD and MASD use the **border voxels**: voxels of the mask with a 6-neighbour (in
  2D a 4-neighbour) outside it; beyond the image is outside. Twins: MONAI 1.6
  (``compute_hausdorff_distance``, ``compute_average_surface_distance(symmetric=True)``) and
  Metrics Reloaded (Maier-Hein et al., Nat. Methods 2024).
* NSD uses the **sub-voxel surface** between voxel centres, weighted by area
  (:mod:`lunet.metrics.surfels`). Twin: the ``surface-distance`` package (arXiv:1809.04430).

The functions of the border metrics have the names of their columns. Their arguments are the
distances in mm from the reference's border voxels to the prediction's border (``a``) and in the
other direction (``b``); neither is empty. :mod:`lunet.metrics.case` finds the functions by the rows
of :mod:`lunet.metrics.catalog`.

NSD counts a distance that equals the tolerance, and on a grid of 1 mm with a tolerance of 1 mm most
distances do. Headers store float32, so an oblique one gives 0.9999999 or 1.0000001 mm for 1 mm. The
comparison therefore allows ``SLACK``, a share of the tolerance above that noise and below any grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lunet.metrics.nearest import Grid, Neighbours, directed_distances, neighbours
from lunet.metrics.overlap import Mask
from lunet.metrics.surfels import surfel_measures

Floats = NDArray[np.float64]
Flat = NDArray[np.intp]

SLACK = 1e-5
"""Share of a tolerance by which a distance may exceed it: ten nanometres at 1 mm."""


def hd(a: Floats, b: Floats) -> float:
    """Hausdorff distance ``max(max a, max b)``."""
    return float(max(a.max(), b.max()))


def hd95(a: Floats, b: Floats) -> float:
    """``max(P95 a, P95 b)``, percentiles interpolated linearly."""
    return float(max(np.percentile(a, 95), np.percentile(b, 95)))


def assd(a: Floats, b: Floats) -> float:
    """Average symmetric surface distance ``(sum a + sum b) / (|a| + |b|)``."""
    return float((a.sum() + b.sum()) / (a.size + b.size))


def masd(a: Floats, b: Floats) -> float:
    """Mean average surface distance ``(mean a + mean b) / 2``."""
    return float((a.mean() + b.mean()) / 2)


@dataclass(frozen=True)
class SurfaceDistances:
    """The distances and NSD of two non-empty masks.

    ``a`` and ``b`` are the distances in mm from each border voxel of the reference to the border of
    the prediction, and in the other direction; ``nsd`` is the NSD in [0, 1] at each tolerance.
    """

    a: Floats
    b: Floats
    nsd: tuple[float, ...]


def surface_distances(
    reference: Mask,
    prediction: Mask,
    *,
    spacing: Sequence[float],
    tolerances: Sequence[float] = (1.0,),
) -> SurfaceDistances:
    """Distances between the borders, and NSD, of two masks in one pass.

    Parameters
    ----------
    reference, prediction
        Boolean arrays of one shape, 2D or 3D, neither of them empty. Cropping them to their joint
        box does not change any value, because the surface lies inside the box.
    spacing
        Voxel size in mm in the order of the axes.
    tolerances
        Tolerances of NSD in mm.
    """
    steps = tuple(float(s) for s in spacing)
    near = neighbours(steps)
    grid = Grid.around(reference.shape, near, steps)
    flat = grid.pad(reference), grid.pad(prediction)
    a, b = _both_ways(grid, border(grid, flat[0]), border(grid, flat[1]), near)
    return SurfaceDistances(
        a=a,
        b=b,
        nsd=_nsd(grid, corner_codes(grid, flat[0]), corner_codes(grid, flat[1]), near, tolerances),
    )


def border(grid: Grid, mask: Mask) -> Mask:
    """Border voxels of a flat padded mask (see :class:`Grid`)."""
    inner = mask.copy()
    for stride in grid.strides:
        inner[:stride] = False
        inner[stride:] &= mask[:-stride]
        inner[:-stride] &= mask[stride:]
    np.logical_xor(mask, inner, out=inner)
    return inner


def corner_codes(grid: Grid, mask: Mask) -> NDArray[np.uint8]:
    """Corner code of each cell of a flat padded mask; the cell at ``p`` spans ``p - 1`` to ``p``.

    Bits are in the order of :func:`lunet.metrics.surfels.corner_bits`.
    """
    code = mask.view(np.uint8).copy()
    width = 1
    for stride in reversed(grid.strides):
        # NumPy multiplies bytes 15 times faster than it shifts them.
        before = code[:-stride] * np.uint8(2**width)
        code[stride:] |= before
        width *= 2
    return code


def _nsd(
    grid: Grid,
    reference: NDArray[np.uint8],
    prediction: NDArray[np.uint8],
    near: Neighbours,
    tolerances: Sequence[float],
) -> tuple[float, ...]:
    """Share of both surfaces' area that lies within each tolerance of the other surface."""
    if not tolerances:
        return ()
    surfaces = _cut(grid, reference), _cut(grid, prediction)
    limits = [tolerance * (1 + SLACK) for tolerance in tolerances]
    a, b = _both_ways(grid, *surfaces, near, limit=max(limits))
    measure = surfel_measures(grid.spacing)
    area_a, area_b = measure[reference[surfaces[0]]], measure[prediction[surfaces[1]]]
    whole = area_a.sum() + area_b.sum()
    return tuple(
        float((area_a[a <= limit].sum() + area_b[b <= limit].sum()) / whole) for limit in limits
    )


def _cut(grid: Grid, codes: NDArray[np.uint8]) -> Mask:
    """Cells that the surface passes: some, but not all of their corners are inside."""
    full = np.uint8(2 ** (2 ** len(grid.shape)) - 1)
    return (codes != 0) & (codes != full)


def _both_ways(
    grid: Grid,
    reference: Mask,
    prediction: Mask,
    near: Neighbours,
    limit: float = np.inf,
) -> tuple[Floats, Floats]:
    """Distances from each point of one set to the other set, for both directions."""
    a, b = np.flatnonzero(reference), np.flatnonzero(prediction)
    return (
        directed_distances(grid, a, prediction, b, near, limit=limit),
        directed_distances(grid, b, reference, a, near, limit=limit),
    )
