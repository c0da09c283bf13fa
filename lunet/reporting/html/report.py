"""The report of a study: one self-contained HTML file with its tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lunet.files import write_text
from lunet.reporting.html.answer import answer_part, main_comparisons, power_part
from lunet.reporting.html.checklists import BLANK, checklists
from lunet.reporting.html.facts import Facts, read_facts
from lunet.reporting.html.methods import methods
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
from lunet.reporting.result_files import ResultFiles
from lunet.reporting.settings import ReportSettings
from lunet.settings import build_settings

_MOST_CLAIMS = 12


def write_report(
    sources: ResultFiles,
    settings: Mapping[str, Any],
    out: str | Path,
    *,
    tables: Path,
    figures: Path,
    results: Path | None = None,
    examples: Mapping[str, Path] | None = None,
    manifest: Path | None = None,
    others: Mapping[str, Path] | None = None,
    pruning: bool = False,
) -> None:
    """Write the report: first the answer, then its evidence, then the details.

    Parameters
    ----------
    sources
        Per-case files, provenance and costs of the reported runs.
    settings
        Sections ``statistics`` and ``report``.
    tables, figures
        Folders that ``lunet table`` and ``lunet figure`` wrote to; all that they hold is shown.
    results
        Folder of the study, for its splits, its audit and its search for the smallest network.
    examples
        Preset -> picture of its best, median and worst case.
    manifest
        Manifest of the prepared data, for its digest, source and preprocessing.
    others
        Other data set -> folder with the ``tables`` and ``figures`` of the tests on it.
    pruning
        Whether the tables and figures of the pruning are shown too.
    """
    report = build_settings(ReportSettings, settings.get("report", {}), "report")
    facts = read_facts(sources, settings, manifest=manifest, results=results)
    shown = _read_tables(tables)
    answer = answer_part(shown, facts, results)
    answer += power_part(settings.get("pilot"), facts.statistics, facts.counts)
    sections = [
        Section("answer", "Answer", answer),
        Section("examples", "Examples", _examples(examples or {}, figures)),
        Section("comparisons", "Comparisons", _comparisons(shown, figures)),
        Section("quality", "Quality and cost", section_part(shown, figures, "quality")),
        Section("pruning", "Pruning", section_part(shown, figures, "pruning") if pruning else []),
        Section("others", "Other data sets", others_part(others or {})),
        Section("methods", "Methods", [Text(methods(facts)), *_more(shown, "protocol")]),
        Section("checklists", "Checklists", _checklists(facts)),
        Section("technical", "Technical part", section_part(shown, figures, "technical")),
        Section("provenance", "Provenance", _provenance(facts)),
    ]
    title = report.title or _title(facts)
    write_text(out, html_page(title, _lead(facts), [row for row in sections if row.body]))


def _title(facts: Facts) -> str:
    name = (facts.manifest.get("dataset") or {}).get("name")
    return f"Compact segmentation networks on {name}" if name else "Compact segmentation networks"


def _lead(facts: Facts) -> str:
    counts = facts.counts
    words = {"presets": "networks", "cases": "cases", "folds": "folds", "seeds": "seeds"}
    parts = [
        f"{counts[key]} {word[: -1 if counts[key] == 1 else None]}" for key, word in words.items()
    ]
    others = [name for name in facts.external if name not in facts.readers]
    rivals = [name for name in others if facts.external[name].is_rival]
    models = [name for name in others if name not in rivals]
    parts += [f"trained with their own code: {', '.join(rivals)}"] * bool(rivals)
    parts += [f"predictions made elsewhere: {', '.join(models)}"] * bool(models)
    parts += [f"second reader: {', '.join(facts.readers)}"] * bool(facts.readers)
    return ", ".join(parts)


def _read_tables(folder: Path) -> dict[str, Table]:
    """The tables in a folder by name; other JSON files are ignored."""
    return {
        name: read_table(folder / f"{name}.json")
        for name in TABLES
        if (folder / f"{name}.json").is_file()
    }


def _comparisons(tables: Mapping[str, Table], figures: Path) -> list[Block]:
    """Sentences of the claims about the mean over structures; the table of claims has them all."""
    rows = main_comparisons(tables)
    items = [Claim(row["words"], row["sentence"]) for row in rows]
    first, rest = items[:_MOST_CLAIMS], items[_MOST_CLAIMS:]
    more = [Folded(f"{len(rest)} further claims", [Claims(rest)])] if rest else []
    shown = [Claims(first)] if first else []
    return [*shown, *more, *_more(tables, "claims"), *section_part(tables, figures, "comparisons")]


def section_part(tables: Mapping[str, Table], figures: Path, section: str) -> list[Block]:
    """The existing tables and figures of a section."""
    shown = _tables(tables, shown_in(TABLES, section))
    return [*shown, *_figures(figures, shown_in(FIGURES, section))]


def _tables(tables: Mapping[str, Table], names: Iterable[str]) -> list[Block]:
    return [Shown(tables[name]) for name in names if name in tables]


def _more(tables: Mapping[str, Table], name: str) -> list[Block]:
    return [Folded(f"Table of {name}", [Shown(tables[name])])] if name in tables else []


def _figures(folder: Path, names: Iterable[str]) -> list[Block]:
    paths = {folder / f"{name}.svg": FIGURES[name].caption for name in names}
    return [picture(path, caption) for path, caption in paths.items() if path.is_file()]


def _examples(examples: Mapping[str, Path], figures: Path) -> list[Block]:
    """All networks side by side, then each network, as PNG because slices are pixel images."""
    side_by_side = figures / "side_by_side.png"
    first: list[Block] = (
        [picture(side_by_side, FIGURES["side_by_side"].caption)] if side_by_side.is_file() else []
    )
    caption = FIGURES["examples"].caption
    return first + [
        Folded(preset, [picture(path, f"{preset}. {caption}")]) for preset, path in examples.items()
    ]


_OPEN = f"to be filled in by the authors: {BLANK}"


def _checklists(facts: Facts) -> list[Block]:
    """Each checklist, folded, below a line that counts the blanks left for the authors."""
    lists = checklists(facts)
    counted = "; ".join(
        f"{title}: {sum(not answer or BLANK in answer for *_, answer in rows)} of {len(rows)} items"
        for title, rows in lists.items()
    )
    summary = f"Filled in from the record. Left as blanks for the authors: {counted}."
    heads = ("Item", "Question", "This study")
    return [
        Text(summary),
        *(
            Folded(title, [Shown(_words(_anchor(title), heads, _filled(rows)))])
            for title, rows in lists.items()
        ),
    ]


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _filled(rows: Iterable[Sequence[str]]) -> tuple[tuple[Cell, ...], ...]:
    return tuple((cell(one), cell(two), cell(answer or _OPEN)) for one, two, answer in rows)


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
        yield "data: digest of the prepared data", str(facts.manifest["digest"])
    for name, row in facts.external.items():
        found = f"{row.tested - len(row.missing)} of {row.tested} test cases"
        yield f"predictions of {name}", "; ".join(filter(None, [row.source, row.layout, found]))
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
    """Preset -> ``presets/PRESET/examples.png`` of a results folder, if it exists."""
    paths = (
        {name: results / "presets" / name / "examples.png" for name in presets} if results else {}
    )
    return {name: path for name, path in paths.items() if path.is_file()}


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
