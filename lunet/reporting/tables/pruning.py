"""Tables of a pruning study: results and cost of each strategy, and their comparison."""

from __future__ import annotations

import dataclasses
import statistics as moments
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lunet.errors import DataError
from lunet.metrics.catalog import compared_title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import flat
from lunet.reporting.markup import Cell, Column, Table, cell, write
from lunet.reporting.numbers import NONE, decimals, fixed, integer, interval, significant
from lunet.reporting.origin import PRIOR
from lunet.reporting.pruned import TITLES, Pruning, by_strategy, read_prunings
from lunet.reporting.result_files import ResultFiles, read_cases, read_efficiency, read_runs
from lunet.reporting.scores import headline, headline_summary
from lunet.reporting.tables.claims import comparisons
from lunet.reporting.tables.scores import level
from lunet.reporting.units import stated_statistics

_NOTE = (
    "The stopping point is chosen on validation cases; the test cases are scored once, afterwards. "
    "Best on test (optimistic): the highest test Dice over all iterations, as if the stopping "
    "point had been chosen on the test cases; it is an upper bound, not a result, and computed on "
    "prepared images. Epochs and hours are for a whole run, including the search; a control "
    "trains for as many epochs as the STAMP run. Means over {runs} run(s)."
)


def write_table(
    name: str, sources: ResultFiles, settings: Mapping[str, Any], base: str | Path
) -> list[Path]:
    """Make one of :data:`TABLES` and write ``BASE.csv``, ``.md``, ``.tex`` and ``.json``."""
    cases = read_cases(sources) if sources.metrics else pd.DataFrame()
    chosen = stated_statistics(settings, cases)
    return write(TABLES[name](sources, chosen), base)


def pruning(sources: ResultFiles, statistics: StatisticsSettings) -> Table:
    """A row per strategy, then the study's unpruned presets among the sources."""
    prunings, cases = read_prunings(sources), read_cases(sources)
    scores = headline_summary(cases, statistics.metric, statistics)
    rows = [_strategy(runs, scores) for runs in by_strategy(prunings).values()]
    rows += _presets(sources, scores, {pruning.label for pruning in prunings})
    runs = max(len(found) for found in by_strategy(prunings).values())
    score = f"Test {compared_title(statistics.metric)}, {headline(cases)}"
    score += f" [{level(statistics)} interval]"
    heads = (
        "Parameters", "Channels", "GMAC", "Validation Dice", score, "Test Dice, prepared images",
        "Best on test (optimistic)", "Epochs", "Device hours",
    )  # fmt: skip
    return Table(
        name="pruning",
        caption=f"Pruning of {prunings[0].record['pruned_preset']}.",
        columns=(Column("Network", text=True), *(Column(head) for head in heads)),
        rows=tuple(map(_printed, rows)),
        records=tuple(rows),
        note=" ".join([_NOTE.format(runs=runs), *hours_sentences(rows)]),
    )


def hours_sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each network without a search: how much longer the search took.

    The first row is the search. Networks without a search are LUNets (the control of equal size,
    and presets of the study) whose device time is known.
    """
    search, *others = rows
    sentences = []
    for row in others:
        hours = row["device_hours"]
        if hours and (row["network"] == TITLES["flat"] or row["preset"].startswith("lunet")):
            ratio = significant(search["device_hours"] / hours)
            sentences.append(
                f"{search['network']} took {significant(search['device_hours'])} device hours per "
                f"run, {ratio} times as many as {row['network']} ({significant(hours)})."
            )
    return sentences


def _strategy(runs: Sequence[Pruning], scores: pd.DataFrame) -> dict[str, Any]:
    def mean(*keys: str) -> float:
        return moments.fmean(_value(run.record, keys) for run in runs)

    chosen_among = max(len(run.trajectory) for run in runs)
    return {
        "network": TITLES.get(runs[0].strategy, runs[0].strategy),
        "preset": runs[0].label,
        "runs": len(runs),
        "parameters": mean("chosen", "parameters"),
        "channels": mean("chosen", "channels"),
        "gmacs": mean("chosen", "macs") / 1e9,
        "validation_dice": mean("chosen", "dice"),
        **_score(scores, runs[0].label),
        "test_dice_prepared": mean("test", "dice"),
        # a control has only one network, so nothing is chosen and nothing is optimistic
        "best_on_test_optimistic": mean("test", "optimistic", "dice") if chosen_among > 1 else None,
        "epochs": mean("epochs"),
        "device_hours": mean("device_seconds") / 3600,
    }


def _value(record: Any, keys: Sequence[str]) -> float:
    for key in keys:
        record = None if record is None else record[key]
    return float("nan") if record is None else float(record)


def _score(scores: pd.DataFrame, label: str) -> dict[str, Any]:
    if label not in scores.index:
        return dict.fromkeys(("test_mean", "ci_low", "ci_high", "n"), float("nan"))
    row = scores.loc[label]
    return {"test_mean": row["mean"]} | {key: row[key] for key in ("ci_low", "ci_high", "n")}


def _presets(sources: ResultFiles, scores: pd.DataFrame, pruned: set[str]) -> list[dict[str, Any]]:
    """Rows of the study's presets, trained unpruned on the same folds."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in read_runs(sources):
        runs.setdefault(run["preset"], []).append(run)
    rows = []
    for preset, cost in read_efficiency(sources).items():
        if preset in pruned or preset not in scores.index:
            continue
        numbers, own = flat(cost), runs.get(preset, [])
        seconds = [run["device_seconds"] for run in own]
        epochs = [run["epochs"] for run in own]
        best = [run["best_score"] for run in own if run.get("best_score") is not None]
        by_dice = all(run["settings"]["recipe"].get("monitor") == "dice" for run in own)
        rows.append(
            {
                "network": preset,
                "preset": preset,
                "runs": len(own),
                "parameters": numbers["parameters"],
                "channels": None,
                "gmacs": numbers["gmacs"],
                "validation_dice": moments.fmean(best) if best and by_dice else None,
                **_score(scores, preset),
                "test_dice_prepared": None,
                "best_on_test_optimistic": None,
                "epochs": moments.fmean(epochs) if epochs else None,
                "device_hours": moments.fmean(seconds) / 3600 if seconds else None,
            }
        )
    return rows


def _printed(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    low, high = row["ci_low"], row["ci_high"]
    places = decimals((high - low) / 2)
    optimistic = fixed(row["best_on_test_optimistic"], 3)
    return (
        cell(row["network"]),
        cell(integer(row["parameters"])),
        cell(integer(row["channels"])),
        cell(significant(row["gmacs"])),
        cell(fixed(row["validation_dice"], 3)),
        cell(fixed(row["test_mean"], places), interval(low, high, places)),
        cell(fixed(row["test_dice_prepared"], 3)),
        cell(NONE if optimistic == NONE else f"≤ {optimistic}"),
        cell(integer(row["epochs"])),
        cell(significant(row["device_hours"])),
    )


def pruning_comparisons(sources: ResultFiles, statistics: StatisticsSettings) -> Table:
    """Paired comparisons of every network with the first strategy (STAMP).

    Pruning may have fewer folds or seeds than the study. Only folds and seeds that all networks
    have are used, so that each side is the mean over equally many trainings.
    """
    prunings = read_prunings(sources)
    against = dataclasses.replace(statistics, reference=prunings[0].label, pairs=())
    table = comparisons(_of_shared_trainings(read_cases(sources)), against)
    caption = f"Networks against {TITLES.get(prunings[0].strategy, prunings[0].label)}: "
    caption += table.caption[0].lower() + table.caption[1:]
    return dataclasses.replace(table, name="pruning_comparisons", caption=caption)


def _of_shared_trainings(cases: pd.DataFrame) -> pd.DataFrame:
    """The rows of the folds and seeds with which every preset was trained."""
    runs = pd.MultiIndex.from_frame(cases[["fold", "seed"]])
    names = cases["preset"].unique()
    trained = [set(runs[cases["preset"] == name]) for name in names if name != PRIOR]
    shared = set.intersection(*trained)
    if not shared:
        raise DataError(
            where="pruning",
            found="the networks have no fold and seed in common",
            expected="at least one is needed to compare them",
            action="Add a fold and a seed of the study to `prune.folds` and `prune.seeds`",
        )
    return cases[[run in shared for run in runs]]


TABLES: dict[str, Callable[[ResultFiles, StatisticsSettings], Table]] = {
    "pruning": pruning,
    "pruning_comparisons": pruning_comparisons,
}
