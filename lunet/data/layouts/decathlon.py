"""The Decathlon's layout: ``dataset.json`` with a list of image and label pairs."""

from __future__ import annotations

from pathlib import Path

from lunet.data.dataset import LISTING, Dataset, read_dataset
from lunet.data.layouts.task import chosen_task
from lunet.data.settings import DatasetSettings
from lunet.reading import read_object

LOOKS_FOR = "dataset.json with a list `training`"


def matches(root: Path) -> bool:
    """Whether ``root`` has this layout."""
    path = root / LISTING
    return path.is_file() and isinstance(read_object(path).get("training"), list)


def read(root: Path, settings: DatasetSettings) -> Dataset:
    """Read the data set; ``settings`` override labels and channels."""
    dataset = read_dataset(root, settings)
    return chosen_task(dataset, settings)
