"""Predictions of others for the tests of external rows, made from the reference labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]


def same(mask: Mask) -> Mask:
    """The reference itself."""
    return mask


def shifted(mask: Mask) -> Mask:
    """The reference moved by one voxel: a prediction with errors."""
    return np.roll(mask, 1, axis=0)


def renumbered(numbers: Mapping[int, int]) -> Callable[[Mask], Mask]:
    """The moved reference with the numbers of another tool."""

    def change(mask: Mask) -> Mask:
        table = np.zeros(256, np.uint8)
        table[list(numbers)] = list(numbers.values())
        return table[shifted(mask)]

    return change


def predict(
    labels: Path, cases: Sequence[str], out: Path, change: Callable[[Mask], Mask] = shifted
) -> None:
    """Write ``out/<case>.nii.gz`` for the cases, made from their labels."""
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        image = nibabel.load(labels / f"{case}.nii.gz")
        mask = change(np.asarray(image.dataobj).astype(np.uint8))
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), out / f"{case}.nii.gz")


def nnunet_results(
    root: Path,
    labels: Path,
    folds: Sequence[Mapping[str, Any]],
    *,
    names: Mapping[str, int],
    missing: Sequence[str] = (),
) -> Path:
    """A results folder of nnU-Net v2 with its split, and the folder of its training.

    Parameters
    ----------
    root
        Parent of ``nnUNet_results`` and ``nnUNet_preprocessed``.
    labels
        Folder of the reference labels.
    folds
        Its folds, with ``train``, ``validation`` and ``test`` of the study.
    names
        Labels in its ``dataset.json``.
    missing
        Cases without a prediction.
    """
    model = root / "nnUNet_results/Dataset004_Phantom/nnUNetTrainer__nnUNetPlans__3d_fullres"
    split = root / "nnUNet_preprocessed/Dataset004_Phantom/splits_final.json"
    for number, fold in enumerate(folds):
        folder = model / f"fold_{number}/validation"
        predict(labels, [case for case in fold["test"] if case not in missing], folder)
        (folder / "summary.json").write_text("{}")
    listing = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, **names}}
    (model / "dataset.json").write_text(json.dumps(listing))
    split.parent.mkdir(parents=True)
    parts = [
        {"train": [*fold["train"], *fold["validation"]], "val": fold["test"]} for fold in folds
    ]
    split.write_text(json.dumps(parts))
    return model
