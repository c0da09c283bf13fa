"""A brain-tumour phantom: four channels, nested regions, and the two challenges' file layouts.

A tumour is an edema around an enhancing rim around a necrotic core. Each channel shows a part of
it: FLAIR and T2 the edema, T1 with contrast agent the rim, and T1, faintly, the core.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lunet.data.catalog_table import CATALOG
from lunet.data.phantoms.fields import (
    Floats,
    Labels,
    PhantomCase,
    bias_field,
    ellipsoid,
    grid,
    smooth_noise,
)
from lunet.data.settings import PhantomSettings

_SHAPE = (64, 72, 56)  # voxels at scale 1
_BRAIN = (26.0, 31.0, 23.0)  # half axes in voxels at scale 1
_NECROSIS, _EDEMA, _ENHANCING = 1, 2, 3
# rows: white matter, grey matter, fluid, necrosis, edema, enhancing; columns: FLAIR, T1, T1ce, T2
_SIGNAL = np.array(
    [
        [0.55, 0.80, 0.80, 0.40],
        [0.68, 0.60, 0.62, 0.55],
        [0.12, 0.25, 0.25, 1.00],
        [0.60, 0.40, 0.42, 0.85],
        [1.00, 0.55, 0.57, 0.85],
        [0.85, 0.58, 1.20, 0.70],
    ],
    dtype=np.float32,
)


def make_subject(number: int, settings: PhantomSettings) -> list[PhantomCase]:
    """The scan of subject ``number`` (1, 2, ...): four int16 channels, zero outside the brain."""
    rng = np.random.default_rng([settings.seed, 21, number])
    shape = tuple(round(n * settings.scale) for n in _SHAPE)
    points = grid(shape, (1.0, 1.0, 1.0))
    brain, tissue = _head(rng, points, settings.scale)
    label = _tumour(rng, points, brain, settings.scale)
    tissue = np.where(label > 0, label + 2, tissue)
    images = tuple(
        _channel(rng, points, tissue, brain, channel, settings.difficulty) for channel in range(4)
    )
    name = _name(settings.kind, number)
    # in 2023 the last number is the visit
    group = name.rpartition("-")[0] or name
    return [PhantomCase(id=name, group=group, images=images, label=label)]


def published_files(case: PhantomCase, kind: str) -> dict[str, NDArray[np.generic]]:
    """File name -> volume as that year's challenge publishes them, with its label codes."""
    entry = CATALOG["BraTS2021" if kind == "brats2021" else "BraTS2023"]
    joint = "_" if kind == "brats2021" else "-"
    codes = {ours: code for code, ours in entry.remap.items()}
    label = case.label.copy()
    for ours, code in codes.items():
        label[case.label == ours] = code
    volumes = dict(zip(entry.channels, case.images, strict=True)) | {"seg": label}
    return {
        f"{case.id}/{case.id}{joint}{suffix}.nii.gz": volume for suffix, volume in volumes.items()
    }


def _name(kind: str, number: int) -> str:
    return f"BraTS2021_{number:05d}" if kind == "brats2021" else f"BraTS-GLI-{number:05d}-000"


def _head(
    rng: np.random.Generator, points: Floats, scale: float
) -> tuple[NDArray[np.bool_], NDArray[np.integer]]:
    """The brain's mask and its tissue: 0 white matter, 1 grey matter, 2 fluid."""
    shape = points.shape[1:]
    radii = np.array(_BRAIN) * scale * rng.uniform(0.93, 1.05, 3)
    distance = ellipsoid(points, rng.uniform(-1, 1, 3) * scale, radii)
    folds = distance + 0.06 * smooth_noise(rng, shape, 2.0 * scale)
    brain = distance < 1
    tissue = np.where(folds > 0.83, 1, 0)
    tissue[(distance > 0.88) & (smooth_noise(rng, shape, 1.5 * scale) > 0.9)] = 2
    for side in (-1, 1):
        centre = np.array([side * 5.0, 1.0, 2.0]) * scale + rng.uniform(-1, 1, 3)
        ventricle = np.array([2.6, 9.0, 3.4]) * scale * rng.uniform(0.85, 1.2)
        tissue[ellipsoid(points, centre, ventricle) < 1] = 2
    return brain, tissue


def _tumour(
    rng: np.random.Generator, points: Floats, brain: NDArray[np.bool_], scale: float
) -> Labels:
    """Nested regions (x, y, z): edema around an enhancing rim around a necrotic core."""
    side = rng.choice([-1, 1])
    centre = np.array([side * rng.uniform(7, 13), rng.uniform(-13, 13), rng.uniform(-6, 8)]) * scale
    radii = rng.uniform(8, 12) * scale * rng.uniform(0.8, 1.2, 3)
    lumps = 0.22 * smooth_noise(rng, points.shape[1:], 2.5 * scale)
    distance = ellipsoid(points, centre, radii) + lumps
    core, necrosis = rng.uniform(0.58, 0.72), rng.uniform(0.3, 0.42)
    label = np.zeros(points.shape[1:], dtype=np.uint8)
    label[distance < 1] = _EDEMA
    label[distance < core] = _ENHANCING
    label[distance < necrosis] = _NECROSIS
    label[~brain] = 0
    return label


def _channel(
    rng: np.random.Generator,
    points: Floats,
    tissue: NDArray[np.integer],
    brain: NDArray[np.bool_],
    channel: int,
    difficulty: float,
) -> NDArray[np.int16]:
    """One contrast, on an arbitrary scale of its own as from a scanner."""
    clean = ndimage.gaussian_filter(_SIGNAL[:, channel][tissue], 0.6)
    shaded = clean * bias_field(rng, points, 0.12 * difficulty)
    noise = rng.normal(0, 0.06, clean.shape) * difficulty
    level = 400 * float(np.exp(rng.uniform(-0.5, 0.5)))
    scaled = np.clip(np.round((shaded + noise) * level), 1, 32767)
    return np.where(brain, scaled, 0).astype(np.int16)
