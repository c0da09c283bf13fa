"""A HarP-like phantom: both hippocampi of a subject in one T1 scan and one label.

The volume is the block of the head around both. Each side has the shape of the hippocampus phantom,
mirrored on the left. Real scans show the whole head.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lunet.data.phantoms.fields import (
    Floats,
    Labels,
    PhantomCase,
    ellipsoid,
    grid,
    rotation,
    smooth_noise,
)
from lunet.data.phantoms.hippocampus import (
    Anatomy,
    draw_subject,
    scan,
    structure,
    surroundings,
    vary_subject,
)
from lunet.data.settings import PhantomSettings

_SHAPE = (60, 44, 36)  # voxels at scale 1
_SPACING = 2.0  # mm at scale 1
_APART = 26.0  # mm from the middle to the centre of each hippocampus
_FLUID, _LEVEL = 0.2, 400.0


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The scan of subject ``number`` (1, 2, ...): int16; label 1 in either hippocampus."""
    rng = np.random.default_rng([settings.seed, 9, number])
    step = _SPACING / settings.scale
    shape = tuple(round(n * settings.scale) for n in _SHAPE)
    points = grid(shape, (step, step, step))
    subject = draw_subject(rng, 1.0)
    tissue = np.zeros(shape, dtype=np.float32)
    label = np.zeros(shape, dtype=np.uint8)
    for side in (-1, 1):
        half = points[0] * side >= 0
        inside, around = _side(rng, points, vary_subject(rng, subject, 1.0), side)
        label[half & (inside > 0)] = 1
        tissue[half] = around[half]
    wobble = 0.08 * smooth_noise(rng, shape, 4.0)
    tissue[ellipsoid(points, np.array([0, 4, 26]), (7.0, 24.0, 10.0)) + wobble < 1] = _FLUID
    image = _LEVEL * scan(rng, points, tissue, settings.difficulty)
    name = f"subject_{number:03d}"
    return [
        PhantomCase(
            id=name,
            group=name,
            images=(np.round(image).astype(np.int16),),
            label=label,
            spacing=(step, step, step),
        )
    ]


def _side(
    rng: np.random.Generator, points: Floats, anatomy: Anatomy, side: int
) -> tuple[Labels, Floats]:
    """Label and tissue (x, y, z) of one side over the whole block; ``side`` 1 is right."""
    turn = rotation(anatomy.angles).T
    own = points * np.array([side, 1, 1], dtype=np.float32)[:, None, None, None]
    own = own - np.array([_APART, 0, 0], dtype=np.float32)[:, None, None, None]
    turned = np.tensordot(turn, own, axes=1)
    warp = np.stack([smooth_noise(rng, points.shape[1:], 2.5) for _ in range(3)])
    turned = turned + 0.6 * warp
    label = structure(turned, anatomy)
    return label, surroundings(rng, turned, label, anatomy, 1.0)


def published_files(case: PhantomCase, _kind: str) -> dict[str, NDArray[np.generic]]:
    """File name -> volume in the two folders of the catalog's entry, without a listing."""
    return {
        f"imagesTr/{case.id}.nii.gz": case.images[0],
        f"labelsTr/{case.id}.nii.gz": case.label,
    }
