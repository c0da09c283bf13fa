"""The report's first part: the answer of a search, and what the design could resolve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lunet.metrics.settings import StatisticsSettings
from lunet.reading import read_object
from lunet.reporting.html.page import Block, Text, picture
from lunet.reporting.power import Question, facts, pilot_components, pilot_rows, sentence
from lunet.statistics.power import Design

_CAPTION = (
    "Difference from the reference against cost, with repeated confidence intervals; dashed: the "
    "margin; filled: decided, hollow: not decided, faint: not trained."
)


def answer_part(results: Path) -> list[Block]:
    """Sentence and figure of ``smallest/`` in a results folder; nothing without a search."""
    verdict = results / "smallest" / "verdict.json"
    if not verdict.is_file():
        return []
    figure = results / "smallest" / "smallest.svg"
    said: list[Block] = [Text(str(read_object(verdict)["sentence"]), "strong")]
    return [*said, picture(figure, _CAPTION)] if figure.is_file() else said


def power_part(
    pilot: str | None, statistics: StatisticsSettings, counts: Mapping[str, Any]
) -> list[Block]:
    """What the study's design could resolve by its pilot; nothing without one.

    Parameters
    ----------
    pilot
        Results of finished runs.
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
