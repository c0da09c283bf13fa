"""The tables of a study, written as CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.errors import ConfigError
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.arithmetic import require_one_arithmetic
from lunet.reporting.markup import Table, write
from lunet.reporting.outputs import table_row
from lunet.reporting.published import published, read_published
from lunet.reporting.registered import read_registration
from lunet.reporting.replication import replication
from lunet.reporting.result_files import (
    ResultFiles,
    read_cases,
    read_efficiency,
    read_lesions,
    read_runs,
)
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables import claims as tables_claims
from lunet.reporting.tables import costs as tables_costs
from lunet.reporting.tables import detection as tables_detection
from lunet.reporting.tables import forecast as tables_forecast
from lunet.reporting.tables import lesions as tables_lesions
from lunet.reporting.tables import memory as tables_memory
from lunet.reporting.tables import protocol as tables_protocol
from lunet.reporting.tables import scores as tables_scores
from lunet.reporting.units import stated_report, stated_statistics
from lunet.statistics.registration import Registration


@dataclass(frozen=True)
class Material:
    """What tables are made from: per-case rows, costs by preset, provenance of runs, settings."""

    cases: pd.DataFrame
    costs: Mapping[str, Mapping[str, Any]]
    runs: list[dict[str, Any]]
    statistics: StatisticsSettings
    report: ReportSettings
    settings: Mapping[str, Any]
    sources: ResultFiles

    def registered(self) -> Registration:
        """What the study stated beforehand, compared with what is reported now."""
        return read_registration(self.sources, self.cases, self.statistics)

    def floor(self) -> pd.DataFrame | None:
        """The per-case rows of an atlas prior that is not reported; None if there are none."""
        files = self.sources.floor
        return read_cases(ResultFiles(metrics=files)) if files else None


TABLES: dict[str, Callable[[Material], Table]] = {
    "summary": lambda m: tables_scores.summary(m.cases, m.costs, m.statistics, m.report, m.floor()),
    "accuracy": lambda m: tables_scores.accuracy(m.cases, m.statistics, m.report),
    "efficiency": lambda m: tables_costs.efficiency(m.costs),
    "joint": lambda m: tables_costs.joint(m.cases, m.costs, m.statistics),
    "comparisons": lambda m: tables_claims.comparisons(
        m.cases, m.statistics, m.registered(), m.costs
    ),
    "claims": lambda m: tables_claims.claims(m.cases, m.statistics, m.registered(), m.costs),
    "limits": lambda m: tables_detection.limits(
        m.cases, m.statistics, tables_claims.compared(m.cases, m.statistics, m.costs)
    ),
    "detection": lambda m: tables_detection.detection(m.cases, m.statistics, m.report),
    "failures": lambda m: tables_scores.failures(m.cases, m.statistics, m.report),
    "lesions": lambda m: tables_lesions.lesions(
        read_lesions(m.sources.lesions), read_lesions(m.sources.froc), m.statistics
    ),
    "published": lambda m: published(
        read_published(m.report.published), m.cases, m.costs, m.statistics
    ),
    "replication": lambda m: replication(read_published(m.report.published), m.cases, m.statistics),
    "batches": lambda m: tables_memory.batches(m.costs, m.report, m.statistics.named_pairs),
    "forecast": lambda m: tables_forecast.forecast(m.costs, m.runs, m.sources.manifest),
    "protocol": lambda m: tables_protocol.protocol(m.runs, m.settings),
}
"""How each table is made; :mod:`lunet.reporting.outputs` has all other facts about it."""


def material(sources: ResultFiles, settings: Mapping[str, Any]) -> Material:
    """Read all files; runs of one preset with different settings, code or data are refused."""
    cases = read_cases(sources) if sources.metrics else pd.DataFrame()
    return Material(
        cases=cases,
        costs=read_efficiency(sources),
        runs=read_runs(sources),
        statistics=stated_statistics(settings, cases),
        report=stated_report(settings, cases),
        settings=settings,
        sources=sources,
    )


def make_table(name: str, sources: ResultFiles, settings: Mapping[str, Any]) -> Table:
    """One table of :data:`TABLES`.

    Parameters
    ----------
    name
        One of :data:`TABLES`.
    sources
        The files; kinds that the table does not need may be missing.
    settings
        Sections ``statistics`` and ``report``; the table ``protocol`` shows all given sections.
    """
    required = table_row(name).needs
    if "metrics" in required and not sources.metrics:
        raise ConfigError(
            where=f"table {name}",
            found="no metrics.csv among the inputs",
            expected="the table needs them",
        )
    if required == ("efficiency",) and not sources.efficiency:
        raise ConfigError(
            where=f"table {name}",
            found="no efficiency.json among the inputs",
            expected="the table needs one",
        )
    read = material(sources, settings)
    mixed = require_one_arithmetic(read.runs, allowed=read.report.mixed_arithmetic)
    table = TABLES[name](read)
    return replace(table, note=f"{table.note} {mixed}".strip()) if mixed else table


def write_table(
    name: str, sources: ResultFiles, settings: Mapping[str, Any], base: str | Path
) -> list[Path]:
    """Make one table and write ``BASE.csv``, ``.md``, ``.tex`` and ``.json``."""
    return write(make_table(name, sources, settings), base)
