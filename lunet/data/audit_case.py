"""The audit of one case: every file readable, on one grid, with sound values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lunet.data.audit_findings import CaseFacts, ChannelFacts, Finding, LabelFacts, times
from lunet.data.audit_header import check_affine, check_header, check_magic, check_pair
from lunet.data.audit_pictures import thumbnail
from lunet.data.audit_values import (
    channel_facts,
    check_channel,
    check_label_values,
    check_structures,
    digest_of,
    label_facts,
    pattern_of,
)
from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import spacing_of
from lunet.data.scan import PICTURES, class_indices, read_raw, suffix_of
from lunet.errors import DataError

Read = tuple[NDArray[Any], NDArray[np.float64]]


def examine(case: Case, dataset: Dataset) -> tuple[CaseFacts | None, list[Finding]]:
    """All findings of one case, and its facts if its image is sound enough to have some."""
    findings: list[Finding] = []
    channels, affine = _read_channels(case, dataset, findings)
    files = tuple(relative(path, dataset.root) for path in case.images)
    label, labels = None, None
    if case.label is not None:
        label_file = relative(case.label, dataset.root)
        label = _read(case.label, case.id, label_file, findings)
        if label is not None:
            labels = _examine_label(case, dataset, channels, affine, label, findings)
    if not channels or affine is None or _has(findings, "singular_affine"):
        return None, findings
    sound = labels if label is not None and label[0].shape == channels[0].shape else None
    return CaseFacts(
        id=case.id,
        group=case.group,
        files=files,
        shape=channels[0].shape,
        spacing=spacing_of(affine)[: channels[0].ndim],
        axes="".join(nib.aff2axcodes(affine)),
        channels=tuple(_channel(channels, files, case.id, findings)),
        digest=digest_of(np.stack(channels)),
        pattern=pattern_of(channels[0], affine),
        label_file=relative(case.label, dataset.root) if case.label else "",
        label=sound[1] if sound else None,
        thumbnail=thumbnail(channels[0], sound[0] if sound else None, affine),
    ), findings


def relative(path: Path, root: Path) -> str:
    """Path as findings show it: from the data set's folder, if it lies there."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _has(findings: list[Finding], check: str) -> bool:
    return any(finding.check == check for finding in findings)


def _read(path: Path, case: str, file: str, findings: list[Finding]) -> Read | None:
    """Array and affine of a file, or None and the finding that says why not."""
    if not path.exists():
        findings.append(
            Finding(
                "error",
                "missing_file",
                case,
                file,
                "file",
                "missing",
                "the file that is listed",
                "put it there, or correct dataset.json",
            )  # fmt: skip
        )
        return None
    findings += check_magic(path, case, file)
    try:
        raw, affine = read_raw(path)
    except DataError as error:
        if not _has(findings[-1:], "wrong_magic") and not _has(findings[-1:], "empty_file"):
            findings.append(
                Finding(
                    "error",
                    "unreadable",
                    case,
                    file,
                    "file",
                    error.found,
                    "a readable image",
                    "fetch it anew",
                )  # fmt: skip
            )
        return None
    findings += check_header(path, case, file)
    findings += check_affine(affine, case, file)
    return raw, affine


def _read_channels(
    case: Case, dataset: Dataset, findings: list[Finding]
) -> tuple[list[NDArray[Any]], NDArray[np.float64] | None]:
    """The image's channels (x, y, z) on the grid of the first file; others are findings."""
    wanted = len(dataset.task.channels)
    channels: list[NDArray[Any]] = []
    first: NDArray[np.float64] | None = None
    shape: tuple[int, ...] = ()
    for path in case.images:
        file = relative(path, dataset.root)
        read = _read(path, case.id, file, findings)
        if read is None:
            continue
        own = _split(read[0], path, case.id, file, wanted, findings)
        if first is None:
            first, shape = read[1], own[0].shape if own else ()
        else:
            image = relative(case.images[0], dataset.root)
            shapes = (shape, own[0].shape if own else ())
            findings += check_pair(shapes, (first, read[1]), case.id, (image, file))
        channels += [channel for channel in own if channel.shape == shape]
    _check_count(case, dataset, len(channels), findings)
    return channels, first


def _split(
    raw: NDArray[Any], path: Path, case: str, file: str, wanted: int, findings: list[Finding]
) -> list[NDArray[Any]]:
    """One array per channel; the channel axis is the last one."""
    spatial = 2 if suffix_of(path) in PICTURES else 3
    if raw.dtype.kind not in "biuf":
        findings.append(
            Finding(
                "error",
                "odd_dtype",
                case,
                file,
                "dtype",
                str(raw.dtype),
                "real numbers",
                "convert it to float32",
            )  # fmt: skip
        )
        return []
    if raw.ndim == 5 and raw.shape[3] == 1:
        raw = raw[:, :, :, 0]
    if raw.ndim == spatial + 1:
        if raw.shape[-1] == 1 and wanted == 1:
            findings.append(
                Finding(
                    "info",
                    "singleton_axis",
                    case,
                    file,
                    "shape",
                    times(raw.shape),
                    f"{spatial} axes; the last one is dropped",
                    "",
                )  # fmt: skip
            )
        return [raw[..., index] for index in range(raw.shape[-1])]
    if raw.ndim == 2 and spatial == 3:
        return [raw[..., None]]
    if raw.ndim != spatial:
        findings.append(
            Finding(
                "error",
                "wrong_dimensions",
                case,
                file,
                "shape",
                times(raw.shape),
                f"{spatial} axes, and one for channels",
                "split the file",
            )  # fmt: skip
        )
        return []
    return [raw]


def _check_count(case: Case, dataset: Dataset, found: int, findings: list[Finding]) -> None:
    wanted = dataset.task.channels
    if found == len(wanted) or any(finding.severity == "error" for finding in findings):
        return
    findings.append(
        Finding(
            "error",
            "channel_count",
            case.id,
            relative(case.images[0], dataset.root),
            "channels",
            f"{found}",
            f"{len(wanted)} ({', '.join(wanted)})",
            "dataset.channels, or split it",
        )  # fmt: skip
    )


def _channel(
    channels: list[NDArray[Any]], files: tuple[str, ...], case: str, findings: list[Finding]
) -> list[ChannelFacts]:
    facts = []
    for index, channel in enumerate(channels):
        facts.append(channel_facts(channel))
        file = files[index] if len(files) == len(channels) else files[0]
        findings += check_channel(channel, facts[-1], case, file)
    return facts


def _examine_label(
    case: Case,
    dataset: Dataset,
    channels: list[NDArray[Any]],
    affine: NDArray[np.float64] | None,
    label: Read,
    findings: list[Finding],
) -> tuple[NDArray[np.uint8], LabelFacts] | None:
    """Findings of a label; its class indices and facts if they can be had."""
    assert case.label is not None  # the caller read it
    file = relative(case.label, dataset.root)
    raw = _drop_singletons(
        label[0], 2 if suffix_of(file) in PICTURES else 3, case.id, file, findings
    )
    if channels and affine is not None:
        image = relative(case.images[0], dataset.root)
        findings += check_pair(
            (channels[0].shape, raw.shape), (affine, label[1]), case.id, (image, file)
        )
        if raw.shape == channels[0].shape and np.array_equal(raw, channels[0]):
            findings.append(
                Finding(
                    "error",
                    "label_is_image",
                    case.id,
                    file,
                    "values",
                    f"equal to {image}",
                    "class indices",
                    "find the label of this image",
                )  # fmt: skip
            )
    findings += check_label_values(raw, dataset.task, dataset.rule, case.id, file)
    try:
        indices = class_indices(raw, dataset.rule, file)
        facts = label_facts(indices, label[1]) if raw.ndim in (2, 3) else None
    except (DataError, ValueError, np.linalg.LinAlgError):
        return None  # a finding above says why
    if facts is None:
        return None
    findings += check_structures(facts, dataset.task, case.id, file)
    return indices, facts


def _drop_singletons(
    raw: NDArray[Any], spatial: int, case: str, file: str, findings: list[Finding]
) -> NDArray[Any]:
    before = raw.shape
    while raw.ndim > spatial and raw.shape[-1] == 1:
        raw = raw[..., 0]
    if raw.ndim == 2 and spatial == 3:
        raw = raw[..., None]
    if raw.ndim != spatial:
        findings.append(
            Finding(
                "error",
                "wrong_dimensions",
                case,
                file,
                "shape",
                times(before),
                f"{spatial} axes",
                "one label file with one class index per voxel",
            )  # fmt: skip
        )
    elif len(before) > spatial:
        findings.append(
            Finding(
                "warning",
                "singleton_axis",
                case,
                file,
                "shape",
                times(before),
                f"{spatial} axes",
                "lunet repair RAW --out FIXED",
            )  # fmt: skip
        )
    return raw
