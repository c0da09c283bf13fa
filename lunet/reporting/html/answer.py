"""The report's first part: the answer in a sentence, a figure and a table, its error and limits."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lunet.metrics.amounts import amount
from lunet.metrics.catalog import compared_title, direction
from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_object
from lunet.reporting.html.chart import Level, Point, chart
from lunet.reporting.html.checklists import sample_size
from lunet.reporting.html.facts import Facts
from lunet.reporting.html.page import Block, Shown, Text
from lunet.reporting.html.search import (
    Record,
    estimate,
    number,
    reference_point,
    search_part,
    short_name,
)
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import NONE, integer, significant
from lunet.reporting.origin import PRIOR
from lunet.reporting.power import Question, facts, pilot_components, pilot_rows, sentence
from lunet.reporting.tables.claims import NOTHING_ASKED
from lunet.reporting.tables.costs import STAR_NOTE, star
from lunet.reporting.unlearned import unlearned
from lunet.statistics.claims import ONE_TRAINING
from lunet.statistics.power import Design
from lunet.statistics.values import MEAN_LABEL

_DECIDED = ("better", "non-inferior")


def answer_part(
    tables: Mapping[str, Table], about: Facts, results: Path | None = None
) -> list[Block]:
    """The answer as a sentence, a figure and a table of five columns, with its error and limits.

    Parameters
    ----------
    tables
        The study's tables ``claims``, ``comparisons`` and ``joint``; a missing table is left out.
    about
        The facts of the study.
    results
        Folder of the study. If it holds ``smallest/verdict.json``, the verdict is the answer.
    """
    verdict = results / "smallest" / "verdict.json" if results else None
    quality = _records(tables, "joint")
    if verdict and verdict.is_file():
        found = read_object(verdict)
        reference = str(found["reference"])
        bounds = _bounds_from(reference, quality, about, drawn={PRIOR, reference})
        return [*search_part(found, bounds), Text(_limits(about))]
    rows = main_comparisons(tables)
    weak = _unlearned(quality, about)
    rival_rows = [row for row in rows if row["preset"] not in about.readers]
    if not rows:
        alone = about.counts["presets"] < 2
        reason = "One network alone: there is nothing to compare." if alone else NOTHING_ASKED
        first: list[Block] = [Text(reason)] if "claims" in tables else []
        shown = _scores(rows, quality, about)
        table = [Shown(_score_table(quality, about.statistics))] if quality else []
        return [*weak, *first, *shown, *table, Text(_limits(about))]
    main = main_comparison(rival_rows or rows, quality, about.statistics)
    has_one_reference = len({row["reference"] for row in rows}) == 1
    draw = _differences if has_one_reference and quality else _scores
    return [
        *weak,
        Text(str(main["sentence"]), "strong"),
        *draw(rows, quality, about),
        Shown(_table(rows, quality, about.statistics)),
        Text(_error(rows, about)),
        Text(_limits(about)),
    ]


def _unlearned(quality: Mapping[str, Record], about: Facts) -> list[Block]:
    """What has not learnt the task, before any comparison with it."""
    metric = about.statistics.metric
    key = f"{metric}_mean"
    given = [name for name, row in about.external.items() if not row.is_rival]
    means = {name: number(row, key) for name, row in quality.items() if key in row}
    return [Text(sentence, "strong") for sentence in unlearned(means, metric, given).values()]


def _records(tables: Mapping[str, Table], name: str) -> dict[str, Record]:
    """Preset -> record, for a table with one row per preset."""
    return {str(row["preset"]): row for row in tables[name].records} if name in tables else {}


def main_comparisons(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """Claims about the mean over structures, or all claims if no mean was compared.

    Each is a row of the table ``claims``, joined with its row of ``comparisons`` if that table
    exists; ``words`` is the verdict as it is printed.
    """
    if "claims" not in tables:
        return []
    keys = ("preset", "reference", "label")
    numbers = tables["comparisons"].records if "comparisons" in tables else ()
    known = {tuple(row[key] for key in keys): row for row in numbers}
    rows = [
        {**known.get(tuple(row[key] for key in keys), {}), **row, "words": printed[0].lines[0]}
        for row, printed in zip(tables["claims"].records, tables["claims"].rows, strict=True)
    ]
    means = [row for row in rows if row["label"] == MEAN_LABEL]
    return means or rows


def main_comparison(
    rows: Sequence[dict[str, Any]], costs: Mapping[str, Record], statistics: StatisticsSettings
) -> dict[str, Any]:
    """The comparison that answers "how small": the cheapest network that is better or non-inferior.

    If there is no such network, it is the comparison with the best difference. All comparisons are
    adjusted together, so choosing among them does not raise the error.
    """
    key = _cost_key(statistics)
    decided = [row for row in rows if row["verdict"] in _DECIDED]
    if decided:
        return min(decided, key=lambda row: number(costs.get(row["preset"], {}), key, math.inf))
    sign = direction(statistics.metric)
    return max(rows, key=lambda row: sign * number(row, "difference", -sign * math.inf))


def _cost_key(statistics: StatisticsSettings) -> str:
    return {"parameters": "parameters", "macs": "gmacs"}[statistics.cost]


def _cost_title(statistics: StatisticsSettings) -> str:
    return {"parameters": "Parameters", "macs": "GMAC per image"}[statistics.cost]


def _cost_text(value: float, statistics: StatisticsSettings) -> str:
    return integer(value) if statistics.cost == "parameters" else significant(value)


def _differences(
    rows: Sequence[dict[str, Any]], quality: Mapping[str, Record], about: Facts
) -> list[Block]:
    """Differences from the one reference against cost, with the margin and the bounds."""
    statistics = about.statistics
    sign, reference, key = direction(statistics.metric), rows[0]["reference"], _cost_key(statistics)
    points = [
        Point(
            short_name(row["preset"]),
            number(quality.get(row["preset"], {}), key),
            number(row, "difference"),
            number(row, "ci_low"),
            number(row, "ci_high"),
            row["words"],
            _tooltip(row, quality, statistics),
            filled=row["verdict"] != "not resolved",
        )
        for row in rows
    ]
    own = number(quality.get(reference, {}), key)
    points.append(
        reference_point(
            reference, own, f"{_cost_text(own, statistics)} {_cost_title(statistics).lower()}"
        )
    )
    levels = [Level(0.0, "", "zero")]
    if statistics.margin:
        words = f"margin {amount(statistics.margin, statistics.metric)}"
        levels.append(Level(-sign * statistics.margin, words, "margin"))
    levels += _bounds_from(reference, quality, about, drawn={row["preset"] for row in rows})
    made = chart(
        points,
        levels,
        caption=f"Difference from {reference} against cost, with {_level(statistics)} intervals. "
        "Filled: decided; hollow: not resolved. The table has the numbers.",
        above=f"Difference in {compared_title(statistics.metric)} (up: better)",
        below=_cost_title(statistics),
        sign=sign,
    )
    return [made] if made else []


def _bounds_from(
    reference: str, quality: Mapping[str, Record], about: Facts, drawn: Collection[str]
) -> list[Level]:
    """The bounds as differences from the reference; none if its score is not known."""
    own = number(quality.get(reference, {}), f"{about.statistics.metric}_mean")
    return _bounds(quality, about, drawn, own)


def _bounds(
    quality: Mapping[str, Record], about: Facts, drawn: Collection[str] = (), shift: float = 0.0
) -> list[Level]:
    """The lines of the atlas prior and of second readers, unless they are points already."""
    texts = {PRIOR: "floor: atlas prior"}
    texts |= {name: f"inter-rater: {name}" for name in about.readers}
    values = {
        name: number(quality.get(name, {}), f"{about.statistics.metric}_mean") - shift
        for name in texts
        if name not in drawn
    }
    return [
        Level(value, texts[name], "floor") for name, value in values.items() if math.isfinite(value)
    ]


def _level(statistics: StatisticsSettings) -> str:
    return f"{100 * statistics.confidence:g} %"


def _tooltip(row: Record, quality: Mapping[str, Record], statistics: StatisticsSettings) -> str:
    cost = number(quality.get(row["preset"], {}), _cost_key(statistics))
    return (
        f"{row['preset']}: {_cost_text(cost, statistics)} {_cost_title(statistics).lower()}, "
        f"difference {' '.join(estimate(row, 'difference').lines)}, {row['words']}"
    )


def _table(
    rows: Sequence[dict[str, Any]], quality: Mapping[str, Record], statistics: StatisticsSettings
) -> Table:
    """Network, score, difference, cost and verdict, with the most expensive network first."""
    costs = {name: number(row, _cost_key(statistics)) for name, row in quality.items()}
    references = list(dict.fromkeys(row["reference"] for row in rows))
    one = references[0] if len(references) == 1 else None
    lines: dict[tuple[str, str], tuple[Cell, ...]] = {}
    if one:
        own = (
            _score(quality.get(one, {}), statistics),
            cell(NONE),
            _share(costs, one, one, statistics),
        )
        lines[one, one] = (cell(one), *own, cell("the reference"))
    for row in rows:
        preset, other = row["preset"], row["reference"]
        lines[preset, other] = (
            cell(preset),
            _score(quality.get(preset, {}), statistics) if one else cell(other),
            estimate(row, "difference"),
            _share(costs, preset, other, statistics),
            cell(row["words"]),
        )
    ordered = sorted(lines, key=lambda names: -costs.get(names[0], 0.0))
    second = Column(compared_title(statistics.metric)) if one else Column("Against", text=True)
    return Table(
        "answer",
        f"The networks in the order of their cost, with {_level(statistics)} intervals.",
        (
            Column("Network", text=True),
            second,
            Column(f"Difference from {one}" if one else "Difference"),
            Column(f"{_cost_title(statistics)} (share)"),
            Column("Verdict", text=True),
        ),
        tuple(lines[names] for names in ordered),
        (),
    )


def _score(record: Record, statistics: StatisticsSettings) -> Cell:
    name = statistics.metric
    return estimate(record, f"{name}_mean", f"{name}_ci_low", f"{name}_ci_high")


def _share(
    costs: Mapping[str, float], preset: str, reference: str, statistics: StatisticsSettings
) -> Cell:
    """A cost, and its ratio to the cost of the reference."""
    own, other = costs.get(preset, math.nan), costs.get(reference, math.nan)
    text = _cost_text(own, statistics)
    if preset == reference or not (math.isfinite(own) and other > 0):
        return cell(text)
    return cell(text, f"{significant(own / other, 2)}×")


def _scores(
    rows: Sequence[dict[str, Any]], quality: Mapping[str, Record], about: Facts
) -> list[Block]:
    """The scores against cost, and the bounds, for a study without a single reference."""
    del rows  # a verdict belongs to a pair of networks, a point to one network
    statistics = about.statistics
    key, name = _cost_key(statistics), statistics.metric
    nets = {name: row for name, row in quality.items() if name not in (*about.readers, PRIOR)}
    points = [
        Point(
            short_name(preset),
            number(row, key),
            number(row, f"{name}_mean"),
            number(row, f"{name}_ci_low"),
            number(row, f"{name}_ci_high"),
            "not compared",
            f"{preset}: {_cost_text(number(row, key), statistics)} "
            f"{_cost_title(statistics).lower()}, {' '.join(_score(row, statistics).lines)}",
        )
        for preset, row in nets.items()
    ]
    made = chart(
        points,
        _bounds(quality, about),
        caption=f"{compared_title(name)} against cost, with {_level(statistics)} intervals.",
        above=f"{compared_title(name)} (up: better)",
        below=_cost_title(statistics),
        sign=direction(name),
    )
    return [made] if made else []


def _score_table(quality: Mapping[str, Record], statistics: StatisticsSettings) -> Table:
    heads = ("Parameters", "GMAC", "Latency p50 (ms)")
    stars = [star(row, "latency_p50_ms") for row in quality.values()]
    return Table(
        "answer",
        f"The networks, with {_level(statistics)} intervals.",
        (
            Column("Network", text=True),
            Column(compared_title(statistics.metric)),
            *map(Column, heads),
        ),
        tuple(
            (
                cell(preset),
                _score(row, statistics),
                cell(integer(number(row, "parameters"))),
                cell(significant(number(row, "gmacs"))),
                cell(significant(number(row, "latency_p50_ms")) + star(row, "latency_p50_ms")),
            )
            for preset, row in quality.items()
        ),
        (),
        note=STAR_NOTE if any(stars) else "",
    )


def _error(rows: Sequence[Record], about: Facts) -> str:
    """The error level of the tests, and the number of comparisons per verdict."""
    settings = about.statistics
    level = round(100 * (1 - settings.confidence), 8)
    tally = [row["words"] for row in rows]
    counted = ", ".join(f"{tally.count(word)} {word}" for word in dict.fromkeys(tally))
    margin = ""
    if settings.margin:
        margin = f", non-inferiority by {amount(settings.margin, settings.metric)} one-sided at "
        margin += f"{level / 2:g} %"
    several = f"Of {len(rows)} comparisons: {counted}." if len(rows) > 1 else ""
    return (
        f"{several} Error: differences are tested at {level:g} %{margin}, over all comparisons "
        f"together (Holm); margin and comparisons: {about.registered.when}."
    ).strip()


def _limits(about: Facts) -> str:
    """What limits the answer: the sample, the folds, the seeds and synthetic data."""
    made, used = len(about.splits), len(about.folds)
    folds = f"{used} of {made} folds were used. " if made > used else ""
    seeds = about.counts["seeds"]
    trained = (
        ONE_TRAINING if seeds < 2 else f"Each network was trained with {seeds} seeds per fold."
    )
    synthetic = (
        " The data are synthetic, so the answer does not apply to patients."
        if about.is_synthetic
        else ""
    )
    return f"Limits: {sample_size(about)} {folds}{trained}{synthetic}"


def power_part(
    pilot: str | None, statistics: StatisticsSettings, counts: Mapping[str, Any]
) -> list[Block]:
    """The difference that the study's design could resolve, judged by a pilot; empty without one.

    Parameters
    ----------
    pilot
        Path of the results of finished runs.
    statistics
        Metric, margin and level of the claims.
    counts
        Numbers of ``groups`` (subjects), ``folds`` and ``seeds`` of the study.
    """
    if pilot is None or not statistics.margin:
        return []
    level = (1 - statistics.confidence) / 2
    question = Question(statistics.metric, statistics.margin, level)
    design = Design(max(2, counts["groups"]), counts["folds"], counts["seeds"])
    components = pilot_components(pilot_rows(pilot), question.metric)
    text = sentence(facts(components, design, question))
    return [Text(f"By the pilot {pilot}: {text}")]
