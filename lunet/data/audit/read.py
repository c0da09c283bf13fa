"""Reads the files of a case for an audit: what cannot be read becomes a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.audit.findings import REPAIR, Finding, FindingSite, times
from lunet.data.audit.header import check_affine, check_header, check_magic, check_pair
from lunet.data.dataset import Case, Dataset
from lunet.data.io.images import PICTURES, PixelSize, read_raw, suffix_of
from lunet.errors import DataError

Read = tuple[NDArray[Any], NDArray[np.float64]]


def relative(path: Path, root: Path) -> str:
    """Path as findings show it: relative to the data set's folder if it is inside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def read_file(
    path: Path,
    place: FindingSite,
    findings: list[Finding],
    *,
    pixel_mm: PixelSize | None = None,
) -> Read | None:
    """Array and affine of a file; None, and a finding with the reason, if it cannot be read."""
    if not path.exists():
        advice = "add the file, or correct dataset.json"
        findings.append(place.error("missing_file", "file", "missing", "the listed file", advice))
        return None
    magic = list(check_magic(path, place))
    try:
        raw, affine = read_raw(path, pixel_mm=pixel_mm)
    except DataError as error:
        findings += magic or [
            place.error("unreadable", "file", error.found, "a readable image", "fetch it again")
        ]
        return None
    if raw.dtype.kind not in "biuf":
        found, advice = str(raw.dtype), "convert it to float32"
        findings.append(place.error("odd_dtype", "dtype", found, "real numbers", advice))
        return None
    findings += [*magic, *check_header(path, place), *check_affine(affine, place)]
    return raw, affine


def read_channels(
    case: Case, dataset: Dataset, findings: list[Finding]
) -> tuple[list[NDArray[Any]], NDArray[np.float64] | None]:
    """The image's channels (x, y, z); those on another grid than the first become findings."""
    channels: list[NDArray[Any]] = []
    first: NDArray[np.float64] | None = None
    image = relative(case.images[0], dataset.root)
    before = len(findings)
    for path in case.images:
        place = FindingSite(case.id, relative(path, dataset.root))
        read = read_file(path, place, findings, pixel_mm=dataset.pixel_mm)
        own = split_channels(read[0], place, findings) if read else []
        if read is None or not own:
            continue
        if first is None:
            first = read[1]
        else:
            shapes = channels[0].shape, own[0].shape
            findings += check_pair(shapes, (first, read[1]), image, place)
        channels += [channel for channel in own if not channels or _same(channel, channels[0])]
    found, names = len(channels), dataset.task.channels
    if found != len(names) and not any(f.severity == "error" for f in findings[before:]):
        expected = f"{len(names)} ({', '.join(names)})"
        place = FindingSite(case.id, image)
        findings.append(
            place.error("channel_count", "channels", str(found), expected, "dataset.channels")
        )
    return channels, first


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape


def spatial_axes(file: str | Path) -> int:
    """2 for pictures, 3 for volumes."""
    return 2 if suffix_of(file) in PICTURES else 3


def split_channels(
    raw: NDArray[Any], place: FindingSite, findings: list[Finding]
) -> list[NDArray[Any]]:
    """One array (x, y, z) per channel; the channel axis is the last one in the file."""
    spatial = spatial_axes(place.file)
    if raw.ndim == 5 and raw.shape[3] == 1:
        raw = raw[:, :, :, 0]
    if raw.ndim == spatial + 1:
        if raw.shape[-1] == 1:
            expected = f"{spatial} axes; the last one is dropped"
            findings.append(
                place.info("singleton_axis", "shape", times(raw.shape), expected, REPAIR)
            )
        return [raw[..., index] for index in range(raw.shape[-1])]
    if raw.ndim == 2:
        return [raw if spatial == 2 else raw[..., None]]
    if raw.ndim == spatial:
        return [raw]
    expected = f"{spatial} axes, and one for channels"
    findings.append(
        place.error("wrong_dimensions", "shape", times(raw.shape), expected, "split the file")
    )
    return []


def single_label(
    raw: NDArray[Any], place: FindingSite, findings: list[Finding]
) -> NDArray[Any] | None:
    """The label (x, y, z) without singleton axes, or None if it has several channels."""
    before, spatial = raw.shape, spatial_axes(place.file)
    while raw.ndim > spatial and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim == 2 and spatial == 3:
        raw = raw[..., None]
    if raw.ndim != spatial:
        advice = "store one class index per voxel"
        findings.append(
            place.error("wrong_dimensions", "shape", times(before), f"{spatial} axes", advice)
        )
        return None
    if len(before) > spatial:
        findings.append(
            place.warning("singleton_axis", "shape", times(before), f"{spatial} axes", REPAIR)
        )
    return raw
