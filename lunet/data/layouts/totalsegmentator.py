"""TotalSegmentator as published, turned into the project's layout: its masks become one label.

A subject (``s0000``) has its scan ``ct.nii.gz`` and a mask per structure in ``segmentations``. The
labels of the settings, or of the catalog, are the names of the masks that are taken.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lunet.data.catalog_table import CATALOG
from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import LabelRule, read_label, require_grid
from lunet.data.io.write import write_nifti
from lunet.data.layouts.importing import STEP, write_links
from lunet.data.layouts.task import chosen_groups
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.own_files import renewed
from lunet.task import Task

NAME = "TotalSegmentator_v2"


def import_totalsegmentator(
    source: str | Path,
    out: str | Path,
    settings: DatasetSettings,
    *,
    log: Callable[[str], None] = print,
) -> Dataset:
    """Convert the data set into ``out``, which appears in one step; scans are linked.

    Where two masks overlap, the structure with the higher index has the voxel.

    Raises
    ------
    ConfigError
        If ``out`` holds files of others.
    DataError
        If there are no subjects, a mask is missing, or masks of a subject have different grids.
    """
    root = Path(source)
    scans = sorted(root.glob("s*/ct.nii.gz"))
    if not scans:
        raise DataError(
            where=root, found="no subjects", expected="s0000/ct.nii.gz and s0000/segmentations/"
        )
    labels = settings.labels or CATALOG[NAME].labels
    with renewed(out, step=STEP, inputs=[root]) as stage:
        cases = []
        for scan in scans:
            case = scan.parent.name
            label = stage / "merged" / f"{case}.nii.gz"
            write_nifti(label, *merged(scan.parent / "segmentations", labels))
            cases.append(Case(case, (scan,), label, case))
            log(f"merged {case} ({len(cases)}/{len(scans)})")
        task = Task(settings.channels or ("CT",), dict(labels), settings.regions or {})
        dataset = Dataset(root, NAME, task, chosen_groups(cases, settings))
        write_links(dataset, stage)
        shutil.rmtree(stage / "merged")  # `write_links` gave the files new names
    return dataset


def merged(
    folder: Path, labels: Mapping[str, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Class indices (x, y, z) uint8 of the masks in a folder, and their affine (4, 4) in mm."""
    first: tuple[Path, NDArray[np.uint8], NDArray[np.float64]] | None = None
    for name, index in sorted(labels.items(), key=lambda item: item[1]):
        path = folder / f"{name}.nii.gz"
        if not path.is_file():
            raise DataError(
                where=path,
                found="missing",
                expected="each label is the name of a mask",
                action="Fetch version 2 of the data set, or correct the labels",
            )
        mask, affine = read_label(path, LabelRule())
        if first is None:
            first = path, np.zeros(mask.shape, np.uint8), affine
        require_grid(path, mask.shape, affine, first[0], first[1].shape, first[2])
        first[1][mask > 0] = index
    assert first is not None
    return first[1], first[2]
