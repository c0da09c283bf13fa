"""The report of a study: one HTML file that opens anywhere, made of its tables and figures."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.data.prepared import AboutForm
from lunet.files import write_text
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_record
from lunet.reporting import markup
from lunet.reporting.html.methods import Facts, checklist, methods
from lunet.reporting.html.page import folded, html_page, picture
from lunet.reporting.markup import Cell, Column, Table, cell, read_table
from lunet.reporting.read_frame import read_texts
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

_TABLES = (
    "joint",
    "accuracy",
    "lesions",
    "efficiency",
    "batches",
    "forecast",
    "published",
    "comparisons",
    "limits",
    "detection",
    "failures",
)
_CAPTIONS = {
    "pareto_parameters": "Quality against the number of parameters, with the Pareto front.",
    "pareto_macs": "Quality against multiply-adds, with the Pareto front.",
    "pareto_latency": "Quality against latency, with the Pareto front.",
    "pareto_memory": "Quality against peak memory, with the Pareto front.",
    "boxplot": "Distribution over cases: median, quartiles, whiskers to 1.5 box lengths; a point "
    "is a case.",
    "differences": "Paired differences with confidence intervals and the non-inferiority margin.",
    "pairs": "Pairs that the study names: score against score, paired differences, verdicts.",
    "skips": "Quality against the width of the bottleneck, with skips and without.",
    "batches": "Largest training batch under each memory budget.",
    "ranks": "Stability of the ranking when subjects are drawn again.",
    "bland_altman": "Agreement of volumes: difference against mean, with mean and 1.96 standard "
    "deviations.",
    "curves": "Training curves: losses and validation Dice, mean and range over the runs.",
    "froc": "Free-response ROC: lesions found against false positives per patient, pooled over "
    "folds and seeds; faint lines are single seeds.",
    "published_dice": "Dice against throughput: published numbers (hollow) and this study's.",
    "published_hd95": "HD95 against jitter: published numbers (hollow) and this study's.",
    "side_by_side": "The same case and slice for every preset.",
}
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
    facts = _facts(sources, settings, manifest)
    shown = {path.stem: read_table(path) for path in sorted(tables.glob("*.md"))}
    sections = [
        ("summary", "Summary", _summary(tables / "claims.csv", shown, facts)),
        ("tables", "Tables", _tables(shown)),
        ("figures", "Figures", _figures(figures)),
        ("pruning", "Pruning", pruning_part(shown, figures) if pruning else ""),
        ("others", "Other data sets", others_part(others or {})),
        ("examples", "Examples", _examples(examples or {})),
        (
            "methods",
            "Methods",
            f"<p>{html.escape(methods(facts))}</p>\n" + _more(shown, "protocol"),
        ),
        ("checklist", "Checklist", _checklist(facts, report)),
        ("provenance", "Provenance", _provenance(facts)),
    ]
    title = report.title or _title(facts)
    kept = [section for section in sections if section[2]]
    write_text(out, html_page(title, _lead(facts), kept))


def _facts(sources: ResultFiles, settings: Mapping[str, Any], manifest: Path | None) -> Facts:
    cases = read_cases(sources)
    statistics = build_settings(StatisticsSettings, settings.get("statistics", {}), "statistics")
    return Facts(
        runs=read_runs(sources),
        manifest=read_record(manifest, AboutForm) if manifest else {},
        costs=read_efficiency(sources),
        counts=_counts(cases),
        statistics=statistics,
        registered=read_registration(sources, cases, statistics),
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


def _summary(claims: Path, tables: Mapping[str, Table], facts: Facts) -> str:
    """Claim sentences about the mean over structures; all others in the table of claims."""
    if not claims.is_file():
        return ""
    rows = read_texts(claims, what="a table of claims")
    if rows.empty:  # then the file has a header of another kind, too
        alone = facts.counts["presets"] < 2
        told = "One network alone: there is nothing to compare." if alone else NOTHING_ASKED
        return f"<p>{html.escape(told)}</p>\n"
    main = rows[rows["label"] == MEAN_LABEL]
    main = rows if main.empty else main
    counted = main["verdict"].value_counts()
    tally = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    items = [
        f'<li class="{row["verdict"].replace(" ", "-")}"><b>{html.escape(row["verdict"])}</b> '
        f"{html.escape(row['sentence'])}</li>\n"
        for row in main.to_dict("records")
    ]
    first, rest = items[:_MOST_CLAIMS], items[_MOST_CLAIMS:]
    more = folded(f"{len(rest)} further claims", f'<ul class="claims">{"".join(rest)}</ul>')
    return (
        f"<p>Of {len(main)} comparisons: {html.escape(tally)}.</p>\n"
        f'<ul class="claims">{"".join(first)}</ul>\n' + (more if rest else "")
    ) + _more(tables, "claims")


def _tables(tables: Mapping[str, Table]) -> str:
    return "".join(markup.html(tables[name]) for name in _TABLES if name in tables)


def _more(tables: Mapping[str, Table], name: str) -> str:
    return folded(f"Table of {name}", markup.html(tables[name])) if name in tables else ""


def _figures(folder: Path) -> str:
    return "".join(
        picture(folder / f"{name}.svg", caption)
        for name, caption in _CAPTIONS.items()
        if (folder / f"{name}.svg").is_file()
    )


def _examples(examples: Mapping[str, Path]) -> str:
    """Pictures as PNG: a slice is pixels anyway."""
    return "".join(
        folded(preset, picture(path, f"{preset}: best, median and worst case.", narrow=True))
        for preset, path in examples.items()
    )


def _checklist(facts: Facts, report: ReportSettings) -> str:
    rows = tuple(tuple(map(cell, row)) for row in checklist(facts, report.metrics))
    return markup.html(_words("checklist", ("Topic", "Question", "This study"), rows))


def _words(name: str, heads: Sequence[str], rows: tuple[tuple[Cell, ...], ...]) -> Table:
    return Table(name, "", tuple(Column(head, text=True) for head in heads), rows, ())


def _provenance(facts: Facts) -> str:
    merged: dict[str, list[str]] = {}
    for key, value in _origins(facts):
        known = merged.setdefault(key, [])
        known += [] if value in known else [value]
    rows = tuple((cell(key), cell("; ".join(values))) for key, values in merged.items())
    return markup.html(_words("provenance", ("What", "Value"), rows)) if rows else ""


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


_PRUNING = {
    "pruning_dice": "Left: validation Dice along each pruning; right: the chosen networks, the "
    "controls and the study's networks on test cases.",
    "pruning_hours": "Device hours of a run: the search by pruning beside networks without one.",
    "pruning_channels": "Channels of each layer along the iterations; dashed: the one chosen.",
}
_OTHER = {
    "boxplot": "Distribution over the cases of {name}.",
    "differences": "Paired differences on {name} with confidence intervals and the "
    "non-inferiority margin.",
}


def pruning_part(tables: Mapping[str, Table], figures: Path) -> str:
    """Tables and figures of the pruning, as HTML; empty where there are none."""
    told = "".join(
        markup.html(tables[name]) for name in ("pruning", "pruning_comparisons") if name in tables
    )
    return told + _pictures(figures, _PRUNING)


def others_part(others: Mapping[str, Path]) -> str:
    """Tests on other data sets (name -> folder of ``tables`` and ``figures``), as HTML."""
    return "".join(_other(name, folder) for name, folder in others.items())


def _other(name: str, folder: Path) -> str:
    tables = {path.stem: read_table(path) for path in sorted((folder / "tables").glob("*.md"))}
    shown = "".join(markup.html(tables[key]) for key in ("claims", "accuracy") if key in tables)
    rest = "".join(
        folded(f"Table of {key}", markup.html(tables[key]))
        for key in ("comparisons", "failures")
        if key in tables
    )
    captions = {key: text.format(name=name) for key, text in _OTHER.items()}
    return f"<h3>{html.escape(name)}</h3>\n{shown}{_pictures(folder / 'figures', captions)}{rest}"


def _pictures(folder: Path, captions: Mapping[str, str]) -> str:
    paths = {folder / f"{name}.svg": text for name, text in captions.items()}
    return "".join(picture(path, text) for path, text in paths.items() if path.is_file())
