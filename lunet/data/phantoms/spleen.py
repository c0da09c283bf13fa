"""An abdominal CT-like phantom in Hounsfield units: the spleen among similar organs.

Liver, kidneys and stomach wall have nearly the spleen's attenuation; only its position and shape
distinguish it. Files are laid out as in the Decathlon.
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
    rotation,
    smooth_noise,
)
from lunet.data.settings import PhantomSettings

_PIXELS, _SLICES = 88, 36  # at scale 1
_WIDTH = 360.0  # mm across the field of view
_THICKNESS = 5.0  # mm per slice at scale 1
_AIR, _FAT, _MUSCLE, _BONE = -1000.0, -95.0, 50.0, 450.0
# centre and half axes in mm (RAS: the liver right, the spleen left and behind), Hounsfield units
_ORGANS = {
    "liver": ((62.0, 12.0, 12.0), (72.0, 62.0, 62.0), 105.0),
    "stomach": ((-42.0, 40.0, 6.0), (44.0, 28.0, 40.0), 35.0),
    "right kidney": ((58.0, -46.0, -42.0), (24.0, 22.0, 44.0), 160.0),
    "left kidney": ((-58.0, -44.0, -40.0), (24.0, 22.0, 44.0), 160.0),
}
_SPLEEN = ((-92.0, -30.0, 14.0), (26.0, 40.0, 48.0), 115.0)


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The scan of subject ``number`` (1, 2, ...): int16 Hounsfield units, label 1 in the spleen."""
    rng = np.random.default_rng([settings.seed, 10, number])
    side = round(_PIXELS * settings.scale)
    shape = (side, side, max(8, round(_SLICES * settings.scale) + int(rng.integers(-3, 4))))
    spacing = (_WIDTH / side, _WIDTH / side, _THICKNESS / settings.scale)
    points = grid(shape, spacing)
    size = float(rng.uniform(0.9, 1.08))
    turned = np.tensordot(rotation(rng.uniform(-6, 6, 3)).T, points, axes=1) / size
    turned = turned + rng.uniform(-8, 8, 3).astype(np.float32)[:, None, None, None]
    image = _abdomen(rng, turned)
    label = _spleen(rng, turned, image)
    name = f"spleen_{number}"
    return [
        PhantomCase(
            id=name,
            group=name,
            images=(_scan(rng, points, image, settings.difficulty),),
            label=label,
            spacing=spacing,
        )
    ]


def _abdomen(rng: np.random.Generator, points: Floats) -> Floats:
    """Noise-free Hounsfield units (x, y, z) of everything but the spleen."""
    shape = points.shape[1:]
    wobble = 0.04 * smooth_noise(rng, shape, (6.0, 6.0, 2.0))
    body = np.hypot(points[0] / 155, points[1] / 112) + wobble
    image = np.full(shape, _AIR, dtype=np.float32)
    image[body < 1] = _FAT
    image[(body > 0.86) & (body < 0.95)] = _MUSCLE
    for centre, radii, value in _ORGANS.values():
        place = np.array(centre) + rng.uniform(-5, 5, 3)
        half_axes = np.array(radii) * rng.uniform(0.9, 1.1, 3)
        inside = (ellipsoid(points, place, half_axes) + 2 * wobble < 1) & (body < 0.86)
        image[inside] = value + rng.uniform(-12, 12)
    spine = np.hypot(points[0] / 20, (points[1] + 72) / 20)
    image[spine < 1] = _BONE
    return image


def _spleen(rng: np.random.Generator, points: Floats, image: Floats) -> Labels:
    """The spleen's label; its voxels are set in ``image``."""
    centre, radii, value = _SPLEEN
    place = np.array(centre) + rng.uniform(-5, 5, 3)
    half_axes = np.array(radii) * rng.uniform(0.85, 1.15, 3)
    wobble = 0.12 * smooth_noise(rng, image.shape, (4.0, 4.0, 1.5))
    inside = ellipsoid(points, place, half_axes) + wobble < 1
    hilum = place + np.array([0.9 * radii[0], 6.0, 0.0])
    inside &= ellipsoid(points, hilum, np.array([0.7, 0.4, 0.6]) * radii) > 1
    parts, count = ndimage.label(inside & (image > _AIR))
    largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:])) if count else 0
    label = (parts == largest) & (parts > 0)
    image[label] = value + rng.uniform(-12, 12)
    return label.astype(np.uint8)


def _scan(
    rng: np.random.Generator, points: Floats, image: Floats, difficulty: float
) -> NDArray[np.int16]:
    """Reconstruction blur, cupping and noise correlated within the slice; int16."""
    blurred = ndimage.gaussian_filter(image, (0.6, 0.6, 0.35))
    noise = smooth_noise(rng, image.shape, (0.6, 0.6, 0.0))
    cupping = 20 * difficulty * (bias_field(rng, points, 0.3) - 1)
    noisy = blurred + 18 * difficulty * noise + cupping
    return np.clip(np.round(noisy), -1024, 3071).astype(np.int16)
