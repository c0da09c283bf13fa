"""Runs the search: decides, lets Snakemake make the missing runs, and decides again.

Each decision follows from files that exist, so a search that was killed resumes where it was. Each
call of Snakemake names all runs that the decisions are based on, so outdated runs are repeated and
no run is made twice. All are ordinary runs of the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lunet.errors import ConfigError, TrainingError
from lunet.files import write_json
from lunet.reading import read_record
from lunet.reporting.search_grid import Run, SearchGrid
from lunet.study.early import EarlyLook
from lunet.study.external import role_of
from lunet.study.smallest import (
    Candidate,
    Finding,
    Search,
    affordable,
    cheaper,
    needed,
    next_round,
    search,
)
from lunet.study.study import PRIOR

if TYPE_CHECKING:
    from lunet.reporting.smallest import Evidence
    from lunet.study.study import Study

Make = Callable[[Sequence[str]], None]
"""Makes the files with these paths, or raises an error."""

_WIDE = 40
"""Number of margins up to which an interval is narrow enough to be printed."""


@dataclass(frozen=True)
class Question:
    """The search of a study: its networks with their costs, and its grid."""

    study: Study
    costs: dict[str, dict[str, Any]]
    candidates: tuple[Candidate, ...]
    reference: Candidate
    grid: SearchGrid
    planned: dict[int, tuple[str, ...]]
    early: EarlyLook

    @property
    def is_cost_known(self) -> bool:
        """Whether the reference has a cost that candidates can be compared with."""
        return math.isfinite(self.reference.cost)

    @property
    def folder(self) -> Path:
        """Where the answer is written."""
        return Path(self.study.results, "smallest")


def seeds_of(study: Study) -> tuple[int, ...]:
    """The search's own seeds, or the study's if it has two or more, or else 0 and 1."""
    stated = study.config.smallest.seeds
    if stated is not None:
        if not stated or len(set(stated)) != len(stated):
            raise ConfigError(
                where="smallest.seeds",
                found=f"found {list(stated)}",
                expected="one or more seeds without duplicates are needed",
            )
        return stated
    own = study.config.seeds
    return own if len(own) > 1 else (0, 1)


def margin_of(study: Study) -> float:
    """The search's own margin, or else ``statistics.margin``."""
    own = study.config.smallest.margin
    margin = study.config.statistics.margin if own is None else own
    if margin is None or not margin > 0:
        raise ConfigError(
            where="smallest.margin", found=f"found {margin}", expected="a number above 0 is needed"
        )
    return margin


def find_smallest(study: Study, make: Make, log: Callable[[str], None]) -> dict[str, Any]:
    """Search until everything is decided or the budget is spent.

    Parameters
    ----------
    study
        A study whose configuration has the section ``smallest``.
    make
        Makes files of the study; Snakemake, or a stand-in for it.
    log
        Receives a line for each interim look and each round.

    Returns
    -------
    The verdict, as in ``verdict.json``.

    Raises
    ------
    ConfigError
        If no search is configured, or the section does not fit the study.
    TrainingError
        If ``make`` returned without having made all files.
    """
    if not study.config.smallest.is_configured:
        raise ConfigError(
            where="smallest",
            found="names neither families nor candidates",
            expected="networks to search among are needed",
        )
    margin_of(study)
    seeds_of(study)
    question = _question(study, make)
    evidence = _evidence(question)
    made: set[str] = set()
    logged: set[tuple[str, int]] = set()
    while True:
        found = _search(question, evidence)
        basis = needed(found, question.grid)
        done = _done(question, evidence)
        spent = sum(done.get(run, 0.0) for run in basis) + _hours_paused(question, found)
        budget = study.config.smallest.budget_hours
        coming = affordable(next_round(found, question.grid), done, budget, spent)
        targets = _targets(question, basis, coming)
        _log_news(question, found, evidence, logged, log)
        verdict = _write(question, evidence, found, coming)
        if set(targets) <= made:
            _draw(question, evidence, found)
            return verdict
        write_json(question.folder / "plan.json", {"runs": [list(run) for run in coming]})
        if coming:
            log(f"next: {len([run for run in coming if run not in done])} trainings")
        make(targets)
        lost = [file for file in targets if not Path(file).is_file()]
        if lost:
            raise TrainingError(
                where=lost[0],
                found="was not made",
                expected="each run should write it",
                action="Start the search again",
            )
        made |= set(targets)


def _question(study: Study, make: Make) -> Question:
    """The networks with their costs, which are measured if needed; nothing is trained."""
    from lunet.data.folds import read_splits
    from lunet.efficiency.cost_form import CostForm
    from lunet.reporting.costs import per_volume
    from lunet.reporting.smallest import cost_of, reference_cost

    settings = study.config.smallest
    names = settings.presets()
    for name in names:
        if name not in study.external:
            study.resolved(name)
    files = {name: f"{study.results}/presets/{name}/efficiency.json" for name in names}
    splits = f"{study.results}/splits.json"
    make([splits])  # finds errors in the data before costs are measured
    make(list(files.values()))
    costs = per_volume({name: dict(read_record(path, CostForm)) for name, path in files.items()})

    def candidate(name: str, family: str) -> Candidate:
        cost, size = (cost_of(costs[name], kind, name) for kind in (settings.cost, "parameters"))
        return Candidate(name, family, cost, int(size))

    candidates = [
        candidate(name, family)
        for family, members in settings.by_family().items()
        for name in members
    ]
    unique = tuple({one.name: one for one in reversed(candidates)}.values())
    stated = settings.reference
    is_given = stated in study.external
    if stated is None:
        reference = max(unique, key=lambda one: one.rank)
    elif is_given:
        reference = Candidate(stated, "", reference_cost(costs[stated], settings.cost), 0)
    else:
        reference = candidate(stated, "")
    grid = SearchGrid(reference.name, study.folds, seeds_of(study), is_given)
    folds = read_splits(splits).folds
    planned = {fold: folds[fold].test for fold in grid.folds}
    early = EarlyLook(study, grid.reference, grid.folds[0], grid.seeds)
    return Question(study, costs, unique[::-1], reference, grid, planned, early)


def _evidence(question: Question) -> Evidence:
    from lunet.reporting.smallest import Evidence, Rules

    config = question.study.config
    rules = Rules(
        results=Path(question.study.results),
        grid=question.grid,
        metric=config.statistics.metric,
        margin=margin_of(question.study),
        spending=config.smallest.spending,
        futility=config.smallest.futility,
    )
    return Evidence(rules, question.planned)


def _search(question: Question, evidence: Evidence) -> Search:
    settings = question.study.config.smallest
    families, _ = cheaper(question.candidates, question.reference)

    def judge(one: Candidate, level: float) -> Finding:
        if question.early.is_far_below(one.name):
            return Finding("futile", 0)
        found = evidence.looks(one.name, level)
        outcome: Any = found[-1][0].decision if found else "continue"
        if outcome == "continue" and len(found) == len(question.grid.folds):
            outcome = "not shown"
        return Finding(outcome, len(found))

    return search(families, judge, level=settings.level, strategy=settings.strategy)


def _runs(question: Question) -> list[Run]:
    """All runs of the reference and the candidates."""
    names = [question.reference.name, *(one.name for one in question.candidates)]
    grid = question.grid
    return [
        run for name in dict.fromkeys(names) for fold in grid.folds for run in grid.runs(name, fold)
    ]


def _trainings(question: Question, runs: Sequence[Run]) -> list[Run]:
    """The runs that are trained in this study: all but those of predictions made elsewhere."""
    return [run for run in runs if run[0] not in question.study.made_elsewhere]


def _done(question: Question, evidence: Evidence) -> dict[Run, float]:
    """Hours of the finished runs, and 0 for those whose predictions were made elsewhere."""
    runs = _runs(question)
    hours = {run: evidence.hours(*run) for run in _trainings(question, runs)}
    none = {run: 0.0 for run in runs if run not in hours}
    return none | {run: value for run, value in hours.items() if value is not None}


def _targets(question: Question, basis: Sequence[Run], coming: Sequence[Run]) -> list[str]:
    """Files that Snakemake should make: of whole runs, and of runs that pause for an early look."""
    early, study, files = question.early, question.study, []
    runs = dict.fromkeys([*basis, *coming])
    for run in runs:
        paused = run not in basis and early.is_wanted(run)
        files += [early.file(run[0], run[2])] if paused else _files(study, run)
    if study.config.prior:  # a network that is not above it has not learnt the task
        folds = dict.fromkeys(fold for _, fold, _ in runs)
        files += [f"{study.run(PRIOR, fold, 0)}/metrics.csv" for fold in folds]
    return files


def _suspended(question: Question, found: Search) -> list[str]:
    """Candidates that were given up before the training on their first fold was finished."""
    return [step.candidate.name for step in found.steps if step.finding == Finding("futile", 0)]


def _hours_paused(question: Question, found: Search) -> float:
    return sum(question.early.hours(name) for name in _suspended(question, found))


def _files(study: Study, run: Run) -> list[str]:
    return [f"{study.run(*run)}/metrics.csv", f"{study.run(*run)}/run.json"]


def _log_news(
    question: Question,
    found: Search,
    evidence: Evidence,
    logged: set[tuple[str, int]],
    log: Callable[[str], None],
) -> None:
    """Log one line for each new look and each newly suspended candidate."""
    from lunet.reporting.smallest import decision_rows

    for name in _suspended(question, found):
        if (name, 0) not in logged:
            logged.add((name, 0))
            gap = question.early.gap(name)
            log(f"{name}: suspended at a third of its epochs, validation Dice {gap:.3f} below")
    for row in decision_rows(evidence, found.steps):
        key = (row["candidate"], row["look"])
        if key not in logged:
            logged.add(key)
            low, high = row["ci_low"], row["ci_high"]
            # after few trainings, an interval can be too wide to be informative
            is_wide = not high - low < _WIDE * evidence.rules.margin
            interval = "too early for an interval" if is_wide else f"{low:+.4f} to {high:+.4f}"
            log(
                f"{row['candidate']}, {row['look']} of {len(evidence.rules.grid.folds)} folds: "
                f"{row['estimate']:+.4f} ({interval}), {row['state']}"
            )


def _write(
    question: Question, evidence: Evidence, found: Search, coming: Sequence[Run]
) -> dict[str, Any]:
    """Write the current decisions and verdict; the verdict is final if nothing is pending."""
    from lunet.reporting.smallest import decision_rows, write_decisions
    from lunet.reporting.smallest_words import answer

    rows = decision_rows(evidence, found.steps)
    facts = _facts(question, found, evidence)
    facts["stopped_by_budget"] = not found.is_complete and not coming
    facts["candidates"] = [_about(one, rows, facts, question) for one in question.candidates]
    facts["sentence"] = answer(facts, rows, question.costs, evidence)
    write_decisions(question.folder / "decisions.csv", rows)
    write_json(question.folder / "verdict.json", facts)
    return facts


def _draw(question: Question, evidence: Evidence, found: Search) -> None:
    from lunet.reporting.smallest import decision_rows
    from lunet.reporting.smallest_figure import write_figure

    rows = decision_rows(evidence, found.steps)
    tested = {row["candidate"] for row in rows}
    members = cheaper(question.candidates, question.reference)[0].values()
    untested = [one for family in members for one in family if one.name not in tested]
    kind = question.study.config.smallest.cost
    rules = replace(evidence.rules, metric=evidence.metric)
    write_figure(question.folder / "smallest", rows, untested, rules, kind)


def _about(
    one: Candidate, rows: Sequence[dict[str, Any]], facts: Mapping[str, Any], question: Question
) -> dict[str, Any]:
    """A candidate's entry in the verdict, with its last look."""
    own = [row for row in rows if row["candidate"] == one.name]
    about: dict[str, Any] = {"name": one.name, "family": one.family, "cost": one.cost}
    about |= {"parameters": one.parameters, "state": "not trained", "folds": 0}
    if own:
        about |= {"state": own[-1]["state"], "folds": own[-1]["look"]}
        numbers = {key: own[-1][key] for key in ("estimate", "ci_low", "ci_high")}
        about |= {key: value if math.isfinite(value) else None for key, value in numbers.items()}
    elif one.name in facts["suspended"]:
        about["state"] = "suspended"
    elif one.cost >= question.reference.cost:
        about["state"] = "the reference" if one.name == question.reference.name else "not cheaper"
    return about


def _facts(question: Question, found: Search, evidence: Evidence) -> dict[str, Any]:
    settings, best = question.study.config.smallest, found.answer
    trained = _trainings(question, needed(found, question.grid))
    shown = [step.candidate for step in found.steps if step.finding.outcome == "non-inferior"]
    whole = _trainings(question, _runs(question))
    names = dict.fromkeys(name for name, _, _ in _runs(question))
    return {
        "study": question.study.name,
        "answer": best.name if best else None,
        "reference": question.reference.name,
        "reference_role": role_of(question.study, question.reference.name),
        "reference_cost": question.reference.cost if question.is_cost_known else None,
        "metric": evidence.metric,
        "margin": margin_of(question.study),
        "level": settings.level,
        "cost": settings.cost,
        "strategy": settings.strategy,
        "spending": settings.spending,
        "futility": settings.futility,
        "budget_hours": settings.budget_hours,
        "folds": list(question.grid.folds),
        "seeds": list(question.grid.seeds),
        "is_complete": found.is_complete,
        "moot_families": [path.family for path in found.paths if path.is_moot],
        "shown": [one.name for one in shown],
        "same_cost": [
            one.name for one in shown if best is not None and one.cost == best.cost and one != best
        ],
        "trainings": len(trained),
        "unlearned": evidence.unlearned(sorted(names), question.study.made_elsewhere),
        "suspended": {name: question.early.gap(name) for name in _suspended(question, found)},
        "device_hours": sum(evidence.hours(*run) or 0.0 for run in trained)
        + _hours_paused(question, found),
        "trainings_of_grid": len(whole),
    }
