"""Exports 2D slices of volumes as 8-bit PNG files, for tools that read nothing else.

LUNet itself never trains on such files: they have lost the spacing and all but 256 grey levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import spacing_of
from lunet.data.ground_truth import read_case_label
from lunet.data.io.images import read_image, require_grid
from lunet.data.layouts.folders import EXPORTED
from lunet.errors import ConfigError
from lunet.files import write_csv
from lunet.own_files import renewed

COLUMNS = ("file", "case", "group", "slice", "labelled", "pixels", "column_mm", "row_mm")


@dataclass(frozen=True)
class SliceExport:
    """How slices are cut.

    Attributes
    ----------
    window
        Intensities (low, high) that become 0 and 255.
    channel, axis
        Channel to export; array axis across which volumes are cut (2: axial, where z is last).
    empty
        Share of the slices without a label to keep, chosen at random with ``seed``.
    white
        Write 255 wherever there is a label, instead of class indices.
    """

    window: tuple[float, float]
    channel: int = 0
    axis: int = 2
    empty: float = 1.0
    seed: int = 42
    white: bool = False

    def __post_init__(self) -> None:
        if not self.window[0] < self.window[1]:
            raise ConfigError(
                where="--window", found=f"{self.window}", expected="LOW below HIGH is needed"
            )
        if not 0 <= self.empty <= 1:
            raise ConfigError(
                where="--empty", found=f"{self.empty:g}", expected="a share from 0 to 1 is needed"
            )
        if self.axis not in (0, 1, 2):
            raise ConfigError(where="--axis", found=f"{self.axis}", expected="0, 1 or 2")


def export_slices(
    dataset: Dataset,
    settings: SliceExport,
    out: str | Path,
    *,
    log: Callable[[str], None] = print,
) -> int:
    """Write ``images/<case>_slice_0000.png``, ``labels/`` of equal names and ``slices.csv``.

    Array axes are kept, the first of the slice to the right and the second down, so that
    ``lunet import`` of the folder gives the same arrays. A case without a label has no file in
    ``labels/``. The folder appears in one step.

    Returns
    -------
    Number of slices.

    Raises
    ------
    DataError
        If a file is missing or unusable.
    ConfigError
        If ``out`` holds anything that this step did not write.
    """
    rows: list[dict[str, Any]] = []
    with renewed(out, step="export-slices", inputs=[dataset.root]) as stage:
        for number, case in enumerate(dataset.cases, start=1):
            rows += _export_case(case, dataset, settings, stage)
            log(f"cut {case.id} ({number}/{len(dataset.cases)})")
        write_csv(stage / EXPORTED, COLUMNS, rows)
    return len(rows)


def _export_case(
    case: Case, dataset: Dataset, settings: SliceExport, stage: Path
) -> Iterator[dict[str, Any]]:
    image, label, spacing = _read(case, dataset, settings.channel)
    grey = to_grey(image, settings.window)
    steps = np.delete(spacing, settings.axis) if dataset.unit == "mm" else ("", "")
    rng = np.random.default_rng([settings.seed, *case.id.encode()])
    for index in range(grey.shape[settings.axis]):
        mask = None if label is None else np.take(label, index, settings.axis)
        labelled = 0 if mask is None else int(np.count_nonzero(mask))
        if mask is not None and not labelled and rng.random() >= settings.empty:
            continue
        name = f"{case.id}_slice_{index:04d}.png"
        plane = np.take(grey, index, settings.axis)
        _write(stage / "images" / name, plane)
        if mask is not None:
            shown = np.where(mask > 0, 255, 0) if settings.white else mask
            _write(stage / "labels" / name, shown.astype(np.uint8))
        values = (name, case.id, case.group, index, labelled, plane.size, *steps)
        yield dict(zip(COLUMNS, values, strict=True))


def _read(
    case: Case, dataset: Dataset, channel: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, NDArray[np.float64]]:
    """Image (x, y, z), label or None, voxel size in mm; a picture is one slice."""
    channels, pixel_mm = len(dataset.task.channels), dataset.pixel_mm
    scan = read_image(case.images, channels=channels, pixel_mm=pixel_mm)
    if not 0 <= channel < len(scan.array):
        raise ConfigError(
            where="--channel", found=str(channel), expected=f"images have {len(scan.array)}"
        )
    image, label = scan.array[channel], None
    if case.label is not None:
        label, affine = read_case_label(case.label, dataset.task, dataset.rule, pixel_mm=pixel_mm)
        require_grid(case.label, label.shape, affine, case.images[0], image.shape, scan.affine)
    if image.ndim == 2:
        image, label = image[..., None], None if label is None else label[..., None]
    return image, label, np.array(spacing_of(scan.affine))


def to_grey(image: NDArray[np.floating[Any]], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Map intensities from ``window[0]`` to ``window[1]`` to 0 to 255, clipped and rounded."""
    low, high = window
    share = (image.astype(np.float64) - low) / (high - low)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def _write(path: Path, plane: NDArray[np.uint8]) -> None:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.ascontiguousarray(plane.T)).save(path, format="PNG")
