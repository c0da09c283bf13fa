"""The audit of one case: every file readable, on one grid, with sound values."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from lunet.data.audit.findings import CaseFacts, ChannelFacts, Finding, FindingSite, LabelFacts
from lunet.data.audit.header import check_pair
from lunet.data.audit.pictures import thumbnail
from lunet.data.audit.read import read_channels, read_file, relative, single_label
from lunet.data.audit.values import (
    channel_facts,
    check_channel,
    check_label_values,
    check_structures,
    digest_of,
    label_facts,
    pattern_of,
)
from lunet.data.dataset import Case, Dataset
from lunet.data.geometry import is_invertible, spacing_of
from lunet.data.io.images import class_indices
from lunet.errors import DataError


def examine(case: Case, dataset: Dataset) -> tuple[CaseFacts | None, list[Finding]]:
    """All findings of one case, and its facts if its image is sound enough to have some."""
    findings: list[Finding] = []
    channels, affine = read_channels(case, dataset, findings)
    files = tuple(relative(path, dataset.root) for path in case.images)
    known = _channels(channels, files, case.id, findings)
    indices, labels = _label(case, dataset, channels, affine, findings)
    if not channels or affine is None or not is_invertible(affine):
        return None, findings
    if indices is not None and indices.shape != channels[0].shape:
        indices, labels = None, None
    return CaseFacts(
        id=case.id,
        group=case.group,
        files=files,
        shape=channels[0].shape,
        spacing=spacing_of(affine)[: channels[0].ndim],
        axes="".join(nib.aff2axcodes(affine)),
        channels=known,
        digest=digest_of(np.stack(channels)),
        pattern=pattern_of(channels[0], affine),
        label_file=relative(case.label, dataset.root) if case.label else "",
        label=labels,
        thumbnail=thumbnail(channels[0], indices, affine),
    ), findings


def _channels(
    channels: list[NDArray[Any]], files: tuple[str, ...], case: str, findings: list[Finding]
) -> tuple[ChannelFacts, ...]:
    facts = []
    for index, channel in enumerate(channels):
        facts.append(channel_facts(channel))
        file = files[index] if len(files) == len(channels) else files[0]
        findings += check_channel(channel, facts[-1], FindingSite(case, file))
    return tuple(facts)


def _label(
    case: Case,
    dataset: Dataset,
    channels: list[NDArray[Any]],
    affine: NDArray[np.float64] | None,
    findings: list[Finding],
) -> tuple[NDArray[np.uint8] | None, LabelFacts | None]:
    """Class indices and facts of the label; None twice, and findings, if it cannot be used."""
    if case.label is None:
        return None, None
    place = FindingSite(case.id, relative(case.label, dataset.root))
    read = read_file(case.label, place, findings, pixel_mm=dataset.pixel_mm)
    raw = single_label(read[0], place, findings) if read else None
    if read is None or raw is None:
        return None, None
    if channels and affine is not None:
        image = relative(case.images[0], dataset.root)
        findings += _check_against_image(channels[0], affine, raw, read[1], image, place)
    findings += check_label_values(raw, dataset.task, dataset.rule, place)
    try:
        indices = class_indices(raw, dataset.rule, place.file)
    except DataError:  # `check_label_values` has already reported this
        return None, None
    if not is_invertible(read[1]):
        return indices, None
    facts = label_facts(indices, read[1])
    findings += check_structures(facts, dataset.task, place)
    return indices, facts


def _check_against_image(
    channel: NDArray[Any],
    affine: NDArray[np.float64],
    raw: NDArray[Any],
    label_affine: NDArray[np.float64],
    image: str,
    place: FindingSite,
) -> list[Finding]:
    findings = list(check_pair((channel.shape, raw.shape), (affine, label_affine), image, place))
    if raw.shape == channel.shape and np.array_equal(raw, channel):
        found, advice = f"equal to {image}", "find the label of this image"
        findings.append(place.error("label_is_image", "values", found, "class indices", advice))
    return findings
