"""A tiny data set in the Decathlon layout, to be broken by tests in one place at a time."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE = (20, 24, 16)
AFFINE = np.diag([1.0, 1.0, 1.0, 1.0])


def volumes(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """An image (x, y, z) float32 with two bright blobs, and their label, uint8."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    label = np.zeros(shape, np.uint8)
    for index, place in ((1, 0.36), (2, 0.64)):
        centre = np.array([n * f for n, f in zip(shape, (0.5, place, 0.5), strict=True)])
        centre += rng.uniform(-0.5, 0.5, 3)
        radius = 3.2 + rng.uniform(-0.1, 0.1)
        label[((grid - centre[:, None, None, None]) ** 2).sum(0) < radius**2] = index
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5) * 60
    image = 100 + texture + 12 * rng.standard_normal(shape) + 15.0 * (label > 0)
    return image.astype(np.float32), label


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a NIfTI file with equal qform and sform."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nib.save(image, path)


def make(root: Path, cases: int = 6) -> Path:
    """Write the data set and return its folder."""
    names = [f"case_{number:02d}" for number in range(1, cases + 1)]
    for number, name in enumerate(names, start=1):
        image, label = volumes(number)
        save(root / "imagesTr" / f"{name}.nii.gz", image)
        save(root / "labelsTr" / f"{name}.nii.gz", label)
    write_listing(root, names)
    return root


def write_listing(root: Path, names: list[str], **changes: object) -> None:
    """Write ``dataset.json`` for cases of these names."""
    listing = {
        "name": "Tiny",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "numTraining": len(names),
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names
        ],
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(listing | changes))
