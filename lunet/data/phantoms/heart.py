"""A whole-heart phantom, CT or MR: four chambers, myocardium, aorta, pulmonary artery.

Class indices are ours (1..7); in the published layout they become the codes of MM-WHS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lunet.data.catalog_table import CATALOG, HEART_CODES
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

_SHAPE = (64, 64, 52)  # voxels at scale 1
_SPACING = 2.2  # mm at scale 1
_STEPS = np.linspace(0, 1, 24, dtype=np.float32)
# centre and half axes in mm of the ellipsoids, in the heart's own axes
_CHAMBERS = {
    "RV": ((-19.0, 10.0, -12.0), (21.0, 17.0, 23.0)),
    "RA": ((-27.0, -7.0, 17.0), (16.0, 15.0, 17.0)),
    "LA": ((8.0, -20.0, 19.0), (19.0, 13.0, 15.0)),
    "Myo": ((13.0, 4.0, -14.0), (23.0, 22.0, 30.0)),
    "LV": ((13.0, 4.0, -11.0), (14.0, 13.0, 21.0)),
}
_VESSELS = {
    "AO": (((4.0, -2.0, 8.0), (-5.0, 2.0, 55.0), (0.0, 4.0, 0.0)), 9.5),
    "PA": (((-7.0, 15.0, 6.0), (9.0, -2.0, 50.0), (3.0, 6.0, 0.0)), 8.5),
}
_LABELS = CATALOG["MM-WHS_CT"].labels
# background, LV, RV, LA, RA, Myo, AO, PA, lung, fat
_CT_SIGNAL = np.array([45, 330, 260, 320, 250, 110, 330, 270, -820, -90], dtype=np.float32)
_MR_SIGNAL = np.array([260, 620, 590, 600, 570, 330, 640, 560, 60, 480], dtype=np.float32)
_LUNG, _FAT = 8, 9


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The scan of subject ``number`` (1, 2, ...): int16, Hounsfield units in CT."""
    modality = settings.kind.removeprefix("heart_")
    rng = np.random.default_rng([settings.seed, 7 if modality == "ct" else 8, number])
    shape = tuple(round(n * settings.scale) for n in _SHAPE)
    spacing = _SPACING / settings.scale
    points = grid(shape, (spacing, spacing, spacing))
    label = _label(rng, points)
    tissue = _surroundings(rng, points, label)
    image = _scan(rng, points, tissue, modality, settings.difficulty)
    name = f"{modality}_train_{1000 + number}"
    return [
        PhantomCase(
            id=name, group=name, images=(image,), label=label, spacing=(spacing, spacing, spacing)
        )
    ]


def published_files(case: PhantomCase, kind: str) -> dict[str, NDArray[np.generic]]:
    """File name -> volume as the challenge publishes them, with its label codes (int16)."""
    codes = np.zeros(len(HEART_CODES) + 1, dtype=np.int16)
    for code, ours in HEART_CODES.items():
        codes[ours] = code
    folder = f"{kind.removeprefix('heart_')}_train"
    return {
        f"{folder}/{case.id}_image.nii.gz": case.images[0],
        f"{folder}/{case.id}_label.nii.gz": codes[case.label],
    }


def _label(rng: np.random.Generator, points: Floats) -> Labels:
    """Class indices (x, y, z); the later structure wins where two overlap."""
    size = rng.uniform(0.88, 1.08)
    shift = rng.uniform(-5, 5, 3).astype(np.float32)[:, None, None, None]
    turned = np.tensordot(rotation(rng.uniform(-12, 12, 3)).T, points, axes=1) + shift
    wobble = 0.06 * smooth_noise(rng, points.shape[1:], 5.0)
    label = np.zeros(points.shape[1:], dtype=np.uint8)
    for name, ((start, end, bend), radius) in _VESSELS.items():
        line = np.outer(1 - _STEPS, start) + np.outer(_STEPS, end)
        line = (line + np.outer(np.sin(np.pi * _STEPS), bend)) * size
        reach = np.full(len(_STEPS), radius * size * rng.uniform(0.9, 1.1))
        inside, _ = tube(turned, line.astype(np.float32), reach.astype(np.float32))
        label[inside] = _LABELS[name]
    for name, (centre, radii) in _CHAMBERS.items():
        place = (np.array(centre) + rng.uniform(-1.5, 1.5, 3)) * size
        half_axes = np.array(radii) * size * rng.uniform(0.93, 1.07, 3)
        inside = ellipsoid(turned, place, half_axes) + wobble < 1
        if name == "LV":  # the cavity never leaves its wall
            inside &= ndimage.binary_erosion(label == _LABELS["Myo"])
        label[inside] = _LABELS[name]
    return label


def _surroundings(rng: np.random.Generator, points: Floats, label: Labels) -> NDArray[np.integer]:
    """Row of the signal tables for each voxel: the structures, fat around them, lungs, wall."""
    fat = ndimage.binary_dilation(label > 0, iterations=2)
    wobble = 0.05 * smooth_noise(rng, label.shape, 4.0)
    tissue = np.zeros(label.shape, dtype=np.int64)
    for side in (-1, 1):
        centre = np.array([side * 62.0, 5.0, 10.0])
        tissue[ellipsoid(points, centre, (34.0, 55.0, 70.0)) + wobble < 1] = _LUNG
    tissue[fat] = _FAT
    return np.where(label > 0, label, tissue)


def _scan(
    rng: np.random.Generator,
    points: Floats,
    tissue: NDArray[np.integer],
    modality: str,
    difficulty: float,
) -> NDArray[np.int16]:
    signal = (_CT_SIGNAL if modality == "ct" else _MR_SIGNAL).copy()
    spread = 25 if modality == "ct" else 50
    signal[1:8] += rng.uniform(-spread, spread, 7)
    clean = ndimage.gaussian_filter(signal[tissue], 0.7)
    texture = smooth_noise(rng, tissue.shape, 0.5)
    if modality == "ct":
        return np.round(clean + 30 * difficulty * texture).astype(np.int16)
    shaded = clean * bias_field(rng, points, 0.25 * difficulty)
    return np.clip(np.round(shaded + 35 * difficulty * texture), 0, 4095).astype(np.int16)
