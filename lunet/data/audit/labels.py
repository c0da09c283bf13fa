"""Checks of all labels at once: missing structures, odd volumes, borders, wrong places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lunet.data.audit.findings import FEW, CaseFacts, Finding, FindingSite, is_rare, outliers, times
from lunet.task import Length, Task


def check_labels(cases: Sequence[CaseFacts], task: Task, unit: Length = "mm") -> Iterator[Finding]:
    """Structures that are missing, of odd volume, at the border, or in the wrong place."""
    by_class: dict[int, list[CaseFacts]] = defaultdict(list)
    for case in cases:
        for index in case.label.volumes if case.label else ():
            by_class[index].append(case)
    for name, index in task.labels.items():
        holders = by_class[index]
        if not holders:
            if cases:
                yield FindingSite().warning(
                    "unused_label",
                    "labels",
                    f"no case has {name} ({index})",
                    "every declared label in some case",
                    "dataset.labels",
                )
            continue
        yield from _single(cases, holders, name, index)
        yield from _missing(cases, holders, name, index)
        yield from _borders(holders, name, index)
        if len(holders) >= FEW:
            yield from _volumes(holders, name, index, unit)
            yield from _centroids(holders, name, index)
    yield from _empty_regions(cases, task, by_class)
    if len(cases) >= FEW:
        yield from _places(cases)


def _empty_regions(
    cases: Sequence[CaseFacts], task: Task, by_class: Mapping[int, Sequence[CaseFacts]]
) -> Iterator[Finding]:
    """Regions that no case has: a code is wrong, or there is nothing to learn."""
    for name, members in task.regions.items() if cases else ():
        if not any(by_class.get(index) for index in members):
            yield FindingSite().error(
                "empty_region",
                "labels",
                f"no case has a voxel of {name} (labels {', '.join(map(str, members))})",
                "every region in some case",
                "correct the codes: dataset.remap, dataset.labels, dataset.regions",
            )


def _single(
    cases: Sequence[CaseFacts], holders: Sequence[CaseFacts], name: str, index: int
) -> Iterator[Finding]:
    """A class that only one subject has: each fold trains or tests without it."""
    subjects, every = ({case.group for case in some} for some in (holders, cases))
    if len(subjects) == 1 < len(every):
        yield FindingSite(holders[0].id, holders[0].label_file).warning(
            "class_in_one_subject",
            "labels",
            f"only {subjects.pop()} of {len(every)} subjects has {name} ({index})",
            "at least two subjects, one to train on and one to test on",
            "check the other labels, or leave the class out: dataset.labels, dataset.remap",
        )


def _missing(
    cases: Sequence[CaseFacts], holders: Sequence[CaseFacts], name: str, index: int
) -> Iterator[Finding]:
    absent = [case for case in cases if case.label and index not in case.label.volumes]
    if not is_rare(len(absent), len(cases)):
        return
    for case in absent:
        yield FindingSite(case.id, case.label_file).warning(
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
        yield FindingSite(case.id, case.label_file).finding(
            "warning" if rare else "info",
            "label_at_border",
            "values",
            f"{name} touches {case.label.touches[index] if case.label else 0} face(s)",
            "inside the image" if rare else "common in this data set",
            "check that the structure is not cut off",
        )


def _volumes(
    holders: Sequence[CaseFacts], name: str, index: int, unit: Length
) -> Iterator[Finding]:
    kind, scale, size = ("volume", 1, "ml") if unit == "mm" else ("area", 1000, "px")
    volumes = [case.label.volumes[index] for case in holders if case.label]
    far = outliers(np.log(volumes), 0.15)
    for case, ml, is_far in zip(holders, volumes, far, strict=True):
        if is_far:
            yield FindingSite(case.id, case.label_file).warning(
                "foreign_volume",
                f"{kind} of {name}",
                f"{scale * ml:.4g} {size}",
                f"about {scale * np.median(volumes):.4g} {size}, as in the other cases",
                "check the label, and the spacing",
            )


def _centroids(holders: Sequence[CaseFacts], name: str, index: int) -> Iterator[Finding]:
    places = np.array([case.label.centroids[index] for case in holders if case.label])
    far = np.any([outliers(axis, 0.02) for axis in places.T], axis=0).tolist()
    usual = times(np.median(places, axis=0).round(2).tolist())
    axes = "x, y" if places.shape[1] == 2 else "R, A, S"
    for case, place, is_far in zip(holders, places, far, strict=True):
        if is_far:
            yield FindingSite(case.id, case.label_file).warning(
                "label_misplaced",
                f"centre of {name}",
                f"{times(place.round(2).tolist())} of the image's extent ({axes})",
                f"about {usual}, as in the other cases",
                "check that the label belongs to this image",
            )


def _places(cases: Sequence[CaseFacts]) -> Iterator[Finding]:
    """Labels whose foreground is not where the other cases have theirs, on average."""
    maps = np.stack([case.label.place for case in cases if case.label]).astype(np.float64)
    total = maps.sum(axis=0)
    fits = np.array([_correlation(one, total - one) for one in maps])
    far = outliers(fits, 0.05) & (fits < np.median(fits))
    for case, fit, is_far in zip(cases, fits, far, strict=True):
        if is_far:
            yield FindingSite(case.id, case.label_file).warning(
                "label_unlike_others",
                "place",
                f"correlation {fit:.2f} with the mean of the other labels",
                f"about {np.median(fits):.2f}",
                "check the orientation, and that the label belongs to this image",
            )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12))
