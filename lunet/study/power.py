"""What the design of a study can resolve, computed from its pilot, for the start and the report."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from lunet.statistics.power import Design
    from lunet.study.study import Study


def question_of(study: Study) -> dict[str, Any]:
    """Metric, margin and one-sided level of the study's claims."""
    statistics = study.config.statistics
    level = (1 - statistics.confidence) / 2
    return {"metric": statistics.metric, "margin": statistics.margin, "level": level}


def study_design(study: Study, rows: pd.DataFrame) -> Design:
    """Design of the study; subjects are counted in ``splits.json`` if it exists."""
    from lunet.reporting.power import design_of

    return design_of(rows, study.folds, len(study.config.seeds), f"{study.results}/splits.json")


def power_sentence(study: Study) -> str:
    """What the design resolves, in one or two sentences.

    Raises
    ------
    LunetError
        If the study has no pilot, the pilot has no finished runs, or the margin is 0.
    """
    from lunet.errors import ConfigError
    from lunet.metrics.catalog import column_in
    from lunet.reporting.power import Question, facts, pilot_components, pilot_rows, sentence
    from lunet.reporting.units import length_unit

    pilot, question = study.config.pilot, Question(**question_of(study))
    if pilot is None or not question.margin > 0:
        found = "no pilot" if pilot is None else "statistics.margin is 0"
        raise ConfigError(
            where="pilot", found=found, expected="a pilot and a margin above 0 are needed"
        )
    rows = pilot_rows(pilot)
    question = replace(question, metric=column_in(question.metric, length_unit(rows)))
    components = pilot_components(rows, question.metric)
    return sentence(facts(components, study_design(study, rows), question))
