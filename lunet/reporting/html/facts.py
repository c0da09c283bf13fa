"""The facts that the report's texts are built from, read once from the files of a study."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd

from lunet.data.folds import Fold, read_splits
from lunet.data.io.images import is_picture
from lunet.data.prepared import AboutForm
from lunet.errors import DataError
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_record, read_text
from lunet.reporting.origin import External, of, trained
from lunet.reporting.power import pilot_components, pilot_design
from lunet.reporting.registered import read_registration
from lunet.reporting.result_files import (
    ResultFiles,
    read_cases,
    read_efficiency,
    read_external,
    read_runs,
)
from lunet.reporting.units import length_unit, stated_report, stated_statistics
from lunet.statistics.power import resolvable
from lunet.statistics.registration import Registration
from lunet.task import Length

STATUSES = ("missed", "spurious", "both_empty")
POWER = 0.8
"""Power at which the difference that a study can resolve is reported."""


class AuditForm(TypedDict):
    """The keys of an audit's ``summary.json`` that are read."""

    counts: NotRequired[dict[str, Any]]
    findings: NotRequired[dict[str, int]]


@dataclass(frozen=True)
class Facts:
    """The facts that a study's files record.

    Attributes
    ----------
    runs
        Records of the runs (``run.json``).
    manifest
        Manifest of the prepared data, or empty.
    costs
        Preset -> ``efficiency.json``.
    counts
        Numbers of cases, groups (subjects), presets, folds and seeds, and of each status.
    statistics
        How presets are compared.
    registered
        Which margin and comparisons were registered, and when.
    metrics
        Columns of the accuracy table.
    unit
        Unit of distances: ``px`` if the images have no physical size.
    folds
        Numbers of the reported folds.
    splits
        All folds of ``splits.json``; empty if the file is missing.
    held_out
        Number of cases that belong to no fold.
    audit
        ``audit/summary.json``, or empty.
    repairs
        Outcome (``repaired``, ``left``, ``left out``) -> rows of ``repairs.csv``.
    resolves
        Margin at which the study finds two equal presets non-inferior with :data:`POWER`,
        estimated from the spread of its own results; None if these are too few.
    external
        Rows whose predictions were made elsewhere.
    """

    runs: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    costs: Mapping[str, Mapping[str, Any]]
    counts: Mapping[str, int]
    statistics: StatisticsSettings
    registered: Registration = field(default_factory=Registration)
    metrics: Sequence[str] = ()
    unit: Length = "mm"
    folds: Sequence[int] = ()
    splits: Sequence[Fold] = ()
    held_out: int = 0
    audit: Mapping[str, Any] = field(default_factory=dict)
    repairs: Mapping[str, int] = field(default_factory=dict)
    resolves: float | None = None
    external: Mapping[str, External] = field(default_factory=dict)

    @property
    def readers(self) -> list[str]:
        """Names of the second readers."""
        return [name for name, row in self.external.items() if row.is_reader]

    @property
    def task(self) -> Mapping[str, Any]:
        """Channels, labels and regions of the prepared data, or else of the runs."""
        from_runs = [(run.get("settings") or {}).get("task") for run in self.runs]
        task: Mapping[str, Any] = self.manifest.get("task") or next(filter(None, from_runs), {})
        return task

    @property
    def structures(self) -> list[str]:
        """Names of the regions, or else of the labels."""
        return list(self.task.get("regions") or self.task.get("labels") or {})

    @property
    def are_pictures(self) -> bool:
        """Whether the images are pictures (PNG, TIFF ...), and not volumes or their slices."""
        cases = self.manifest.get("cases") or []
        named = [name for case in cases[:1] for name in (case.get("raw") or {}).get("images") or []]
        return any(map(is_picture, named))

    @property
    def groups(self) -> dict[str, str]:
        """Case -> subject, by the names in the manifest."""
        cases = self.manifest.get("cases") or []
        return {case["id"]: case["group"] for case in cases if "group" in case and "id" in case}

    @property
    def is_disjoint(self) -> bool | None:
        """Whether no subject is in both training and test; None if the subjects are not known."""
        groups = self.groups
        sides = [({*fold.train, *fold.validation}, set(fold.test)) for fold in self.splits]
        if not sides or any(case not in groups for pair in sides for side in pair for case in side):
            return None
        return not any(
            {groups[case] for case in one} & {groups[case] for case in other}
            for one, other in sides
        )

    @property
    def source(self) -> Mapping[str, Any]:
        """Where the data come from (``source.json``)."""
        source: Mapping[str, Any] = (self.manifest.get("dataset") or {}).get("source") or {}
        return source

    @property
    def is_synthetic(self) -> bool:
        """Whether the data were generated by a program."""
        return self.source.get("kind") == "phantom"

    @property
    def hours(self) -> float:
        """Device hours of all trainings."""
        return sum(float(run.get("device_seconds") or 0) for run in self.runs) / 3600


def read_facts(
    sources: ResultFiles,
    settings: Mapping[str, Any],
    *,
    manifest: Path | None = None,
    results: Path | None = None,
) -> Facts:
    """Read the facts of a study.

    Parameters
    ----------
    sources
        Per-case files, provenance and costs of the reported runs.
    settings
        The sections ``statistics`` and ``report``.
    manifest
        Manifest of the prepared data.
    results
        Folder of the study, with ``splits.json`` and ``audit/summary.json``; each may be missing.
    """
    cases = read_cases(sources)
    statistics = stated_statistics(settings, cases)
    about = read_record(manifest, AboutForm) if manifest else {}
    splits = None if results is None else results / "splits.json"
    made = read_splits(splits) if splits and splits.is_file() else None
    audit = None if results is None else results / "audit" / "summary.json"
    return Facts(
        runs=read_runs(sources),
        manifest=about,
        costs=read_efficiency(sources),
        counts=count(cases),
        statistics=statistics,
        registered=read_registration(sources, cases, statistics),
        metrics=stated_report(settings, cases).metrics,
        unit=length_unit(cases),
        folds=sorted(map(int, cases["fold"].unique())),
        splits=made.folds if made else (),
        held_out=len(made.held_out) if made else 0,
        audit=read_record(audit, AuditForm) if audit and audit.is_file() else {},
        repairs=_repairs(manifest, about) if manifest else {},
        resolves=_resolves(cases, statistics),
        external=read_external(sources),
    )


def count(cases: pd.DataFrame) -> dict[str, int]:
    """Count trained presets, cases, subjects, folds and seeds, and the rows of each status."""
    own = of(cases, trained(cases))
    return {
        "presets": own["preset"].nunique(),
        "cases": cases["case"].nunique(),
        "groups": cases["group"].nunique(),
        "folds": cases["fold"].nunique(),
        "seeds": own["seed"].nunique(),
        **{name: int((cases["status"] == name).sum()) for name in STATUSES},
    }


def _repairs(manifest: Path, about: Mapping[str, Any]) -> dict[str, int]:
    """Number of rows of ``repairs.csv`` by outcome; the file exists next to repaired raw data."""
    first: Mapping[str, Any] = next(iter(about.get("cases") or []), {})
    images = (first.get("raw") or {}).get("images") or []
    folders = [manifest.parent / name for name in images[:1]]
    for folder in [parent for path in folders for parent in list(path.parents)[:3]]:
        if (folder / "repairs.csv").is_file():
            text = read_text(folder / "repairs.csv", needed="the log of `lunet repair`")
            found = [str(row.get("outcome")) for row in csv.DictReader(io.StringIO(text))]
            return {outcome: found.count(outcome) for outcome in sorted(set(found))}
    return {}


def _resolves(cases: pd.DataFrame, statistics: StatisticsSettings) -> float | None:
    rows = of(cases, trained(cases))
    reference = statistics.reference if statistics.reference in set(rows["preset"]) else None
    level = (1 - statistics.confidence) / 2
    try:
        components = pilot_components(rows, statistics.metric, reference=reference)
        return resolvable(components, pilot_design(rows), level=level, power=POWER)
    except DataError:  # there is only one preset, or one subject per fold
        return None
