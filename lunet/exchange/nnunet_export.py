"""Writes the cases and folds of a study in nnU-Net v2's form, which all rivals train from."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lunet.data.dataset_json import LISTING
from lunet.data.folds import PARTS, Splits, read_splits
from lunet.data.ground_truth import read_reference
from lunet.data.io.images import read_image
from lunet.data.io.nifti import axes_of
from lunet.data.io.write import write_nifti
from lunet.data.prepared import PreparedCase, read_manifest
from lunet.errors import ConfigError
from lunet.files import write_json
from lunet.own_files import renewed
from lunet.task import Task

STEP, SPLITS, ENDING = "rival", "splits_final.json", ".nii.gz"
DATASET = "Dataset001_study"
"""Name of the data set inside nnU-Net; each study has its own folders, so one name is enough."""


def export_dataset(
    manifest_path: str | Path,
    splits_path: str | Path,
    out: str | Path,
    *,
    log: Callable[[str], None] = print,
) -> None:
    """Write the cases of the folds below ``out/Dataset001_study``, with ``splits_final.json``.

    Images are links to the raw files where these have one channel each, and copies elsewhere.
    Labels are written anew, after the data set's remapping.

    Parameters
    ----------
    manifest_path, splits_path
        The prepared data set and the folds.
    out
        A folder that is new or was written by this step; it is nnU-Net's ``nnUNet_raw``.

    Raises
    ------
    ConfigError
        If nnU-Net cannot train on the data set (:func:`check_task`), or ``out`` holds files of
        others.
    DataError
        If a raw file is missing, or has changed since it was prepared.
    """
    manifest, splits = read_manifest(manifest_path), read_splits(splits_path)
    task, folds = manifest.task, splits.folds
    check_task(task)
    names = sorted({name for fold in folds for part in PARTS for name in getattr(fold, part)})
    with renewed(out, step=STEP) as stage:
        folder = stage / DATASET
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True)
        for name in names:
            _write_images(manifest.case(name), len(task.channels), folder / "imagesTr")
            mask, affine = read_reference(manifest, name)
            write_nifti(folder / "labelsTr" / f"{name}{ENDING}", mask, affine)
            log(f"exported {name}")
        write_json(folder / LISTING, listing(task, len(names)))
        write_json(folder / SPLITS, nnunet_folds(splits))


def check_task(task: Task) -> None:
    """Refuse slices, and class indices with gaps, which nnU-Net cannot train on.

    Raises
    ------
    ConfigError
    """
    if task.dimensions != 3:
        raise ConfigError(
            where="rivals",
            found="the images of the data set are slices",
            expected="rivals are trained on volumes",
            action="Leave the section out",
        )
    indices = list(task.labels.values())
    if indices != list(range(1, len(indices) + 1)):
        raise ConfigError(
            where="dataset.labels",
            found=f"found the indices {', '.join(map(str, indices))}",
            expected="nnU-Net needs 1, 2, ... without gaps",
            action="Map the numbers in the files with dataset.remap",
        )


def nnunet_folds(splits: Splits) -> list[dict[str, list[str]]]:
    """The folds in nnU-Net's form, where ``val`` are the cases that results are reported on.

    nnU-Net chooses no weights on other cases, and MIST draws its own, so rivals get the study's
    validation cases for training, too.
    """
    return [
        {"train": sorted((*fold.train, *fold.validation)), "val": sorted(fold.test)}
        for fold in splits.folds
    ]


def listing(task: Task, cases: int) -> dict[str, Any]:
    """nnU-Net's ``dataset.json`` of a task and a number of cases.

    Regions are trained as such if they can be turned back into labels: from the largest to the
    smallest, each must have exactly one label that no later region has. Otherwise the labels are.
    """
    content: dict[str, Any] = {
        "channel_names": {str(number): name for number, name in enumerate(task.channels)},
        "labels": {"background": 0} | task.labels,
        "numTraining": cases,
        "file_ending": ENDING,
        # SimpleITK refuses directions that are not exactly orthonormal, which scanners write
        "overwrite_image_reader_writer": "NibabelIO",
    }
    order = _class_order(task)
    if order:
        regions = {name: list(indices) for name, indices in task.regions.items()}
        content |= {"labels": {"background": 0} | regions, "regions_class_order": order}
    return content


def _class_order(task: Task) -> list[int]:
    """The label that each region leaves for itself; empty if that is not one label for each."""
    order: list[int] = []
    rest = list(task.regions.values())
    while rest:
        first, *rest = rest
        own = set(first) - {index for members in rest for index in members}
        if len(own) != 1:
            return []
        order += own
    return order if set(order) == set(task.labels.values()) else []


def _write_images(case: PreparedCase, channels: int, folder: Path) -> None:
    paths = case.raw_images
    names = [folder / f"{case.id}_{number:04d}{ENDING}" for number in range(channels)]
    if len(paths) == channels and all(_can_be_linked(path) for path in paths):
        for name, path in zip(names, paths, strict=True):
            os.symlink(path.resolve(), name)
        return
    scan = read_image(paths, channels=channels)
    for name, values in zip(names, scan.array, strict=True):
        write_nifti(name, values, scan.affine)


def _can_be_linked(path: Path) -> bool:
    return path.name.endswith(ENDING) and axes_of(path) == 3
