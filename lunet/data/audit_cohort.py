"""Checks that need all cases at once: duplicates, outliers, mixed scales, wrong places."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lunet.data.audit_findings import CaseFacts, Finding, Place, Severity, times
from lunet.task import Task

# A share of cases that is small enough to call them exceptions.
RARE = 0.1
# Share of voxels at the largest value above which an image counts as cut off.
SATURATED = 0.005
# Robust deviations (in units of 1.4826 x median absolute deviation) that make an outlier.
FAR = 6.0
# Correlation of coarse pictures above which two images are called one subject's, where too few
# cases tell how alike different subjects are; and the least that ever counts.
ALIKE = 0.985
LEAST_ALIKE = 0.94
_FEW = 5


def is_rare(count: int, total: int) -> bool:
    """Whether so few cases are exceptions among so many."""
    return 2 * count < total and count <= max(1, RARE * total)


def check_cohort(cases: Sequence[CaseFacts], task: Task) -> Iterator[Finding]:
    """All findings that compare the cases with each other."""
    yield from _twins(cases, "duplicate_image", lambda case: case.digest, lambda c: c.files[0])
    labelled = [case for case in cases if case.label and case.label.volumes]
    yield from _twins(labelled, "duplicate_label", _label_digest, lambda case: case.label_file)
    yield from check_subjects(cases)
    yield from check_saturation(cases)
    if len(cases) >= _FEW:
        yield from _spacings(cases)
        yield from _extents(cases)
        yield from _axes(cases)
        yield from check_scales(cases, task)
    yield from check_labels(labelled, task)


def check_saturation(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images cut off at their largest value; one finding where most of the set is like that."""
    shares = {case.id: max(c.saturated for c in case.channels) for case in cases if case.channels}
    found = [
        case
        for case in cases
        if shares[case.id] > SATURATED
        and all(channel.minimum < channel.maximum for channel in case.channels)
    ]
    expected, advice = f"at most {100 * SATURATED:g} %", "look for the unclipped images"
    if len(found) >= _FEW and 2 * len(found) > len(cases):
        text = f"{len(found)} of {len(cases)} cases have many voxels of the largest value"
        yield Place().warning("saturated", "values", text, expected, advice)
        return
    for case in found:
        text = f"{100 * shares[case.id]:.2g} % of the voxels have the largest value"
        yield Place(case.id, case.files[0]).warning("saturated", "values", text, expected, advice)


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
            yield Place(case.id, file(case)).finding(
                severity,
                check,
                "content",
                f"equal to {file(twin)}",
                "content of its own",
                "find the right file, or take one case out",
            )


def check_subjects(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Images of different groups that are so alike that they show one subject."""
    for one, other, alike in _look_alikes(cases):
        yield Place(other.id, other.files[0]).warning(
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
    if len(alike) < _FEW:
        return ALIKE
    nearest = (alike - 2 * np.eye(len(alike))).max(axis=1)
    return max(LEAST_ALIKE, 1 - (1 - float(np.median(nearest))) / 3)


def outliers(values: Sequence[float] | NDArray[Any], floor: float) -> NDArray[np.bool_]:
    """Which values are far from the median: FAR robust deviations, each at least ``floor``."""
    array = np.asarray(values, dtype=float)
    distance = np.abs(array - np.median(array))
    deviation = max(1.4826 * float(np.median(distance)), floor)
    return np.asarray(distance > FAR * deviation)


def _spacings(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    by_length = [c for c in cases if len(c.spacing) == len(cases[0].spacing)]
    logs = np.log([sorted(case.spacing) for case in by_length])
    far = np.any([outliers(axis, 0.1) for axis in logs.T], axis=0).tolist()
    usual = times([float(np.exp(np.median(axis))) for axis in logs.T])
    for case in (case for case, is_far in zip(by_length, far, strict=True) if is_far):
        yield Place(case.id, case.files[0]).warning(
            "foreign_spacing",
            "spacing",
            f"{times(case.spacing)} mm",
            f"about {usual} mm (sorted) as the other cases",
            "check that it belongs here; preprocess.spacing makes them equal",
        )


def _extents(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    sizes = [sorted(n * s for n, s in zip(case.shape, case.spacing, strict=True)) for case in cases]
    logs = np.log([[*size, 1.0][:3] for size in sizes])
    far = np.any([outliers(axis, 0.06) for axis in logs.T], axis=0).tolist()
    usual = times([round(float(np.exp(np.median(axis))), 1) for axis in logs.T])
    for case, size in ((c, s) for c, s, is_far in zip(cases, sizes, far, strict=True) if is_far):
        yield Place(case.id, case.files[0]).warning(
            "foreign_extent",
            "shape",
            f"{times(size)} mm (sorted)",
            f"about {usual} mm as the other cases",
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
        yield Place(names[0].id if number == 1 else "", names[0].files[0]).finding(
            "warning" if rare and other else "info",
            "mixed_orientation",
            "direction",
            found,
            f"{usual} as in the other cases; turned by preprocess.orientation",
            "check that left and right are right",
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
            yield Place().warning(
                "mixed_scales",
                f"values of {name}",
                "; ".join(_scale(group, ranges) for group in groups),
                "one intensity scale",
                "preprocess.normalise=zscore, per volume",
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
        yield Place(case.id, case.files[0]).warning(
            "foreign_scale",
            f"values of {name}",
            f"{facts.low:.4g} to {facts.high:.4g}",
            "a range like that of the other cases",
            "check its modality and units",
        )


def check_labels(cases: Sequence[CaseFacts], task: Task) -> Iterator[Finding]:
    """Structures that are missing, of odd volume, at the border, or in the wrong place."""
    by_class: dict[int, list[CaseFacts]] = defaultdict(list)
    for case in cases:
        for index in case.label.volumes if case.label else ():
            by_class[index].append(case)
    for name, index in task.labels.items():
        holders = by_class[index]
        if not holders:
            if cases:
                yield Place().warning(
                    "unused_label",
                    "labels",
                    f"no case has {name} ({index})",
                    "a declared label occurs",
                    "dataset.labels",
                )
            continue
        yield from _missing(cases, holders, name, index)
        yield from _borders(holders, name, index)
        if len(holders) >= _FEW:
            yield from _volumes(holders, name, index)
            yield from _centroids(holders, name, index)
    if len(cases) >= _FEW:
        yield from _places(cases)


def _missing(
    cases: Sequence[CaseFacts], holders: Sequence[CaseFacts], name: str, index: int
) -> Iterator[Finding]:
    absent = [case for case in cases if case.label and index not in case.label.volumes]
    if not is_rare(len(absent), len(cases)):
        return
    for case in absent:
        yield Place(case.id, case.label_file).warning(
            "missing_structure",
            "values",
            f"no voxel of {name} ({index})",
            f"as in {len(holders)} other case(s)",
            "check the label",
        )


def _borders(holders: Sequence[CaseFacts], name: str, index: int) -> Iterator[Finding]:
    touching = [case for case in holders if case.label and case.label.touches[index]]
    rare = is_rare(len(touching), len(holders))
    for case in touching:
        yield Place(case.id, case.label_file).finding(
            "warning" if rare else "info",
            "label_at_border",
            "values",
            f"{name} touches {case.label.touches[index] if case.label else 0} face(s)",
            "inside the volume" if rare else "often so in this data set",
            "check that the structure is not cut off",
        )


def _volumes(holders: Sequence[CaseFacts], name: str, index: int) -> Iterator[Finding]:
    volumes = [case.label.volumes[index] for case in holders if case.label]
    far = outliers(np.log(volumes), 0.15)
    for case, ml, is_far in zip(holders, volumes, far, strict=True):
        if is_far:
            yield Place(case.id, case.label_file).warning(
                "foreign_volume",
                f"volume of {name}",
                f"{ml:.4g} ml",
                f"about {np.median(volumes):.4g} ml as the other cases",
                "check the label, and the spacing",
            )


def _centroids(holders: Sequence[CaseFacts], name: str, index: int) -> Iterator[Finding]:
    places = np.array([case.label.centroids[index] for case in holders if case.label])
    far = np.any([outliers(axis, 0.02) for axis in places.T], axis=0).tolist()
    usual = times(np.median(places, axis=0).round(2).tolist())
    for case, place, is_far in zip(holders, places, far, strict=True):
        if is_far:
            yield Place(case.id, case.label_file).warning(
                "label_misplaced",
                f"centre of {name}",
                f"{times(place.round(2).tolist())} of the volume's extent (R, A, S)",
                f"about {usual} as the other cases",
                "check that the label belongs to this image",
            )


def _places(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Labels whose foreground lies unlike that of the other cases (a prior of all but one)."""
    maps = np.stack([case.label.place for case in cases if case.label]).astype(np.float64)
    total = maps.sum(axis=0)
    fits = np.array([_correlation(one, total - one) for one in maps])
    far = outliers(fits, 0.05) & (fits < np.median(fits))
    for case, fit, is_far in zip(cases, fits, far, strict=True):
        if is_far:
            yield Place(case.id, case.label_file).warning(
                "label_unlike_others",
                "place",
                f"correlation {fit:.2f} with the mean of the other labels",
                f"about {np.median(fits):.2f}",
                "check orientation, and that it is its image's",
            )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
