"""Reviewers' checklists, filled in from the record, with blanks for what only the authors know.

The questions are worded briefly by us and keep the numbers of their source: CLAIM, 2024 update
(Tejani et al., Radiology: Artificial Intelligence 6:e240300, 2024), Metrics Reloaded (Maier-Hein et
al., Nat. Methods 21:195, 2024), and the reproducibility checklist of the MICCAI conference.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lunet.metrics.amounts import amount
from lunet.metrics.catalog import is_of, title
from lunet.reporting.costs import flat
from lunet.reporting.html.facts import POWER, STATUSES, Facts
from lunet.reporting.html.methods import plural, sentences, words
from lunet.reporting.numbers import significant

Row = tuple[str, str, str]
"""Number or topic, question, answer; the authors fill in an empty answer or a :data:`BLANK`."""


def checklists(facts: Facts) -> dict[str, list[Row]]:
    """Title -> rows of each checklist."""
    return {
        "CLAIM 2024": _claim(facts),
        "Metrics Reloaded": _metrics(facts),
        "MICCAI reproducibility": _miccai(facts),
    }


class _MethodsSentences:
    """Answers that the methods paragraph already contains, by the names of their sentences."""

    def __init__(self, facts: Facts) -> None:
        self._sentences = sentences(facts)

    def __call__(self, *names: str) -> str:
        return " ".join(text for name, text in self._sentences if name in names)


BLANK = "______"
"""What the authors fill in."""
_ORIENTATION = ("orientation", "own_orientation", "spacing", "own_spacing", "size", "own_size")
_INTENSITIES = ("clip", "window", "no_clip", "zscore", "zscore_nonzero", "minmax", "none")
_TESTS = ("bootstrap", "sign_flips", "components", "t_tests", "holm")
_DIVISION = ("one_fold", "folds", "held_out", "parts", "two_parts")


def _claim(facts: Facts) -> list[Row]:
    methods = _MethodsSentences(facts)
    raters = "They were made by the generator." if facts.is_synthetic else ""
    none = "It does not apply: the data are synthetic." if facts.is_synthetic else ""
    return [
        ("1", "Title or abstract names the kind of method", ""),
        ("2", "Structured summary", ""),
        ("3", "Background and intended use", ""),
        ("4", "Aims and hypotheses", methods("margin", "no_margin", "changed")),
        ("5", "Prospective or retrospective", none),
        ("6", "Goal of the study", methods("primary")),
        ("7", "Sources of the data", _source(facts)),
        ("8", "Inclusion and exclusion", _exclusions(facts)),
        ("9", "Preprocessing", methods(*_ORIENTATION, *_INTENSITIES)),
        ("10", "Selection of data subsets", _patches(facts)),
        ("11", "De-identification", none),
        ("12", "Missing data", methods("missed", "empty", "external_missing")),
        ("13", "Acquisition protocol", none),
        ("14", "Definition of the reference standard", raters),
        ("15", "Why this reference standard", ""),
        ("16", "Who annotated", raters),
        ("17", "Annotation of the test set", raters),
        ("18", "Variability between raters", methods("reader") or none),
        ("19", "Assignment to partitions", methods(*_DIVISION)),
        ("20", "Level at which partitions are disjoint", methods("disjoint", "mixed")),
        ("21", "Sample size", sample_size(facts)),
        ("22", "Description of the models", methods("dropout") + _models(facts)),
        ("23", "Software", methods("software")),
        ("24", "Initialisation of the parameters", _initial(facts)),
        ("25", "Training", methods("recipe", "precision", "seed", "seeds")),
        ("26", "Selection of the final model", methods("selection")),
        ("27", "Ensembles", ""),
        ("28", "Metrics", methods("metric", "formula", "mean")),
        ("29", "Significance and uncertainty", methods(*_TESTS)),
        ("30", "Robustness", ""),
        ("31", "Explainability", ""),
        ("32", "Test on internal data", methods("tested")),
        ("33", "Test on external data", ""),
        ("34", "Registration of a trial", none),
        ("35", "Cases included and excluded", _exclusions(facts)),
        ("36", "Characteristics of the cases", none),
        ("37", "Performance with uncertainty", "See the table of accuracy."),
        ("38", "Precision of the estimates", "See the intervals of the comparisons."),
        ("39", "Failures", f"See the table of failures; {_statuses(facts)}."),
        ("40", "Limitations", ""),
        ("41", "Implications for practice", ""),
        ("42", "Full protocol", "See the table of the protocol."),
        ("43", "Availability of software, model and data", _availability(facts)),
        ("44", "Funding", ""),
    ]


def _metrics(facts: Facts) -> list[Row]:
    counts, settings, methods = facts.counts, facts.statistics, _MethodsSentences(facts)
    overlap = [title(name) for name in facts.metrics if is_of(name, "overlap")]
    boundary = [title(name) for name in facts.metrics if is_of(name, "border", "surface")]
    several = "yes, their variance is in intervals and tests"
    several = several if counts["seeds"] > 1 else "no: one seed per fold"
    units = "mm and ml" if facts.unit == "mm" else "pixels; no physical size is known"
    return [
        ("Task", "Structures and their relation", _relation(facts)),
        ("Task", "Why these metrics suit the clinical question", ""),
        ("Metrics", "Overlap metric", words(overlap) if overlap else "none reported"),
        ("Metrics", "Boundary metric", words(boundary) if boundary else "none reported"),
        ("Metrics", "Definitions", methods("masks", "metric", "formula")),
        ("Metrics", "Space and unit", f"native image space, {units}"),
        ("Metrics", "Empty masks", f"{_statuses(facts)}, over all runs"),
        ("Aggregation", "Unit of analysis", f"case: {counts['cases']} cases"),
        ("Aggregation", "Dependent cases", f"resampled by subject: {counts['groups']} subjects"),
        ("Aggregation", "Missing predictions", "counted as missed, with the worst value"),
        ("Data", "Test data separate from selection", _separation(facts)),
        ("Variability", "Confidence intervals", f"{100 * settings.confidence:g} %, of the mean"),
        ("Variability", "Several trainings", several),
        ("Variability", "Variability between raters", methods("reader")),
        ("Claims", "Correction for many tests", "Holm, over all rows of the comparison table"),
        (
            "Claims",
            "Margin and comparisons stated beforehand",
            methods("margin", "no_margin", "changed"),
        ),
        ("Failures", "Worst cases named", "yes: table of failures"),
    ]


def _miccai(facts: Facts) -> list[Row]:
    methods = _MethodsSentences(facts)
    return [
        ("Models", "Clear description of the models", methods("dropout") + _models(facts)),
        ("Models", "Software and versions", methods("software")),
        ("Data", "Number of cases", methods("used", "tested")),
        ("Data", "Cohort", ""),
        ("Data", "Where the data are", _source(facts)),
        ("Data", "Collection and annotation", ""),
        (
            "Data",
            "Ethics approval and consent",
            "none needed: synthetic" if facts.is_synthetic else "",
        ),
        ("Code", "Dependencies and code of training and evaluation", _code(facts)),
        ("Code", "Trained models", ""),
        ("Code", "Where code and models are published", ""),
        ("Results", "Hyperparameters considered, and how they were chosen", ""),
        ("Results", "Sensitivity to parameters", ""),
        (
            "Results",
            "Number of trainings",
            f"{plural(len(facts.runs), 'training')} in all. {methods('seed', 'seeds')}",
        ),
        ("Results", "Baselines", methods("recipe")),
        ("Results", "Division of the data", methods(*_DIVISION)),
        ("Results", "Metrics and statistics", methods("metric", "formula", "mean")),
        ("Results", "Mean and variation", methods("bootstrap", "components")),
        (
            "Results",
            "Significance, sample size",
            f"{methods(*_TESTS)} {sample_size(facts)}".strip(),
        ),
        ("Results", "Time of training", methods("hours")),
        ("Results", "Time of inference", methods("latency")),
        ("Results", "Energy of inference", _energy(facts.costs)),
        ("Results", "Energy of training", _training_energy(facts.runs)),
        ("Results", "Memory of a training", _memory(facts.runs)),
        ("Results", "Failures", "See the table of failures."),
        ("Results", "Machines", _machines(facts.runs)),
        ("Results", "Clinical significance", ""),
    ]


def sample_size(facts: Facts) -> str:
    """Numbers of cases and subjects, and the difference that the study can resolve."""
    counts, settings = facts.counts, facts.statistics
    size = f"{counts['cases']} cases of {counts['groups']} subjects were tested."
    if facts.resolves is None:
        return f"{size} They are too few to estimate which difference could be resolved."
    places = max(3, 1 - math.floor(math.log10(max(facts.resolves, 1e-9))))
    least = amount(f"{facts.resolves:.{places}f}", settings.metric)
    given = " (given these trained networks)" if counts["seeds"] < 2 else ""
    stated = (
        f"; the margin is {amount(settings.margin, settings.metric)}" if settings.margin else ""
    )
    return (
        f"{size} Given the spread of its own results, this study can resolve {least}"
        f"{given} with {100 * POWER:g} % power{stated}."
    )


def _source(facts: Facts) -> str:
    keys = ("name", "kind", "version", "licence", "citation")
    stated = [f"{key}: {facts.source[key]}" for key in keys if facts.source.get(key)]
    return "; ".join(stated)


def _exclusions(facts: Facts) -> str:
    """Numbers of cases found, used and left out, and of findings of the audit."""
    used = _MethodsSentences(facts)("used", "repaired", "held_out")
    counts = facts.audit.get("counts") or (facts.manifest.get("dataset") or {}).get("counts") or {}
    reasons = list((counts.get("left_out") or {}).values())
    tally = [f"{reasons.count(reason)}: {reason}" for reason in dict.fromkeys(reasons)]
    left = f" Left out: {'; '.join(tally)}." if tally else ""
    found = facts.audit.get("findings")
    audited = ""
    if found:
        numbers = words([plural(found.get(name, 0), name) for name in ("error", "warning")])
        audited = f" The audit has {numbers}."
    return f"{used}{left}{audited}".strip()


def _patches(facts: Facts) -> str:
    patches = {str((_recipe(run)).get("patch")) for run in facts.runs if _recipe(run)}
    return "Whole images were used." if patches == {"None"} else _MethodsSentences(facts)("recipe")


def _recipe(run: Mapping[str, Any]) -> Mapping[str, Any]:
    recipe: Mapping[str, Any] = (run.get("settings") or {}).get("recipe") or {}
    return recipe


def _models(facts: Facts) -> str:
    sizes = [
        f"{preset}: {numbers['parameters']:,.0f} parameters"
        for preset, numbers in ((name, flat(cost)) for name, cost in facts.costs.items())
        if math.isfinite(numbers["parameters"])
    ]
    return f" {'; '.join(sizes)}." if sizes else ""


def _initial(facts: Facts) -> str:
    if not facts.runs or not all("init" in run for run in facts.runs):
        return ""
    given = list(dict.fromkeys(run["preset"] for run in facts.runs if run["init"]))
    if not given:
        return "Random, by the seed of each run."
    return f"{words(given)} began from given weights (init of run.json); all others at random."


def _relation(facts: Facts) -> str:
    if not facts.structures:
        return ""
    kind = "overlapping regions" if facts.task.get("regions") else "disjoint labels"
    return f"{kind}: {', '.join(facts.structures)}"


def _separation(facts: Facts) -> str:
    chosen = {str(_recipe(run)["monitor"]) for run in facts.runs if "monitor" in _recipe(run)}
    if not chosen:
        return ""
    monitors = ", ".join(sorted(chosen))
    return f"yes: weights chosen on the validation part ({monitors}), test data kept apart"


def _statuses(facts: Facts) -> str:
    counts = facts.counts
    return ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in STATUSES)


def _availability(facts: Facts) -> str:
    licence = facts.source.get("licence")
    return f"Licence of the data: {licence}. Software and model: {BLANK}" if licence else ""


def _code(facts: Facts) -> str:
    stamps = [(run.get("provenance") or {}).get("git") or {} for run in facts.runs]
    commits = _unique(
        f"{git['commit']}{' (with uncommitted changes)' if git.get('changed') else ''}"
        for git in stamps
        if git.get("commit")
    )
    return f"git commit {words(commits)}" if commits else ""


def _energy(costs: Mapping[str, Mapping[str, Any]]) -> str:
    measured = [
        f"{preset}: {significant(float(cost['energy']['joules_per_volume']))} J per image"
        for preset, cost in costs.items()
        if (cost.get("energy") or {}).get("joules_per_volume") is not None
    ]
    return "; ".join(measured)


def _training_energy(runs: Iterable[Mapping[str, Any]]) -> str:
    """Energy of all trainings; empty unless each was measured."""
    joules = [run.get("joules") for run in runs]
    known = [value for value in joules if value is not None]
    if not known or len(known) < len(joules):
        return ""
    return f"{significant(sum(known) / 3.6e6)} kWh, by the counters of the GPUs"


def _memory(runs: Iterable[Mapping[str, Any]]) -> str:
    most: dict[str, float] = {}
    for run in runs:
        if run.get("peak_memory_bytes"):
            size = float(run["peak_memory_bytes"]) / 2**20
            most[run["preset"]] = max(size, most.get(run["preset"], 0.0))
    return "; ".join(f"{preset}: {significant(size)} MiB" for preset, size in most.items())


def _machines(runs: Sequence[Mapping[str, Any]]) -> str:
    stamps = [run.get("provenance") or {} for run in runs]
    keys = ("cpu", "gpu", "system")
    return "; ".join(
        _unique(", ".join(str(one[key]) for key in keys if one.get(key)) for one in stamps if one)
    )


def _unique(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
