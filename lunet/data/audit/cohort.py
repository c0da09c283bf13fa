"""Checks that need all cases at once: duplicates, outliers, mixed scales, misplaced labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lunet.data.audit.findings import (
    FEW,
    CaseFacts,
    Finding,
    FindingSite,
    Severity,
    is_rare,
    outliers,
    times,
)
from lunet.data.audit.labels import check_labels
from lunet.data.subjects import SUBJECTS, suggested_pattern
from lunet.task import Length, Task

# Share of voxels at the largest value above which an image counts as cut off.
SATURATED = 0.005
# Correlation of coarse pictures above which two images count as one subject's, for data sets with
# too few cases to measure how alike different subjects are; and the lowest limit ever used.
ALIKE = 0.985
LEAST_ALIKE = 0.94


def check_cohort(cases: Sequence[CaseFacts], task: Task, unit: Length = "mm") -> Iterator[Finding]:
    """All findings that compare the cases with each other."""
    yield from _twins(cases, "duplicate_image", lambda case: case.digest, lambda c: c.files[0])
    labelled = [case for case in cases if case.label and case.label.volumes]
    yield from _twins(labelled, "duplicate_label", _label_digest, lambda case: case.label_file)
    yield from check_subjects(cases)
    yield from check_saturation(cases)
    if len(cases) >= FEW:
        yield from _spacings(cases)
        yield from _extents(unit, cases)
        yield from _axes(cases)
        yield from check_scales(cases, task)
    yield from check_labels(labelled, task, unit)


def check_saturation(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images cut off at their largest value; a single finding if that is true of most images."""
    shares = {case.id: max(c.saturated for c in case.channels) for case in cases if case.channels}
    found = [
        case
        for case in cases
        if shares[case.id] > SATURATED
        and all(channel.minimum < channel.maximum for channel in case.channels)
    ]
    expected, advice = f"at most {100 * SATURATED:g} %", "look for the unclipped images"
    if len(found) >= FEW and 2 * len(found) > len(cases):
        text = f"{len(found)} of {len(cases)} cases have many voxels of the largest value"
        yield FindingSite().warning("saturated", "values", text, expected, advice)
        return
    for case in found:
        text = f"{100 * shares[case.id]:.2g} % of the voxels have the largest value"
        yield FindingSite(case.id, case.files[0]).warning(
            "saturated", "values", text, expected, advice
        )


def _label_digest(case: CaseFacts) -> str:
    return case.label.digest if case.label else ""


def _twins(
    cases: Sequence[CaseFacts],
    check: str,
    digest: Callable[[CaseFacts], str],
    file: Callable[[CaseFacts], str],
) -> Iterator[Finding]:
    first: dict[str, CaseFacts] = {}
    for case in cases:
        twin = first.setdefault(digest(case), case)
        if twin is not case:
            severity: Severity = "warning" if twin.group == case.group else "error"
            yield FindingSite(case.id, file(case)).finding(
                severity,
                check,
                "content",
                f"equal to {file(twin)}",
                "different content",
                "find the right file, or remove one of the cases",
            )


def check_subjects(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images of different groups that show one subject, by their content or their names."""
    if len({case.group for case in cases}) == len(cases):
        suggestion = suggested_pattern([case.id for case in cases])
        if suggestion is not None:
            pattern, count = suggestion
            yield FindingSite().warning(
                "same_subject",
                "group",
                f"each of {len(cases)} cases is its own subject, but the names look like {count}",
                "cases of one subject share a group, so that none is in training and test",
                f"dataset.groups: '{pattern}', or a {SUBJECTS} (columns case, subject)",
            )
    for one, other, alike in _look_alikes(cases):
        yield FindingSite(other.id, other.files[0]).warning(
            "same_subject",
            "group",
            f"looks like {one.id} (correlation {alike:.4f}), group {other.group}",
            f"the group of {one.id}, {one.group}, if it is the same subject",
            f'"group" in dataset.json for {one.id} and {other.id}',
        )


def _look_alikes(
    cases: Sequence[CaseFacts],
) -> Iterator[tuple[CaseFacts, CaseFacts, float]]:
    if len(cases) < 2:
        return
    patterns = np.stack([case.pattern for case in cases])
    alike = patterns @ patterns.T
    for i, j in np.argwhere(np.triu(alike > _limit(alike), 1)):
        if cases[i].group != cases[j].group and cases[i].digest != cases[j].digest:
            yield cases[i], cases[j], float(alike[i, j])


def _limit(alike: NDArray[np.float32]) -> float:
    """Correlation that different subjects of this data set do not reach."""
    if len(alike) < FEW:
        return ALIKE
    nearest = (alike - 2 * np.eye(len(alike))).max(axis=1)
    return max(LEAST_ALIKE, 1 - (1 - float(np.median(nearest))) / 3)


def _spacings(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    by_length = [c for c in cases if len(c.spacing) == len(cases[0].spacing)]
    logs = np.log([sorted(case.spacing) for case in by_length])
    far = np.any([outliers(axis, 0.1) for axis in logs.T], axis=0).tolist()
    usual = times([float(np.exp(np.median(axis))) for axis in logs.T])
    for case in (case for case, is_far in zip(by_length, far, strict=True) if is_far):
        yield FindingSite(case.id, case.files[0]).warning(
            "foreign_spacing",
            "spacing",
            f"{times(case.spacing)} mm",
            f"about {usual} mm (sorted), as in the other cases",
            "check that it belongs here; preprocess.spacing makes the spacings equal",
        )


def _extents(unit: Length, cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    sizes = [sorted(n * s for n, s in zip(case.shape, case.spacing, strict=True)) for case in cases]
    logs = np.log([[*size, 1.0][:3] for size in sizes])
    far = np.any([outliers(axis, 0.06) for axis in logs.T], axis=0).tolist()
    usual = times([round(float(np.exp(np.median(axis))), 1) for axis in logs.T])
    for case, size in ((c, s) for c, s, is_far in zip(cases, sizes, far, strict=True) if is_far):
        yield FindingSite(case.id, case.files[0]).warning(
            "foreign_extent",
            "shape",
            f"{times(size)} {unit} (sorted)",
            f"about {usual} {unit}, as in the other cases",
            "check that it shows the same anatomy",
        )


def _axes(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    count = Counter(case.axes for case in cases)
    usual, _ = count.most_common(1)[0]
    hands = {codes: _handedness(codes) for codes in count}
    for codes, number in count.items():
        if codes == usual:
            continue
        rare = is_rare(number, len(cases))
        other = hands[codes] != hands[usual]
        names = [case for case in cases if case.axes == codes]
        found = f"{codes}{' (other handedness)' if other else ''} in {number} case(s)"
        yield FindingSite(names[0].id if number == 1 else "", names[0].files[0]).finding(
            "warning" if rare and other else "info",
            "mixed_orientation",
            "direction",
            found,
            f"{usual} as in the other cases; turned by preprocess.orientation",
            "check that left and right are correct",
        )


def _handedness(codes: str) -> int:
    places = [next(i for i, pair in enumerate(("LR", "PA", "IS")) if c in pair) for c in codes]
    signs = [1 if c in "RAS" else -1 for c in codes]
    matrix = np.zeros((3, 3))
    for axis, (place, sign) in enumerate(zip(places, signs, strict=True)):
        matrix[place, axis] = sign
    return round(float(np.linalg.det(matrix)))


def check_scales(cases: Sequence[CaseFacts], task: Task) -> Iterator[Finding]:
    """Groups of intensity scales, and single cases with a scale of their own."""
    for channel, name in enumerate(task.channels):
        known = [case for case in cases if channel < len(case.channels)]
        ranges = [max(c.channels[channel].high - c.channels[channel].low, 1e-9) for c in known]
        order = np.argsort(ranges)
        gaps = np.flatnonzero(np.diff(np.log10(np.array(ranges)[order])) > 0.6)
        groups = np.split(order, gaps + 1) if len(known) else []
        if len(groups) > 1:
            yield FindingSite().warning(
                "mixed_scales",
                f"values of {name}",
                "; ".join(_scale(group, ranges) for group in groups),
                "one intensity scale",
                "preprocess.normalise=zscore, per image",
            )
        for group in groups if len(groups) > 1 else ():
            if len(group) <= max(1, 0.02 * len(known)):
                yield from _foreign_scale([known[i] for i in group], channel, name)


def _scale(group: NDArray[np.intp], ranges: Sequence[float]) -> str:
    low, high = (f"{ranges[group[end]]:.3g}" for end in (0, -1))
    return f"{len(group)} case(s) with a range of {low} to {high}"


def _foreign_scale(cases: Sequence[CaseFacts], channel: int, name: str) -> Iterator[Finding]:
    for case in cases:
        facts = case.channels[channel]
        yield FindingSite(case.id, case.files[0]).warning(
            "foreign_scale",
            f"values of {name}",
            f"{facts.low:.4g} to {facts.high:.4g}",
            "a range similar to the other cases",
            "check its modality and units",
        )
