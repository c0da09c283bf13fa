"""Stores the probabilities of a study's test cases, small enough to be kept for every run.

A map holds, per structure and voxel, how many of ``FROC_THRESHOLDS`` the probability reaches, as
uint8. Step ``k`` is reached exactly where the full map reaches the ``k``-th threshold, so the
rounding does not change an FROC curve.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lunet.data.io.nifti import slabs
from lunet.data.io.write import write_nifti
from lunet.errors import DataError
from lunet.inference.decode import Channels
from lunet.metrics.thresholds import FROC_THRESHOLDS
from lunet.task import Task

FOLDER = "probabilities"
"""Folder of the maps inside the folder of the masks; a map is ``<case>.nii.gz``."""
_SUFFIX = ".nii.gz"


def map_file(case: str) -> str:
    """The map of a case or a scan, relative to the folder of the masks."""
    return f"{FOLDER}/{case}{_SUFFIX}"


def to_steps(probability: NDArray[Any]) -> NDArray[np.uint8]:
    """How many of the 255 ``FROC_THRESHOLDS`` each probability reaches."""
    steps = np.empty(probability.shape, np.uint8)
    for part in slabs(len(probability)):
        steps[part] = np.searchsorted(FROC_THRESHOLDS, probability[part], side="right")
    return steps


def write_map(
    folder: str | Path, case: str, channels: Channels, *, task: Task, affine: ArrayLike
) -> None:
    """Write ``folder/<case>.nii.gz``, (x, y, z, structure) uint8 on the raw image's grid.

    ``channels`` are the network's probabilities in native space; the background is left out.
    """
    first = 1 if task.activation == "softmax" else 0
    parts = [to_steps(channels[first + k]) for k in range(len(task.names))]
    stacked = np.stack([part[..., None] if part.ndim == 2 else part for part in parts], axis=-1)
    write_nifti(Path(folder) / f"{case}{_SUFFIX}", stacked, affine)


def read_map(folder: str | Path, case: str, *, task: Task) -> NDArray[np.uint8]:
    """The map of a case, (x, y, z, structure) in steps; pictures have one slice.

    Raises
    ------
    DataError
        If there is none, or it was made for another task.
    """
    path = Path(folder) / f"{case}{_SUFFIX}"
    if not path.is_file():
        raise DataError(
            where=path,
            found="the probabilities are missing",
            expected="predict.probabilities: true writes them",
            action="Predict the run again",
        )
    array = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    array = array if array.ndim == 4 else array[..., None]  # NIfTI drops a last axis of one
    if array.shape[-1] != len(task.names) or array.dtype != np.uint8:
        found = f"{array.dtype} of shape {array.shape}"
        raise DataError(
            where=path, found=found, expected=f"uint8 with {len(task.names)} structures is expected"
        )
    return array
