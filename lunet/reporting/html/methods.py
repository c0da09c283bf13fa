"""What was done, in words made from the recorded settings: methods paragraph and checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lunet.metrics.catalog import compared_name, find_metric, is_of, title
from lunet.metrics.settings import StatisticsSettings
from lunet.reporting.costs import device
from lunet.reporting.tables.claims import margin_sentence
from lunet.statistics.registration import Registration

_LOSSES = {"dice": "soft Dice loss", "bce": "binary cross-entropy", "ce": "cross-entropy"}
_OPTIMISERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}


@dataclass(frozen=True)
class Facts:
    """What the report's words are made of.

    ``runs`` are provenances (``run.json``), ``manifest`` that of the prepared data or empty,
    ``counts`` the numbers of cases, subjects, presets, folds and seeds, ``metrics`` the columns
    of the accuracy table.
    """

    runs: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    costs: Mapping[str, Mapping[str, Any]]
    counts: Mapping[str, int]
    statistics: StatisticsSettings
    registered: Registration = field(default_factory=Registration)
    metrics: Sequence[str] = ()


def methods(facts: Facts) -> str:
    """A methods paragraph: data, preprocessing, networks, training, evaluation, statistics."""
    parts = [_data(facts), _preparation(facts), _training(facts), _cost(facts), _evaluation(facts)]
    return " ".join(part for part in (*parts, _statistics(facts)) if part)


def _data(facts: Facts) -> str:
    counts, task = facts.counts, _task(facts)
    name = facts.manifest.get("dataset", {}).get("name")
    data = f"the data set {name}" if name else "the data set"
    structures = task.get("regions") or task.get("labels") or {}
    what = f", segmented into {_list(list(structures))}" if structures else ""
    subjects = f" of {counts['groups']} subjects" if counts["groups"] != counts["cases"] else ""
    folds = f"{counts['folds']} fold{'s' if counts['folds'] > 1 else ''}"
    return (
        f"We used {data}{what}. {counts['cases']} cases{subjects} were tested in {folds} of a "
        "cross-validation that keeps all cases of a subject on one side."
    )


def _task(facts: Facts) -> Mapping[str, Any]:
    from_runs = [(run.get("settings") or {}).get("task") for run in facts.runs]
    task: Mapping[str, Any] = facts.manifest.get("task") or next(filter(None, from_runs), {})
    return task


def _preparation(facts: Facts) -> str:
    settings = facts.manifest.get("preprocess")
    if not settings:
        return ""
    spacing = settings.get("spacing", "keep")
    size = settings.get("size")
    steps = [] if spacing == "keep" else [f"resampled to {_by(spacing)} mm"]
    steps += [f"cropped or padded to {_by(size)} voxels"] if size else []
    steps += [f"normalised by {settings['normalise']}"] if "normalise" in settings else []
    return f"Volumes were {_list(steps)}." if steps else ""


def _training(facts: Facts) -> str:
    """One sentence for each recipe in use, naming its presets."""
    recipes: dict[str, list[str]] = {}
    for run in facts.runs:
        recipe = (run.get("settings") or {}).get("recipe")
        if recipe:
            names = recipes.setdefault(_recipe(recipe), [])
            names += [] if run["preset"] in names else [str(run["preset"])]
    seeds = facts.counts["seeds"]
    each = f" Each network was trained with {seeds} random seeds." if seeds > 1 else ""
    return " ".join(f"{_list(names)}: {text}." for text, names in recipes.items()) + each


def _recipe(recipe: Mapping[str, Any]) -> str:
    optimiser = recipe.get("optimiser", {})
    name = _OPTIMISERS.get(optimiser.get("name", ""), optimiser.get("name", "?"))
    loss = " + ".join(
        _LOSSES.get(key, key) + (f" (weight {weight:g})" if weight != 1 else "")
        for key, weight in recipe.get("loss", {}).items()
    )
    schedule = (recipe.get("schedule") or {}).get("name", "constant")
    augmented = [
        key
        for key, value in (recipe.get("augmentation") or {}).items()
        if key in _AUGMENTATIONS and value
    ]
    return (
        f"trained for {recipe.get('epochs')} epochs with {name}, learning rate "
        f"{optimiser.get('lr'):g} ({schedule}), batch size {recipe.get('batch_size')}, {loss}, "
        f"augmentation {_list(augmented) if augmented else 'off'}"
    )


_AUGMENTATIONS = (
    "flip_axes",
    "affine",
    "elastic",
    "noise",
    "blur",
    "gamma",
    "bias",
    "brightness",
    "low_resolution",
    "grid_distortion",
    "dropout",
)


def _cost(facts: Facts) -> str:
    if not facts.costs:
        return ""
    cost = next(iter(facts.costs.values()))
    size = f" for an input of {_by(cost['size'])} voxels" if cost.get("size") else ""
    where = f" on {device(cost)}" if device(cost) else ""
    return (
        f"Multiply-adds were counted{size}; latency was measured{where} in fresh processes after "
        "warm-up and is given as median and percentiles."
    )


def _evaluation(facts: Facts) -> str:
    return (
        "Predictions were compared with the references in native image space, in mm, per case and "
        "structure; a missed structure scores the worst value and is counted, a structure absent "
        "from both masks is left out and counted." + _definitions(facts.metrics)
    )


def _definitions(metrics: Sequence[str]) -> str:
    """What each metric of the report is, in the words of the catalog."""
    rows = [row for row in map(find_metric, metrics) if row is not None]
    words = "; ".join(f"{title(row.name)}, {row.definition}" for row in rows)
    return f" With the masks of the reference R and the prediction P: {words}." if words else ""


def _statistics(facts: Facts) -> str:
    settings = facts.statistics
    level = f"{100 * settings.confidence:g} % confidence intervals"
    if facts.counts["seeds"] > 1:
        chance = (
            f"Means over cases and their differences are given with {level} that hold the variance "
            "between subjects and between trainings (the points of both t distributions, weighted "
            "by their variances). The verdicts are those of t tests with the same error"
        )
    else:
        chance = (
            f"Means over cases and their differences are given with bootstrap {level} (BCa, "
            f"{settings.resamples} resamples of subjects, seed {settings.seed}). The verdicts are "
            "those of sign-flip permutation tests of subjects"
        )
    parts = [
        f"Presets were compared by {compared_name(settings.metric)}, paired by case.",
        f"{chance}, adjusted by Holm's method over all comparisons.",
        margin_sentence(settings, facts.registered),
        facts.registered.sentence,
    ]
    return " ".join(filter(None, parts))


def _list(words: Sequence[str]) -> str:
    *most, last = words or ("nothing",)
    return f"{', '.join(most)} and {last}" if most else last


def _by(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)


def checklist(facts: Facts, metrics: Sequence[str]) -> list[tuple[str, str, str]]:
    """What a reviewer asks (after Metrics Reloaded, Nat. Methods 21:195, 2024), with answers.

    Returns
    -------
    Rows (topic, question, answer of this study); an answer that the files cannot give says so.
    """
    counts, settings = facts.counts, facts.statistics
    overlap = [title(name) for name in metrics if is_of(name, "overlap")]
    boundary = [title(name) for name in metrics if is_of(name, "border", "surface")]
    status = f"{counts['missed']} missed, {counts['spurious']} spurious, {counts['both_empty']}"
    claims = f"{margin_sentence(settings, facts.registered)} {facts.registered.sentence}".strip()
    several = "yes, their variance is in intervals and tests"
    several = several if counts["seeds"] > 1 else "no: one seed per fold"
    return [
        ("Task", "Structures and their relation", _relation(facts)),
        ("Metrics", "Overlap metric", _list(overlap) if overlap else "none reported"),
        ("Metrics", "Boundary metric", _list(boundary) if boundary else "none reported"),
        ("Metrics", "Space and unit", "native image space, mm and ml"),
        ("Metrics", "Empty masks", f"{status} both empty, over all runs"),
        ("Aggregation", "Unit of analysis", f"case: {counts['cases']} cases"),
        ("Aggregation", "Dependent cases", f"resampled by subject: {counts['groups']} subjects"),
        ("Aggregation", "Missing predictions", "counted as missed, with the worst value"),
        ("Data", "Test data separate from selection", _separation(facts)),
        ("Variability", "Confidence intervals", f"{100 * settings.confidence:g} %, of the mean"),
        ("Variability", "Several trainings", several),
        ("Claims", "Correction for many tests", "Holm, over all rows of the comparison table"),
        ("Claims", "Margin and comparisons stated beforehand", claims),
        ("Failures", "Worst cases named", "yes: table of failures"),
    ]


def _relation(facts: Facts) -> str:
    task = _task(facts)
    if task.get("regions"):
        return f"overlapping regions: {', '.join(task['regions'])}"
    labels = list(task.get("labels") or {})
    return f"disjoint labels: {', '.join(labels)}" if labels else "not recorded in the files"


def _separation(facts: Facts) -> str:
    if not facts.runs:
        return "not recorded in the files"
    chosen = {
        str(((run.get("settings") or {}).get("recipe") or {}).get("monitor", "not recorded"))
        for run in facts.runs
    }
    return f"yes: weights chosen on the validation part ({', '.join(sorted(chosen))}), test apart"
