"""Parts that all synthetic volumes share: grids in mm, smooth random fields, tubes, bias fields."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic case before it is written.

    Attributes
    ----------
    id, group
        Case name, and the subject it belongs to.
    images
        Channels, each (x, y, z), with the dtype on disk.
    label
        Class indices (x, y, z), uint8.
    spacing
        Voxel size in mm.
    """

    id: str
    group: str
    images: tuple[NDArray[np.generic], ...]
    label: Labels
    spacing: tuple[float, float, float] = field(default=(1.0, 1.0, 1.0))


def grid(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Floats:
    """Coordinates (3, x, y, z) in mm of the voxel centres, from the centre of the volume."""
    axes = [
        (np.arange(n, dtype=np.float32) - (n - 1) / 2) * step
        for n, step in zip(shape, spacing, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def rotation(angles: NDArray[np.floating]) -> Floats:
    """Rotation matrix (3, 3) of Euler angles in degrees, about x, then y, then z."""
    (a, b, c), (u, v, w) = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    about_x = np.array([[1, 0, 0], [0, a, -u], [0, u, a]])
    about_y = np.array([[b, 0, v], [0, 1, 0], [-v, 0, b]])
    about_z = np.array([[c, -w, 0], [w, c, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float | tuple[float, ...]
) -> Floats:
    """Random field (x, y, z) of mean 0 and deviation 1, correlated over ``sigma`` voxels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma)
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)


def bias_field(rng: np.random.Generator, points: Floats, strength: float) -> Floats:
    """Multiplicative field (x, y, z) around 1: a random quadratic polynomial of the position."""
    scaled = points / max(float(np.abs(points).max()), 1e-6)
    terms = np.concatenate([scaled, scaled**2, scaled * np.roll(scaled, 1, axis=0)])
    return np.exp(strength * np.tensordot(rng.uniform(-1, 1, 9), terms, axes=1)).astype(np.float32)


def tube(points: Floats, line: Floats, radius: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """A tube along a centre line.

    Parameters
    ----------
    points
        Coordinates (3, x, y, z) in mm.
    line
        Centre points (n, 3) in mm.
    radius
        Radius (n,) in mm at each of them.

    Returns
    -------
    tuple
        Whether a voxel is inside, and the position along the line (0..1) of the centre point that
        it is deepest in.
    """
    depth = np.full(points.shape[1:], -np.inf, dtype=np.float32)
    place = np.zeros(points.shape[1:], dtype=np.float32)
    for index, (centre, reach) in enumerate(zip(line, radius, strict=True)):
        inward = reach - np.linalg.norm(points - centre[:, None, None, None], axis=0)
        deeper = inward > depth
        depth[deeper] = inward[deeper]
        place[deeper] = index / max(len(line) - 1, 1)
    return depth > 0, place


def ellipsoid(points: Floats, centre: NDArray[np.floating], radii: object) -> Floats:
    """Relative distance (x, y, z) from ``centre``: below 1 inside the ellipsoid of ``radii`` mm."""
    offsets = points - np.asarray(centre, dtype=np.float32)[:, None, None, None]
    scale = np.broadcast_to(np.asarray(radii, dtype=np.float32), (3,))[:, None, None, None]
    return np.linalg.norm(offsets / scale, axis=0).astype(np.float32)
