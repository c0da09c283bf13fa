"""The task of a data set in another layout, where settings may override its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lunet.data.catalog import remap_of
from lunet.data.dataset import Case, Dataset, group_of
from lunet.data.io.images import (
    DRIFT,
    LOSSY,
    PICTURES,
    LabelRule,
    drift_of,
    read_raw,
    suffix_of,
    values_text,
)
from lunet.data.left_out import without_content
from lunet.data.settings import DatasetSettings
from lunet.errors import DataError
from lunet.task import Task

WHITE = 255
FOREGROUND = "foreground"


def chosen_task(dataset: Dataset, settings: DatasetSettings) -> Dataset:
    """The data set, with the labels, regions and channels of ``settings`` where they are set."""
    task = dataset.task
    regions = settings.regions
    if regions is None:
        regions = task.regions if settings.labels is None else {}
    changed = Task(
        settings.channels or task.channels, settings.labels or task.labels, regions, task.dimensions
    )
    return replace(dataset, task=changed)


def chosen_rule(settings: DatasetSettings, usual: LabelRule | None = None) -> LabelRule:
    """The remapping of ``settings``, else the layout's."""
    if usual is not None and not settings.remap and settings.mask_threshold is None:
        return usual
    return LabelRule(remap_of(settings) if settings.remap else {}, settings.mask_threshold)


def chosen_groups(cases: Iterable[Case], settings: DatasetSettings) -> tuple[Case, ...]:
    """The cases with the subjects that ``settings.groups`` finds in their ids."""
    return tuple(
        replace(case, group=group_of(case.id, settings.groups, case.group)) for case in cases
    )


def infer_labels(
    cases: Sequence[Case], settings: DatasetSettings
) -> tuple[dict[str, int], LabelRule]:
    """Labels and remapping where neither the layout nor the settings name them.

    A mask of 0 and 255 is a binary mask; otherwise every value found becomes ``label_<value>``.

    Raises
    ------
    DataError
        If masks are lossy (JPEG) and no threshold is given, or values are not whole numbers.
    """
    rule = chosen_rule(settings)
    if rule.threshold is not None:
        return settings.labels or {FOREGROUND: 1}, rule
    if settings.labels is not None and settings.remap:
        return settings.labels, rule
    values: set[float] = set()
    for case in cases:
        if case.label is not None and not without_content(case):
            values |= _values(case.label)
    found = {rule.remap.get(int(value), int(value)) for value in values} - {0}
    if found == {WHITE}:
        labels = settings.labels or {FOREGROUND: 1}
        return labels, LabelRule({WHITE: min(labels.values())})
    if found <= {1}:
        return settings.labels or {FOREGROUND: 1}, rule
    return settings.labels or {f"label_{index}": index for index in sorted(found)}, rule


def _values(path: Path) -> set[float]:
    values = np.unique(read_raw(path)[0])
    if suffix_of(path) in LOSSY and len(values) > 2:
        raise DataError(
            where=path,
            found=f"a lossy mask with {len(values)} values from {values[0]} to {values[-1]}",
            expected="class indices",
            action="Give the value above which a voxel is foreground, e.g. --threshold 127",
        )
    if drift_of(values) > DRIFT:
        found = f"fractional mask values {values_text(values)}"
        raise DataError(
            where=path,
            found=found,
            expected="class indices",
            action="Give --threshold for a soft mask",
        )
    return {float(np.rint(value)) for value in values}


def dimensions_of(cases: Sequence[Case], settings: DatasetSettings) -> int:
    """2 for pictures, else ``settings.dimensions``."""
    pictures = all(suffix_of(case.images[0]) in PICTURES for case in cases)
    return 2 if cases and pictures else settings.dimensions
