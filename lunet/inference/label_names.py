"""Names of the structures in a folder of label files, where the user gives none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lunet.data.declared import declared_task
from lunet.data.scan import LabelRule, read_label
from lunet.errors import DataError
from lunet.inference.evaluation import Structures, label_files


def structures_in(
    reference: Path, reference_map: Mapping[int, int], log: Callable[[str], None] = print
) -> Structures:
    """Name -> class indices: of a ``dataset.json`` in the folder or above it, else the values.

    The values are those in the reference files, after the map, named ``label_<value>``; a listing
    is not asked where a map changes what its values mean.

    Raises
    ------
    DataError
        If the files hold nothing but background.
    """
    folders = [reference, reference.parent] if reference.is_dir() and not reference_map else []
    for folder in folders:
        task = declared_task(folder)
        if task is not None and task.labels:
            return _told(dict(task.structures), f"{folder}/dataset.json", log)
    files = [reference] if reference.is_file() else list(label_files(reference).values())
    values: set[int] = set()
    for path in files:
        values |= set(np.unique(read_label(path, LabelRule(reference_map))[0]).tolist()) - {0}
    if not values:
        raise DataError(reference, "nothing but background", "labels to compare", "Give --labels")
    found = {f"label_{value}": (value,) for value in sorted(values)}
    return _told(found, "the reference files", log)


def _told(structures: Structures, origin: str, log: Callable[[str], None]) -> Structures:
    words = (f"{name}={','.join(map(str, found))}" for name, found in structures.items())
    log(f"labels of {origin}: {' '.join(words)}")
    return structures
