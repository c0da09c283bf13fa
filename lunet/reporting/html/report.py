"""The report of a study: one HTML file that opens anywhere, made of its tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.data.prepared import AboutForm
from lunet.files import write_text
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_record
from lunet.reporting.html.answer import answer_part, power_part
from lunet.reporting.html.methods import Facts, checklist, methods
from lunet.reporting.html.page import (
    Block,
    Claim,
    Claims,
    Folded,
    Section,
    Shown,
    Text,
    html_page,
    picture,
)
from lunet.reporting.markup import Cell, Column, Table, cell, read_table
from lunet.reporting.outputs import FIGURES, TABLES, of_targets, shown_in
from lunet.reporting.result_files import (
    PRIOR,
    ResultFiles,
    read_cases,
    read_efficiency,
    read_registration,
    read_runs,
)
from lunet.reporting.settings import ReportSettings
from lunet.reporting.tables.claims import NOTHING_ASKED
from lunet.settings import build_settings
from lunet.statistics.values import MEAN_LABEL

_MOST_CLAIMS = 12


def write_report(
    sources: ResultFiles,
    settings: Mapping[str, Any],
    out: str | Path,
    *,
    tables: Path,
    figures: Path,
    examples: Mapping[str, Path] | None = None,
    manifest: Path | None = None,
    others: Mapping[str, Path] | None = None,
    pruning: bool = False,
) -> None:
    """Write the report.

    Parameters
    ----------
    sources
        Per-case files, provenance and costs of the reported runs.
    settings
        Sections ``statistics`` and ``report``.
    tables, figures
        Folders of what ``lunet table`` and ``lunet figure`` wrote; what is there is shown.
    examples
        Preset -> picture of its best, median and worst case.
    manifest
        Manifest of the prepared data: its digest, source and preprocessing are told.
    others
        Other data set -> folder with the ``tables`` and ``figures`` of the tests on it.
    pruning
        Whether the pruning's tables and figures, beside the others, are shown.
    """
    report = build_settings(ReportSettings, settings.get("report", {}), "report")
    facts = _facts(sources, settings, manifest, report.metrics)
    shown = _read_tables(tables)
    answer = answer_part(tables.parent)
    answer += power_part(settings.get("pilot"), facts.statistics, facts.counts)
    sections = [
        Section("answer", "Answer", answer),
        Section("summary", "Summary", _summary(shown, facts)),
        Section("tables", "Tables", _tables(shown, shown_in(TABLES, "tables"))),
        Section("figures", "Figures", _figures(figures, shown_in(FIGURES, "figures"))),
        Section("pruning", "Pruning", pruning_part(shown, figures) if pruning else []),
        Section("others", "Other data sets", others_part(others or {})),
        Section("examples", "Examples", _examples(examples or {})),
        Section("methods", "Methods", [Text(methods(facts)), *_more(shown, "protocol")]),
        Section("checklist", "Checklist", _checklist(facts, report)),
        Section("provenance", "Provenance", _provenance(facts)),
    ]
    title = report.title or _title(facts)
    write_text(out, html_page(title, _lead(facts), [row for row in sections if row.body]))


def _facts(
    sources: ResultFiles,
    settings: Mapping[str, Any],
    manifest: Path | None,
    metrics: Sequence[str],
) -> Facts:
    cases = read_cases(sources)
    statistics = build_settings(StatisticsSettings, settings.get("statistics", {}), "statistics")
    return Facts(
        runs=read_runs(sources),
        manifest=read_record(manifest, AboutForm) if manifest else {},
        costs=read_efficiency(sources),
        counts=_counts(cases),
        statistics=statistics,
        registered=read_registration(sources, cases, statistics),
        metrics=metrics,
    )


def _counts(cases: pd.DataFrame) -> dict[str, int]:
    trained = cases[cases["preset"] != PRIOR]
    return {
        "presets": trained["preset"].nunique(),
        "cases": cases["case"].nunique(),
        "groups": cases["group"].nunique(),
        "folds": cases["fold"].nunique(),
        "seeds": trained["seed"].nunique(),
        **{name: int((cases["status"] == name).sum()) for name in _STATUSES},
    }


_STATUSES = ("missed", "spurious", "both_empty")


def _title(facts: Facts) -> str:
    name = (facts.manifest.get("dataset") or {}).get("name")
    return f"Compact segmentation networks on {name}" if name else "Compact segmentation networks"


def _lead(facts: Facts) -> str:
    counts = facts.counts
    words = {"presets": "networks", "cases": "cases", "folds": "folds", "seeds": "seeds"}
    return ", ".join(
        f"{counts[key]} {word if counts[key] != 1 else word[:-1]}" for key, word in words.items()
    )


def _read_tables(folder: Path) -> dict[str, Table]:
    """The tables that lie in a folder, by name; other JSON files are not read."""
    return {
        name: read_table(folder / f"{name}.json")
        for name in TABLES
        if (folder / f"{name}.json").is_file()
    }


def _summary(tables: Mapping[str, Table], facts: Facts) -> list[Block]:
    """Claim sentences about the mean over structures; all others in the table of claims."""
    if "claims" not in tables:
        return []
    rows = pd.DataFrame(tables["claims"].records)
    if rows.empty:
        alone = facts.counts["presets"] < 2
        nothing = "One network alone: there is nothing to compare." if alone else NOTHING_ASKED
        return [Text(nothing)]
    main = rows[rows["label"] == MEAN_LABEL]
    main = rows if main.empty else main
    counted = main["verdict"].value_counts()
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    items = [Claim(row["verdict"], row["sentence"]) for row in main.to_dict("records")]
    first, rest = items[:_MOST_CLAIMS], items[_MOST_CLAIMS:]
    more = [Folded(f"{len(rest)} further claims", [Claims(rest)])] if rest else []
    text = Text(f"Of {len(main)} comparisons: {tally}.")
    return [text, Claims(first), *more, *_more(tables, "claims")]


def _tables(tables: Mapping[str, Table], names: Iterable[str]) -> list[Block]:
    return [Shown(tables[name]) for name in names if name in tables]


def _more(tables: Mapping[str, Table], name: str) -> list[Block]:
    return [Folded(f"Table of {name}", [Shown(tables[name])])] if name in tables else []


def _figures(folder: Path, names: Iterable[str]) -> list[Block]:
    paths = {folder / f"{name}.svg": FIGURES[name].caption for name in names}
    return [picture(path, caption) for path, caption in paths.items() if path.is_file()]


def _examples(examples: Mapping[str, Path]) -> list[Block]:
    """Pictures as PNG: a slice is pixels anyway."""
    caption = FIGURES["examples"].caption
    return [
        Folded(preset, [picture(path, f"{preset}. {caption}", narrow=True)])
        for preset, path in examples.items()
    ]


def _checklist(facts: Facts, report: ReportSettings) -> list[Block]:
    rows = tuple(tuple(map(cell, row)) for row in checklist(facts, report.metrics))
    return [Shown(_words("checklist", ("Topic", "Question", "This study"), rows))]


def _words(name: str, heads: Sequence[str], rows: tuple[tuple[Cell, ...], ...]) -> Table:
    return Table(name, "", tuple(Column(head, text=True) for head in heads), rows, ())


def _provenance(facts: Facts) -> list[Block]:
    merged: dict[str, list[str]] = {}
    for key, value in _origins(facts):
        known = merged.setdefault(key, [])
        known += [] if value in known else [value]
    rows = tuple((cell(key), cell("; ".join(values))) for key, values in merged.items())
    return [Shown(_words("provenance", ("What", "Value"), rows))] if rows else []


def _origins(facts: Facts) -> Iterator[tuple[str, str]]:
    source = (facts.manifest.get("dataset") or {}).get("source") or {}
    for key in ("name", "kind", "version", "licence", "citation"):
        if source.get(key):
            yield f"data: {key}", str(source[key])
    if facts.manifest.get("digest"):
        yield "data: digest of the prepared volumes", str(facts.manifest["digest"])
    for run in facts.runs:
        if run.get("data"):
            yield "data: digest the runs were made from", str(run["data"])
        yield from _machine(run)
    seconds = sum(float(run.get("device_seconds") or 0) for run in facts.runs)
    if seconds:
        yield "training: device time of all runs", f"{seconds / 3600:.2f} h"


def _machine(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    stamp = run.get("provenance") or {}
    git = stamp.get("git") or {}
    if git.get("commit"):
        changed = " (with uncommitted changes)" if git.get("changed") else ""
        yield "code: git commit", f"{git['commit']}{changed}"
    for name, version in (stamp.get("packages") or {}).items():
        yield f"version: {name}", str(version)
    for key in ("python", "system", "cpu"):
        if stamp.get(key):
            yield f"machine: {key}", str(stamp[key])
    engine = run.get("engine") or {}
    if engine.get("device"):
        yield "machine: device of the trainings", str(engine["device"])


def example_pictures(results: Path | None, presets: Sequence[str]) -> dict[str, Path]:
    """Preset -> ``presets/PRESET/examples.png`` of a results folder, where it exists."""
    paths = (
        {name: results / "presets" / name / "examples.png" for name in presets} if results else {}
    )
    return {name: path for name, path in paths.items() if path.is_file()}


def pruning_part(tables: Mapping[str, Table], figures: Path) -> list[Block]:
    """Tables and figures of the pruning; empty where there are none."""
    shown = _tables(tables, shown_in(TABLES, "pruning"))
    return [*shown, *_figures(figures, shown_in(FIGURES, "pruning"))]


def others_part(others: Mapping[str, Path]) -> list[Block]:
    """Tests on other data sets (name -> folder of ``tables`` and ``figures``)."""
    return [block for name, folder in others.items() for block in _other(name, folder)]


def _other(name: str, folder: Path) -> list[Block]:
    tables = _read_tables(folder / "tables")
    first = ("claims", "accuracy")
    rest = [key for key in of_targets(TABLES) if key not in first]
    return [
        Text(name, "heading"),
        *_tables(tables, first),
        *_figures(folder / "figures", of_targets(FIGURES)),
        *(block for key in rest for block in _more(tables, key)),
    ]
