"""A chest-CT-like phantom in Hounsfield units: lungs, vessels, chest wall and small nodules.

Slices are thick, so that volumes are anisotropic. A nodule covers about 0.4 % of the pixels of the
slices that it appears in; vessels cut across look the same in a single slice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lunet.data.phantoms.fields import (
    Floats,
    Labels,
    PhantomCase,
    bias_field,
    ellipsoid,
    grid,
    smooth_noise,
    tube,
)
from lunet.data.settings import PhantomSettings

_PIXELS, _SLICES = 128, 24  # at scale 1
_WIDTH = 330.0  # mm across the field of view
_THICKNESS = 5.0  # mm per slice at scale 1
_AIR, _LUNG, _FAT, _MUSCLE, _BLOOD, _BONE, _NODULE = -1000, -850, -90, 45, 40, 550, 30
_SHARE = 0.005  # of the pixels of a slice, for a nodule at its widest
_STEPS = np.linspace(0, 1, 30, dtype=np.float32)


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The scan of subject ``number`` (1, 2, ...): int16 Hounsfield units, label 1 in nodules."""
    rng = np.random.default_rng([settings.seed, 6, number])
    side = round(_PIXELS * settings.scale)
    shape = (side, side, max(8, round(_SLICES * settings.scale) + int(rng.integers(-2, 3))))
    spacing = (_WIDTH / side, _WIDTH / side, _THICKNESS / settings.scale)
    points = grid(shape, spacing)
    size = float(rng.uniform(0.92, 1.05))
    image, lungs, centres = _chest(rng, points, size)
    for _ in range(int(rng.integers(14, 20))):
        image[_vessel(rng, points, centres, size) & lungs] = _BLOOD + rng.uniform(-20, 20)
    label = _nodules(rng, points, lungs)
    image[label > 0] = _NODULE + rng.uniform(-40, 20)
    return [
        PhantomCase(
            id=f"lung_{number:03d}",
            group=f"lung_{number:03d}",
            images=(_scan(rng, points, image, settings.difficulty),),
            label=label,
            spacing=spacing,
        )
    ]


def _chest(
    rng: np.random.Generator, points: Floats, size: float
) -> tuple[Floats, NDArray[np.bool_], NDArray[np.floating]]:
    """Tissue without vessels, the lungs' mask, and the two lungs' centres (2, 3) in mm."""
    wobble = 0.03 * smooth_noise(rng, points.shape[1:], (8.0, 8.0, 2.0))
    middle = rng.uniform(-6, 6, 3)
    image = np.full(points.shape[1:], float(_AIR), dtype=np.float32)
    body = _column(points, middle, (150 * size, 110 * size)) + wobble
    image[body < 1] = _FAT
    image[body < 0.93] = _MUSCLE
    ribs = (np.abs(body - 0.87) < 0.025) & (np.sin(points[2] / 5 + points[1] / 14) > 0.3)
    image[ribs] = _BONE
    centres = np.stack([middle + np.array([side * 68 * size, 6.0, 0.0]) for side in (-1, 1)])
    lungs = np.zeros(points.shape[1:], dtype=bool)
    for centre in centres:
        lungs |= ellipsoid(points, centre, np.array([54, 82, 110]) * size) + wobble < 1
    image[lungs] = _LUNG + 25 * smooth_noise(rng, points.shape[1:], (3.0, 3.0, 1.0))[lungs]
    spine = middle + np.array([0.0, -62 * size, 0.0])
    image[_column(points, spine, (18 * size, 18 * size)) < 1] = _BONE * 0.5
    return image, lungs, centres


def _column(points: Floats, centre: NDArray[np.floating], radii: tuple[float, float]) -> Floats:
    """Relative distance (x, y, z) from an axis along z: below 1 inside the elliptic column."""
    x, y = (points[axis] - centre[axis] for axis in (0, 1))
    return np.hypot(x / radii[0], y / radii[1]).astype(np.float32)


def _vessel(
    rng: np.random.Generator, points: Floats, centres: NDArray[np.floating], size: float
) -> NDArray[np.bool_]:
    """A tapering vessel from the hilum outwards."""
    side = int(rng.integers(2))
    hilum = centres[side] + np.array([(28 if side == 0 else -28) * size, 0.0, 0.0])
    angle = rng.uniform(-1.25, 1.25)
    outwards = np.array(
        [(-1 if side == 0 else 1) * np.cos(angle), 1.3 * np.sin(angle), rng.uniform(-0.7, 0.7)]
    )
    bend = rng.uniform(-12, 12, 3)
    line = hilum + np.outer(_STEPS * rng.uniform(45, 80), outwards)
    line = line + np.outer(np.sin(np.pi * _STEPS), bend)
    radius = rng.uniform(3.2, 5.5) * (1 - 0.6 * _STEPS)
    return tube(points, line.astype(np.float32), radius.astype(np.float32))[0]


def _nodules(rng: np.random.Generator, points: Floats, lungs: NDArray[np.bool_]) -> Labels:
    """One to three rounded nodules inside the lungs."""
    label = np.zeros(lungs.shape, dtype=np.uint8)
    steps = points[:, 1, 1, 1] - points[:, 0, 0, 0]
    depth = ndimage.distance_transform_edt(lungs, sampling=steps)
    wobble = 0.12 * smooth_noise(rng, lungs.shape, (2.0, 2.0, 1.0))
    for _ in range(int(rng.integers(1, 4))):
        # a disk of the desired share of the field of view, at the widest slice
        reach = float(np.sqrt(_SHARE / np.pi) * _WIDTH * rng.uniform(0.75, 1.25))
        places = np.argwhere(depth > 0.6 * reach)
        if len(places) == 0:
            places = np.argwhere(depth == depth.max())
        centre = points[(slice(None), *places[rng.integers(len(places))])]
        label[(ellipsoid(points, centre, reach) + wobble < 1) & lungs] = 1
    return label


def _scan(
    rng: np.random.Generator, points: Floats, image: Floats, difficulty: float
) -> NDArray[np.int16]:
    """Reconstruction blur, cupping, and noise correlated within the slice."""
    blurred = ndimage.gaussian_filter(image, (0.6, 0.6, 0.35))
    noise = smooth_noise(rng, image.shape, (0.6, 0.6, 0.0))
    cupping = 40 * difficulty * (bias_field(rng, points, 0.3) - 1)
    noisy = blurred + 35 * difficulty * noise + cupping
    return np.clip(np.round(noisy), -1024, 3071).astype(np.int16)
