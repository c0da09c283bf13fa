"""Synthetic data sets on disk, in the project's (Decathlon) layout or in a challenge's own."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.catalog import task_of
from lunet.data.io.write import nifti_image
from lunet.data.phantoms.fields import PhantomCase
from lunet.data.settings import DatasetSettings, PhantomSettings
from lunet.errors import ConfigError
from lunet.files import write_bytes, write_json
from lunet.own_files import renewed

_MODULES = {
    "hippocampus": "lunet.data.phantoms.hippocampus",
    "harp": "lunet.data.phantoms.harp",
    "spleen": "lunet.data.phantoms.spleen",
    "lung": "lunet.data.phantoms.lung",
    "brats2021": "lunet.data.phantoms.brats",
    "brats2023": "lunet.data.phantoms.brats",
    "heart_ct": "lunet.data.phantoms.heart",
    "heart_mr": "lunet.data.phantoms.heart",
}


def make_phantom(settings: PhantomSettings, folder: str | Path) -> Path:
    """Write a synthetic data set into ``folder``: new, empty or an earlier phantom's.

    The same settings give the same bytes: generators are seeded per subject (so a larger set begins
    with the smaller one) and gzip headers carry no time.

    Raises
    ------
    ConfigError
        If the published layout is requested for a kind that has none, or if the folder holds
        anything that this step did not write.
    """
    with renewed(folder, step="phantom") as stage:
        fill_phantom(settings, stage)
    return Path(folder)


def fill_phantom(settings: PhantomSettings, folder: Path) -> None:
    """Write a synthetic data set into an empty folder."""
    (_published if settings.layout == "published" else _project)(settings, folder)


def _project(settings: PhantomSettings, root: Path) -> None:
    entries = [_write_case(root, case) for case in _cases(settings)]
    write_json(root / "dataset.json", _description(settings, entries))


def _cases(settings: PhantomSettings) -> Iterator[PhantomCase]:
    module = importlib.import_module(_MODULES[settings.kind])
    for number in range(1, settings.subjects + 1):
        yield from module.make_subject(number, settings)


def _published(settings: PhantomSettings, root: Path) -> None:
    module = importlib.import_module(_MODULES[settings.kind])
    if not hasattr(module, "published_files"):
        raise ConfigError(
            where="dataset.phantom.layout",
            found=f"found 'published' with kind {settings.kind!r}",
            expected="only the harp, brats and heart kinds have a layout of their own",
        )
    for case in _cases(settings):
        for name, volume in module.published_files(case, settings.kind).items():
            write_bytes(root / name, nifti_bytes(volume, case.spacing))


def _write_case(root: Path, case: PhantomCase) -> dict[str, Any]:
    several = len(case.images) > 1
    images = []
    for channel, volume in enumerate(case.images):
        suffix = f"_{channel:04d}" if several else ""
        images.append(f"./imagesTr/{case.id}{suffix}.nii.gz")
        write_bytes(root / images[-1], nifti_bytes(volume, case.spacing))
    label = f"./labelsTr/{case.id}.nii.gz"
    write_bytes(root / label, nifti_bytes(case.label, case.spacing))
    return {"image": images if several else images[0], "label": label, "group": case.group}


def _description(settings: PhantomSettings, entries: list[dict[str, Any]]) -> dict[str, Any]:
    task = task_of(DatasetSettings(name="phantom", phantom=settings))
    labels = {"0": "background"} | {str(index): name for name, index in task.labels.items()}
    return {
        "name": f"phantom_{settings.kind}",
        "description": "synthetic, made by lunet phantom",
        "licence": "none needed: synthetic",
        "labels": labels,
        "modality": {str(index): name for index, name in enumerate(task.channels)},
        "regions": {name: list(members) for name, members in task.regions.items()},
        "tensorImageSize": "3D",
        "numTraining": len(entries),
        "numTest": 0,
        "training": entries,
        "test": [],
    }


def nifti_bytes(volume: NDArray[np.generic], spacing: tuple[float, float, float]) -> bytes:
    """A gzip NIfTI-1 file in RAS whose bytes depend only on the voxels (x, y, z) and spacing."""
    image = nifti_image(volume, np.diag([*spacing, 1.0]))
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
