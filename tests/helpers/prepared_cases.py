"""A prepared data set of a few balls, and its folds, for tests of the steps after it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np

from lunet.data.dataset import read_dataset
from lunet.data.prepare import prepare_dataset
from lunet.data.prepared import Manifest
from lunet.data.settings import DatasetSettings, PreprocessSettings

AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]], float)
LABELS = {"0": "background", "1": "inner", "2": "outer"}


def ball(shape: tuple[int, ...], centre: tuple[float, ...], radius: float) -> np.ndarray:
    """A boolean ball."""
    axes = np.indices(shape)
    return sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) <= radius**2


def label_of(number: int) -> np.ndarray:
    """Two nested balls (1 inside 2) of 18 x 20 x 16 voxels, shifted by the number."""
    centre = (8 + number % 2, 10, 7 + number % 3)
    label = np.zeros((18, 20, 16), np.uint8)
    label[ball(label.shape, centre, 6)] = 2
    label[ball(label.shape, centre, 3)] = 1
    return label


def make_prepared(folder: Path, *, cases: int = 6) -> Manifest:
    """Raw Decathlon folder ``folder/raw``, prepared volumes ``folder/prepared``, ``splits.json``.

    Fold 0 trains on all but the last three cases, validates on the third last, tests the last two.
    """
    raw = folder / "raw"
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    names = [f"case_{number:02d}" for number in range(cases)]
    for number, name in enumerate(names):
        label = label_of(number)
        image = label * 10 + np.random.default_rng(number).random(label.shape)
        nib.save(nib.Nifti1Image(image.astype(np.float32), AFFINE), raw / f"imagesTr/{name}.nii.gz")
        nib.save(nib.Nifti1Image(label, AFFINE), raw / f"labelsTr/{name}.nii.gz")
    listing = [
        {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names
    ]
    content = {"name": "balls", "labels": LABELS, "modality": {"0": "MRI"}, "training": listing}
    (raw / "dataset.json").write_text(json.dumps(content | {"test": []}))
    dataset = read_dataset(raw, DatasetSettings(name="balls", path=str(raw)))
    fold = {"train": names[:-3], "validation": names[-3:-2], "test": names[-2:]}
    (folder / "splits.json").write_text(json.dumps({"seed": 0, "held_out": [], "folds": [fold]}))
    return prepare_dataset(dataset, PreprocessSettings(), folder / "prepared", log=lambda _: None)
