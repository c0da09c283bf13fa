"""The figures of a study, written as SVG, PDF and PNG, with their data as CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.data.prepared import read_manifest
from lunet.errors import ConfigError
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.figures.cases import bland_altman, boxplot
from lunet.reporting.figures.claims import largest_batches, pairs, skips
from lunet.reporting.figures.curves import curves
from lunet.reporting.figures.examples import examples, side_by_side
from lunet.reporting.figures.froc import froc
from lunet.reporting.figures.paired import differences, ranks
from lunet.reporting.figures.pareto import pareto
from lunet.reporting.figures.published import scatter
from lunet.reporting.figures.style import VERMILLION, Drawing, save, style
from lunet.reporting.outputs import figure_row
from lunet.reporting.published import read_published
from lunet.reporting.registered import read_registration
from lunet.reporting.result_files import (
    ResultFiles,
    prediction_folders,
    read_cases,
    read_efficiency,
    read_histories,
    read_lesions,
    read_runs,
)
from lunet.reporting.settings import ReportSettings
from lunet.reporting.units import stated_report, stated_statistics


@dataclass(frozen=True)
class Material:
    """The files of a study and the settings of its figures; files are read when needed."""

    sources: ResultFiles
    statistics: StatisticsSettings
    report: ReportSettings
    manifest: Path | None = None

    def cases(self) -> pd.DataFrame:
        """Per-case rows."""
        return read_cases(self.sources)

    def costs(self) -> dict[str, dict[str, Any]]:
        """Costs by preset."""
        return read_efficiency(self.sources)

    def runs(self) -> list[dict[str, Any]]:
        """Provenance of the runs."""
        return read_runs(self.sources)


def _pareto(material: Material, axis: str) -> Drawing:
    return pareto(material.cases(), material.costs(), material.statistics, axis=axis)


def _pictures(material: Material, *, together: bool) -> Drawing:
    if material.manifest is None:
        raise ConfigError(
            where="--manifest",
            found="not given",
            expected="pictures need the prepared data's manifest",
        )
    manifest, folders = read_manifest(material.manifest), prediction_folders(material.sources)
    if together:
        return side_by_side(material.cases(), folders, manifest, material.statistics)
    return examples(
        material.cases(), folders, manifest, material.statistics, count=material.report.examples
    )


def _published(material: Material, score: str, cost: str) -> Drawing:
    publication = read_published(material.report.published)
    cases, costs = material.cases(), material.costs()
    return scatter(publication, cases, costs, material.statistics, score=score, cost=cost)


FIGURES: dict[str, Callable[[Material], Drawing]] = {
    "pareto_parameters": partial(_pareto, axis="parameters"),
    "pareto_macs": partial(_pareto, axis="macs"),
    "pareto_latency": partial(_pareto, axis="latency"),
    "pareto_memory": partial(_pareto, axis="memory"),
    "boxplot": lambda m: boxplot(m.cases(), m.statistics),
    "differences": lambda m: differences(m.cases(), m.statistics, m.costs()),
    "ranks": lambda m: ranks(m.cases(), m.statistics),
    "pairs": lambda m: pairs(m.cases(), m.costs(), m.statistics),
    "skips": lambda m: skips(m.cases(), m.runs(), m.statistics),
    "batches": lambda m: largest_batches(m.costs(), m.report),
    "bland_altman": lambda m: bland_altman(m.cases()),
    "published_dice": partial(_published, score="dice", cost="throughput_per_s"),
    "published_hd95": partial(_published, score="hd95", cost="jitter_ms"),
    "curves": lambda m: curves(read_histories(m.sources)),
    "froc": lambda m: froc(read_lesions(m.sources.froc)),
    "examples": partial(_pictures, together=False),
    "side_by_side": partial(_pictures, together=True),
}
"""How each figure is made; :mod:`lunet.reporting.outputs` has all other facts about it."""
COMPARISONS = ("differences", "pairs", "skips", "ranks")
"""Figures that compare as the study states; they also say when the statement was changed later."""


def write_figure(
    name: str,
    sources: ResultFiles,
    settings: Mapping[str, Any],
    base: str | Path,
    *,
    manifest: Path | None = None,
) -> list[Path]:
    """Draw one figure of :data:`FIGURES`; writes ``BASE.svg``, ``.pdf``, ``.png`` and ``.csv``.

    Parameters
    ----------
    settings
        Sections ``statistics`` and ``report``.
    manifest
        Manifest of the prepared data, which names the raw images; only needed for pictures.
    """
    figure_row(name)
    cases = read_cases(sources) if sources.metrics else pd.DataFrame()
    material = Material(
        sources=sources,
        statistics=stated_statistics(settings, cases),
        report=stated_report(settings, cases),
        manifest=manifest,
    )
    with style():
        drawing = FIGURES[name](material)
        if name in COMPARISONS:
            changed = read_registration(sources, cases, material.statistics).sentence
            if changed:
                drawing.figure.suptitle(changed, fontsize=6, color=VERMILLION, wrap=True)
        return save(drawing, base)
