"""Comparisons between presets: numbers and tests, and one sentence for each claim."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pandas as pd

from lunet.errors import ConfigError
from lunet.metrics.catalog import compared_name, unit_suffix
from lunet.metrics.catalog import compared_title as title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.markup import Cell, Column, Table, cell
from lunet.reporting.numbers import decimals, fixed, integer, interval, probability
from lunet.reporting.origin import caveat, externals, of, rivals, trained_by_others, untrained
from lunet.reporting.result_files import check_metrics
from lunet.reporting.tables.scores import level
from lunet.reporting.unlearned import unlearned_in
from lunet.statistics import claims as sentences
from lunet.statistics.claims import ONE_TRAINING, is_small_loss, one_training
from lunet.statistics.paired import COMPARISON_COLUMNS
from lunet.statistics.registration import Registration
from lunet.statistics.values import MEAN_LABEL, with_empty_references

_ORDER = ("better", "non-inferior", "worse", "not resolved")
NOTHING_ASKED = (
    "No comparison is configured: set `statistics.reference`, `statistics.pairs` or `pairs: all`."
)


def compared(
    cases: pd.DataFrame,
    statistics: StatisticsSettings,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """The comparisons that the study makes, with tests, verdict and sentence.

    The atlas prior and second readers are bounds, not competitors: they are compared only if the
    settings name them.

    Parameters
    ----------
    cases
        Per-case rows.
    statistics
        Settings. All tests are adjusted together; tables and figures use the same tests.
    costs
        Costs by preset; only needed for ``pairs: all``.

    Returns
    -------
    Columns as in :func:`lunet.statistics.claims.claims`; no rows if no comparison is configured.
    """
    check_metrics(cases, [statistics.metric])
    pairs = configured_pairs(list(rivals(cases)), statistics, costs or {})
    if not pairs:
        return pd.DataFrame(columns=[*COMPARISON_COLUMNS, "sentence"])
    # Filled in while all presets are present, so that claims and summaries use the same cases.
    cases = with_empty_references(cases, statistics.metric)
    named = {name for pair in pairs for name in pair}
    table = sentences.claims(
        of(cases, {*rivals(cases), *named}),
        statistics.metric,
        pairs=pairs,
        margin=statistics.margin or None,
        alpha=round(1 - statistics.confidence, 10),
        resamples=statistics.resamples,
        seed=statistics.seed,
        untrained=untrained(cases),
        failure=statistics.failure,
    )
    caveats = {name: caveat(name, "external") for name in sorted(externals(cases))}
    caveats |= {name: caveat(name, "rival") for name in sorted(trained_by_others(cases))}
    table["sentence"] = [
        " ".join([sentence, *(text for name, text in caveats.items() if name in pair)])
        for *pair, sentence in table[["preset", "reference", "sentence"]].to_numpy()
    ]
    return table


def configured_pairs(
    rivals: list[str],
    statistics: StatisticsSettings,
    costs: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Pairs (candidate, reference) of the settings, in the order of ``rivals``.

    Raises
    ------
    ConfigError
        If all pairs are to be compared and the cost of a preset is not known.
    """
    if statistics.pairs == "all":
        for name in rivals:
            if statistics.cost not in costs.get(name, {}):
                found = f"`all`, but the {statistics.cost} of {name} are not known"
                raise ConfigError(
                    where="statistics.pairs", found=found, expected="its efficiency.json is needed"
                )
        ranked = sorted(rivals, key=lambda name: float(costs[name][statistics.cost]))
        return list(itertools.combinations(ranked, 2))
    if statistics.pairs:
        return list(statistics.pairs)
    reference = statistics.reference
    if reference is None:
        return []
    return [(name, reference) for name in rivals if name != reference]


def comparisons(
    cases: pd.DataFrame,
    statistics: StatisticsSettings,
    registered: Registration | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """Paired differences with intervals, effect sizes and adjusted p values."""
    found = compared(cases, statistics, costs)
    table = found.to_dict("records")
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
    alpha = 1 - statistics.confidence
    bold = "Bold: the verdicts that the adjusted tests support."
    return Table(
        name="comparisons",
        caption=f"Paired comparisons of {title(statistics.metric)} over cases.",
        columns=(
            *(Column(head, text=True) for head in heads),
            *(Column(text) for text in titles),
            Column("Verdict", text=True),
        ),
        rows=tuple(_comparison(row, alpha) for row in table),
        records=tuple({key: row[key] for key in row if key != "sentence"} for row in table),
        note=f"{_note(cases, found, statistics, registered)} {bold}",
    )


def _note(
    cases: pd.DataFrame,
    table: pd.DataFrame,
    statistics: StatisticsSettings,
    registered: Registration | None,
) -> str:
    weak = unlearned_in(cases, statistics.metric).values()
    if table.empty:
        return " ".join([*weak, NOTHING_ASKED])
    single = one_training(cases, untrained(cases))
    chance = "bootstrap over subjects" if single else "subjects and trainings as sources of chance"
    registered = registered or Registration()
    parts = [
        *weak,
        f"Difference: the first preset minus the second, mean over cases ({chance}). p values are "
        f"adjusted by Holm's method over all {len(table)} rows; permutation and Wilcoxon tests "
        "consider subjects only. Intervals are not adjusted, so an interval may exclude 0 although "
        'the verdict is "not resolved".',
        margin_sentence(statistics, registered),
        _attainable(table, statistics),
        registered.sentence,
        ONE_TRAINING if single else _few(table),
    ]
    return " ".join(filter(None, parts))


def margin_sentence(statistics: StatisticsSettings, registered: Registration) -> str:
    """The margin, if there is one, and when the study stated it."""
    if not statistics.margin:
        return f"Non-inferiority is not tested. Comparisons: {registered.when}."
    unit, name = unit_suffix(statistics.metric), compared_name(statistics.metric)
    return f"Non-inferiority margin: {statistics.margin:g}{unit} in {name}; {registered.when}."


def _attainable(table: pd.DataFrame, statistics: StatisticsSettings) -> str:
    """The smallest adjusted p that these subjects allow, if it is large enough to matter."""
    least = table["p_smallest_holm"].max()
    if not least > (1 - statistics.confidence) / 100:
        return ""
    subjects = int(table.loc[table["p_smallest_holm"].idxmax(), "n_groups"])
    return f"With {subjects} subjects the smallest possible adjusted p is {least:.2g}."


def _few(table: pd.DataFrame) -> str:
    subjects, seeds = int(table["n_groups"].min()), int(table["n_seeds"].min())
    if subjects >= 12 and seeds >= 3:
        return ""
    few = f"Warning: {subjects} subjects and {seeds} seeds are few"
    return f"{few}; intervals had their stated coverage with at least 12 subjects and 3 seeds."


def _comparison(row: Mapping[str, Any], alpha: float) -> tuple[Cell, ...]:
    places = decimals((row["ci_high"] - row["ci_low"]) / 2)
    difference = fixed(row["difference"], places)
    tests = ("p_difference_holm", "p_permutation_holm", "p_wilcoxon_holm", "p_noninferior_holm")
    return (
        *(cell(row[key]) for key in ("preset", "reference", "label")),
        cell(integer(row["n"])),
        cell(difference, interval(row["ci_low"], row["ci_high"], places)),
        cell(fixed(row["effect_size"], 2)),
        *(cell(probability(row[test])) for test in tests),
        cell(verdict_words(row, alpha), bold=row["verdict"] != "not resolved"),
    )


def verdict_words(row: Mapping[str, Any], alpha: float) -> str:
    """The verdict; a significant loss within the margin is worded as a loss."""
    return "worse, by less than the margin" if is_small_loss(row, alpha) else str(row["verdict"])


def claims(
    cases: pd.DataFrame,
    statistics: StatisticsSettings,
    registered: Registration | None = None,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Table:
    """One sentence per pair: what may be claimed. Resolved comparisons come first.

    Within a verdict, the mean over structures comes first.
    """
    table = found = compared(cases, statistics, costs)
    order = table["verdict"].map({verdict: place for place, verdict in enumerate(_ORDER)})
    first = (table["label"] != MEAN_LABEL).astype(int)
    table = table.assign(_v=order, _l=first).sort_values(["_v", "_l"], kind="stable")
    changed = f" {registered.sentence}" if registered and registered.sentence else ""
    table["sentence"] = [f"{sentence}{changed}" for sentence in table["sentence"]]
    alpha = 1 - statistics.confidence
    words = [verdict_words(row, alpha) for row in table.to_dict("records")]
    columns = ["verdict", "preset", "reference", "label", "metric", "sentence"]
    rows = table[columns].to_dict("records")
    return Table(
        name="claims",
        caption=f"Claims about {title(statistics.metric)}: which of them the tests support.",
        columns=(Column("Verdict", text=True), Column("Claim", text=True)),
        rows=tuple((cell(word), cell(r["sentence"])) for word, r in zip(words, rows, strict=True)),
        records=tuple({str(key): value for key, value in row.items()} for row in rows),
        note=_note(cases, found, statistics, registered),
    )
