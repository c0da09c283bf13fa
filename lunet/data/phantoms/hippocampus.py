"""A hippocampus-like phantom: one curved structure in two parts among look-alikes.

Sizes, the share of the foreground, the three intensity scales and the two sides of each subject
follow the real Decathlon task; intensity alone does not distinguish the structure from its
neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    tube,
)
from lunet.data.settings import PhantomSettings

_LOWEST, _HIGHEST = (31, 40, 24), (43, 59, 43)  # voxels of the real crops, except the thickest
_MARGIN = 2
_SCALES = (("uint8", 130.0), ("float32", 1.2e3), ("float32", 5e5))
_SCALE_ODDS = (0.21, 0.66, 0.13)
_WHITE, _GREY, _FLUID = 1.0, 0.62, 0.2
_LINE = np.linspace(0, 1, 25, dtype=np.float32)


@dataclass(frozen=True)
class Anatomy:
    """The shape of one side, in mm and degrees."""

    length: float
    thickness: float
    bend: float
    arch: float
    border: float
    angles: NDArray[np.floating]
    shift: NDArray[np.floating]


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The two sides of subject ``number`` (1, 2, ...), cases 2 ``number`` - 1 and 2 ``number``."""
    rng = np.random.default_rng([settings.seed, 4, number])
    size = settings.scale
    subject = draw_subject(rng, size)
    dtype, level = _SCALES[rng.choice(len(_SCALES), p=_SCALE_ODDS)]
    level *= float(np.exp(rng.uniform(-0.35, 0.35)))
    return [
        _side(
            2 * number - 1 + side,
            number,
            vary_subject(rng, subject, size),
            (dtype, level),
            rng,
            settings,
        )
        for side in range(2)
    ]


def draw_subject(rng: np.random.Generator, size: float) -> Anatomy:
    """A subject's anatomy, lengths scaled by ``size``."""
    return Anatomy(
        length=rng.uniform(25, 34) * size,
        thickness=rng.uniform(0.87, 1.13) * size,
        bend=rng.uniform(2.5, 6) * size,
        arch=rng.uniform(2.5, 6) * size,
        border=rng.uniform(0.6, 0.7),
        angles=rng.uniform(-12, 12, 3),
        shift=rng.uniform(-2.4, 2.4, 3) * size,
    )


def vary_subject(rng: np.random.Generator, subject: Anatomy, size: float) -> Anatomy:
    """One side of a subject: similar to the other, never equal."""
    return Anatomy(
        length=subject.length * rng.uniform(0.96, 1.04),
        thickness=subject.thickness * rng.uniform(0.96, 1.04),
        bend=subject.bend + rng.uniform(-1, 1) * size,
        arch=subject.arch + rng.uniform(-1, 1) * size,
        border=subject.border + rng.uniform(-0.02, 0.02),
        angles=subject.angles + rng.uniform(-4, 4, 3),
        shift=subject.shift + rng.uniform(-1, 1, 3) * size,
    )


def _side(
    case: int,
    subject: int,
    anatomy: Anatomy,
    scanner: tuple[str, float],
    rng: np.random.Generator,
    settings: PhantomSettings,
) -> PhantomCase:
    whole = tuple(int(n * settings.scale) for n in _HIGHEST)
    points = grid(whole, (1.0, 1.0, 1.0))
    warp = np.stack([smooth_noise(rng, whole, 5 * settings.scale) for _ in range(3)])
    turned = np.tensordot(rotation(anatomy.angles).T, points, axes=1)
    turned = turned + 0.6 * settings.scale * warp
    label = structure(turned, anatomy)
    tissue = surroundings(rng, turned, label, anatomy, settings.scale)
    image = scan(rng, points, tissue, settings.difficulty)
    window = _window(rng, label, anatomy.shift, settings.scale)
    return PhantomCase(
        id=f"hippocampus_{case:03d}",
        group=f"subject_{subject:03d}",
        images=(_on_scale(image[window], *scanner),),
        label=np.ascontiguousarray(label[window]),
    )


def _window(
    rng: np.random.Generator, label: Labels, shift: NDArray[np.floating], scale: float
) -> tuple[slice, ...]:
    """A crop around the label, off its centre by about ``shift`` voxels, with a margin."""
    lowest, highest = (np.array(bound) * scale for bound in (_LOWEST, _HIGHEST))
    window = []
    for axis, box in enumerate(ndimage.find_objects(label.astype(bool).astype(int))[0]):
        length = box.stop - box.start
        wanted = max(rng.uniform(lowest[axis], highest[axis]), length + 2 * _MARGIN)
        size = int(min(wanted, label.shape[axis]))
        start = round((box.start + box.stop - size) / 2 + shift[axis])
        # the bounds of the whole grid take precedence over the margin
        start = min(max(start, box.stop + _MARGIN - size), box.start - _MARGIN)
        start = min(max(start, 0), label.shape[axis] - size)
        window.append(slice(start, start + size))
    return tuple(window)


def _line(anatomy: Anatomy) -> Floats:
    """Centre line (25, 3), from the tail (posterior, low y) to the head (anterior, high y)."""
    along = (_LINE - 0.52) * anatomy.length
    sideways = anatomy.bend * (np.cos(np.pi * (_LINE - 0.5)) - 0.6)
    upwards = anatomy.arch * (0.5 - _LINE) + 0.4 * anatomy.bend * np.sin(2 * np.pi * _LINE)
    return np.stack([sideways, along, upwards], axis=1).astype(np.float32)


def structure(points: Floats, anatomy: Anatomy) -> Labels:
    """1 in the head (anterior), 2 in body and tail (posterior)."""
    radius = (4.1 + 2.2 * _LINE**2 + 0.5 * np.sin(3 * np.pi * _LINE)) * anatomy.thickness
    inside, place = tube(points, _line(anatomy), radius.astype(np.float32))
    label = np.where(place > anatomy.border, 1, 2)
    return np.where(inside, label, 0).astype(np.uint8)


def surroundings(
    rng: np.random.Generator, points: Floats, label: Labels, anatomy: Anatomy, size: float
) -> Floats:
    """Noise-free intensities: white matter, grey look-alikes, dark fluid, the structure on top."""
    line, thin = _line(anatomy), anatomy.thickness
    texture = smooth_noise(rng, label.shape, 2.5 * size)
    image = np.where(texture > 0.8, _GREY, _WHITE).astype(np.float32)
    below = line + np.array([4.5, 1.0, -10.5], dtype=np.float32) * thin
    image[tube(points, below, np.full(25, 4.0 * thin, dtype=np.float32))[0]] = _GREY
    before = line[-1] + np.array([1.5, 9.5, 5.0], dtype=np.float32) * thin
    image[ellipsoid(points, before, np.array([6.0, 5.0, 5.5]) * thin) < 1] = _GREY
    beside = line + np.array([-5.5, 0.0, 3.5], dtype=np.float32) * thin
    image[tube(points, beside, np.full(25, 2.4 * thin, dtype=np.float32))[0]] = _FLUID
    contrast = rng.uniform(-0.05, 0.05)
    image[label > 0] = _GREY + contrast
    return image


def scan(rng: np.random.Generator, points: Floats, tissue: Floats, difficulty: float) -> Floats:
    """Partial volume, bias field and Rician noise."""
    blurred = ndimage.gaussian_filter(tissue, 0.7)
    shaded = blurred * bias_field(rng, points, 0.18 * difficulty)
    sigma = 0.11 * difficulty
    real, imaginary = rng.normal(0, sigma, (2, *tissue.shape)) if sigma else np.zeros(2)
    return np.hypot(shaded + real, imaginary).astype(np.float32)


def _on_scale(image: Floats, dtype: str, level: float) -> NDArray[np.generic]:
    scaled = image * level
    if dtype == "uint8":
        return np.clip(np.round(scaled), 0, 255).astype(np.uint8)
    return scaled.astype(np.float32)
