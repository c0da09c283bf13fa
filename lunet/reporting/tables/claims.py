"""Comparisons between presets: numbers and tests, and one sentence for each claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from lunet.metrics.catalog import compared_title as title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import decimals, fixed, integer, interval, probability
from lunet.reporting.result_files import PRIOR, check_metrics
from lunet.reporting.tables.scores import level
from lunet.statistics import claims as sentences
from lunet.statistics.claims import ONE_TRAINING, one_training
from lunet.statistics.paired import COMPARISON_COLUMNS
from lunet.statistics.values import MEAN_LABEL, with_empty_references

_ORDER = ("better", "non-inferior", "worse", "not resolved")


def compared(cases: pd.DataFrame, statistics: StatisticsSettings) -> pd.DataFrame:
    """All pairs of presets with tests, verdict and sentence, in the order of the files.

    The atlas prior is a floor, not a competitor: it is compared only where the settings name it.
    Columns as :func:`lunet.statistics.claims.claims`; no row where there is no pair.
    """
    check_metrics(cases, [statistics.metric])
    named = {statistics.reference, *(name for pair in statistics.pairs for name in pair)}
    # Filled in before the prior leaves, so that claims and summaries are over the same cases.
    cases = with_empty_references(cases, statistics.metric)
    rows = cases if PRIOR in named else cases[cases["preset"] != PRIOR]
    if rows["preset"].nunique() < 2:
        return pd.DataFrame(columns=[*COMPARISON_COLUMNS, "sentence"])
    return sentences.claims(
        rows,
        statistics.metric,
        reference=statistics.reference,
        pairs=statistics.pairs,
        margin=statistics.margin or None,
        alpha=round(1 - statistics.confidence, 10),
        resamples=statistics.resamples,
        seed=statistics.seed,
        untrained=(PRIOR,),
    )


def comparisons(cases: pd.DataFrame, statistics: StatisticsSettings) -> Table:
    """Paired differences with intervals, effect sizes and adjusted p values."""
    table = compared(cases, statistics).to_dict("records")
    heads = ("Preset", "Against", "Structure")
    titles = (
        "Cases",
        f"{title(statistics.metric)} difference [{level(statistics)} interval]",
        "Effect size d",
        "p (difference)",
        "p (permutation)",
        "p (Wilcoxon)",
        "p (non-inferiority)",
    )
    return Table(
        name="comparisons",
        caption=f"Paired comparisons of {title(statistics.metric)} over cases.",
        columns=(
            *(Column(head, text=True) for head in heads),
            *(Column(text) for text in titles),
            Column("Verdict", text=True),
        ),
        rows=tuple(map(_comparison, table)),
        records=tuple({key: row[key] for key in row if key != "sentence"} for row in table),
        note=_note(cases, statistics),
    )


def _note(cases: pd.DataFrame, statistics: StatisticsSettings) -> str:
    margin = f"{statistics.margin:g} in {title(statistics.metric)}"
    single = one_training(cases, (PRIOR,))
    chance = "bootstrap over subjects" if single else "subjects and trainings as sources of chance"
    return (
        f"Difference: preset minus the one it is compared with, mean over cases, {chance}. "
        "p values are adjusted by Holm's method over all rows; permutation and Wilcoxon: subjects "
        f"alone. Non-inferiority margin, stated before the runs: {margin}. Bold: the "
        "verdicts that the adjusted tests support." + (f" {ONE_TRAINING}" if single else "")
    )


def _comparison(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    places = decimals((row["ci_high"] - row["ci_low"]) / 2)
    difference = fixed(row["difference"], places)
    tests = ("p_difference_holm", "p_permutation_holm", "p_wilcoxon_holm", "p_noninferior_holm")
    return (
        *(cell(row[key]) for key in ("preset", "reference", "label")),
        cell(integer(row["n"])),
        cell(difference, interval(row["ci_low"], row["ci_high"], places)),
        cell(fixed(row["effect_size"], 2)),
        *(cell(probability(row[test])) for test in tests),
        cell(row["verdict"], bold=row["verdict"] != "not resolved"),
    )


def claims(cases: pd.DataFrame, statistics: StatisticsSettings) -> Table:
    """What may be claimed: a sentence per pair, the resolved ones first.

    Of several structures, the mean over them comes first within each verdict.
    """
    table = compared(cases, statistics)
    order = table["verdict"].map({verdict: place for place, verdict in enumerate(_ORDER)})
    first = (table["label"] != MEAN_LABEL).astype(int)
    table = table.assign(_v=order, _l=first).sort_values(["_v", "_l"], kind="stable")
    columns = ["verdict", "preset", "reference", "label", "metric", "sentence"]
    rows = table[columns].to_dict("records")
    return Table(
        name="claims",
        caption=f"Claims about {title(statistics.metric)} that the tests support, and those that "
        "they don't.",
        columns=(Column("Verdict", text=True), Column("Claim", text=True)),
        rows=tuple((cell(row["verdict"]), cell(row["sentence"])) for row in rows),
        records=tuple({str(key): value for key, value in row.items()} for row in rows),
        note=_note(cases, statistics).replace(
            " Bold: the verdicts that the adjusted tests support.", ""
        ),
    )
