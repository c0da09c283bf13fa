"""The methods paragraph, written from the recorded facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lunet.data.prepared import cropped_labels, percent
from lunet.metrics.catalog import compared_name, find_metric, is_of, title, unit_suffix
from lunet.reporting.costs import device, grid_points, latency, unreliable
from lunet.reporting.html.facts import Facts
from lunet.reporting.html.sentences import SENTENCES
from lunet.task import of_pictures

_LOSSES = {"dice": "soft Dice loss", "bce": "binary cross-entropy", "ce": "cross-entropy"}
_OPTIMISERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
_PRECISIONS = {"fp32": "32-bit floats", "bf16": "bfloat16", "fp16": "16-bit floats"}
_AUGMENTATIONS = {
    "flip_axes": "flips",
    "affine_p": "rotation and scaling",
    "elastic_p": "elastic deformation",
    "grid_distortion_p": "grid distortion",
    "blur_p": "blur",
    "low_resolution_p": "lower resolution",
    "gamma_p": "gamma",
    "gamma_inverted_p": "inverted gamma",
    "bias_p": "bias fields",
    "brightness_p": "brightness and contrast",
    "noise_p": "noise",
    "dropout_p": "coarse dropout",
}
"""Key of the recipe's augmentation -> its words; a value of 0, or an empty one, turns it off."""


def methods(facts: Facts) -> str:
    """A paragraph about data, preparation, training, cost, evaluation and statistics."""
    return " ".join(text for _, text in sentences(facts))


def sentences(facts: Facts) -> list[tuple[str, str]]:
    """The paragraph's sentences, each with the name of its template."""
    parts = (_data, _division, _preparation, _training, _external, _cost, _evaluation, _statistics)
    found = [
        (name, SENTENCES[name].format(**values)) for part in parts for name, values in part(facts)
    ]
    return [(name, of_pictures(text)) for name, text in found] if facts.are_pictures else found


Chosen = Iterator[tuple[str, dict[str, Any]]]
"""Name of a template and the values that fill it in."""


def _data(facts: Facts) -> Chosen:
    name = (facts.manifest.get("dataset") or {}).get("name")
    if name:
        yield "data", {"name": name}
    if facts.structures:
        yield "structures", {"structures": words(facts.structures)}
    if facts.is_synthetic:
        yield "synthetic", {}
    counts = facts.audit.get("counts") or (facts.manifest.get("dataset") or {}).get("counts")
    if counts:
        yield "used", {key: counts[key] for key in ("found", "used", "labelled")}
    if facts.repairs:
        repaired, left_out = (facts.repairs.get(name, 0) for name in ("repaired", "left out"))
        yield (
            "repaired",
            {"repaired": plural(repaired, "defect"), "left_out": plural(left_out, "case")},
        )


def _division(facts: Facts) -> Chosen:
    used, made = facts.folds, facts.splits
    if len(made) == 1:
        yield "one_fold", {}
    elif made:
        numbers = f"number{'s'[: len(used) > 1]} {words(list(map(str, used)))}"
        were = "was" if len(used) == 1 else "were"
        yield "folds", {"made": len(made), "used": len(used), "were": were, "numbers": numbers}
    if facts.is_disjoint is not None:
        yield "disjoint" if facts.is_disjoint else "mixed", {}
    if facts.held_out:
        yield "held_out", {"held_out": facts.held_out}
    if made and all(fold < len(made) for fold in used):
        groups = facts.groups
        chosen = [made[fold] for fold in used]
        parts = {
            name: _part([getattr(fold, name) for fold in chosen], groups)
            for name in ("train", "validation", "test")
        }
        has_validation = any(fold.validation for fold in chosen)
        yield "parts" if has_validation else "two_parts", parts
    yield "tested", {"tested": _of_subjects([facts.counts["cases"]], [facts.counts["groups"]])}


def _part(folds: Sequence[Sequence[str]], groups: Mapping[str, str]) -> str:
    """Sizes of one part of the folds in cases and, if known, in subjects."""
    known = all(case in groups for fold in folds for case in fold)
    subjects = [len({groups[case] for case in fold}) for fold in folds] if known else []
    return _of_subjects([len(fold) for fold in folds], subjects)


def _of_subjects(cases: Sequence[int], subjects: Sequence[int]) -> str:
    same = not subjects or list(cases) == list(subjects)
    return _range(cases, "case") + ("" if same else f" of {_range(subjects, 'subject')}")


def _range(sizes: Sequence[int], noun: str) -> str:
    low, high = min(sizes), max(sizes)
    number = str(low) if low == high else f"{low} to {high}"
    return f"{number} {noun}{'' if high == 1 else 's'}"


def _preparation(facts: Facts) -> Chosen:
    settings = facts.manifest.get("preprocess")
    if not settings:
        return
    turned = settings.get("orientation", "keep")
    if turned.lower() == "keep" or facts.are_pictures:
        yield "own_orientation", {}
    else:
        yield "orientation", {"orientation": turned}
    spacing = settings.get("spacing", "keep")
    if spacing == "keep":
        yield "own_spacing", {}
    else:
        yield "spacing", {"spacing": by(spacing), "unit": facts.unit}
    window, clip = settings.get("window"), settings.get("clip")
    if window or clip:
        low, high = window or clip
        yield "window" if window else "clip", {"low": low, "high": high}
    else:
        yield "no_clip", {}
    if settings.get("normalise") in SENTENCES:
        yield settings["normalise"], {}
    size = settings.get("size")
    yield ("size", {"size": by(size)}) if size else ("own_size", {})
    cases = facts.manifest.get("cases", ())
    if lost := cropped_labels(cases):
        most = percent(max(lost.values()))
        yield "cropped_labels", {"cases": len(lost), "all": len(cases), "most": most}


def _training(facts: Facts) -> Chosen:
    """A sentence for each recipe, dropout rate and numerical precision, naming its presets."""
    sections = [(run["preset"], run.get("settings") or {}) for run in facts.runs]
    known = [(preset, one) for preset, one in sections if one.get("recipe")]
    recipes = [(preset, one["recipe"]) for preset, one in known]
    used = [
        (preset, tuple(_recipe(one["recipe"], _whole(one, facts)).items())) for preset, one in known
    ]
    for values, names in _by_value(used):
        were = "was" if len(names) == 1 else "were"
        presets = _named(names, facts).replace(_ALL, _ALL.capitalize())
        yield "recipe", {"presets": presets, "were": were, **dict(values)}
    monitors = dict.fromkeys(one["monitor"] for _, one in recipes if one.get("monitor"))
    if monitors:
        yield "selection", {"monitor": words(list(monitors), last="or")}
    models = [(preset, (one.get("model") or {}).get("arguments") or {}) for preset, one in sections]
    for rate, names in _by_value([(p, one["dropout"]) for p, one in models if "dropout" in one]):
        yield "dropout", {"presets": _named(names, facts), "rate": rate}
    engines = [(run["preset"], run.get("engine") or {}) for run in facts.runs]
    chosen = [(preset, one) for preset, one in engines if one.get("precision")]
    keys = ("precision", "device", "threads")
    how = [(preset, tuple(one.get(key) for key in keys)) for preset, one in chosen]
    for (precision, where, count), names in _by_value(how):
        values = {
            "presets": _named(names, facts),
            "device": _device(str(where)),
            "threads": threads(count),
        }
        yield "precision", {"precision": _PRECISIONS.get(precision, precision), **values}
    several = facts.counts["seeds"] > 1
    yield ("seeds", {"seeds": facts.counts["seeds"]}) if several else ("seed", {})
    if facts.hours:
        yield "hours", {"hours": f"{facts.hours:.3g}"}


def _whole(settings: Mapping[str, Any], facts: Facts) -> str:
    """What a network without a patch is trained on."""
    in_slices = (settings.get("task") or {}).get("dimensions") == 2
    return f"whole {'pictures' if facts.are_pictures else 'slices' if in_slices else 'volumes'}"


_ALL = "all networks"


def _named(names: Sequence[str], facts: Facts) -> str:
    """The names of the presets, or "all networks" for three or more that are all of them."""
    trained = {run["preset"] for run in facts.runs}
    return _ALL if len(names) > 2 and set(names) == trained else words(names)


def _by_value(pairs: Iterable[tuple[str, Any]]) -> Iterator[tuple[Any, list[str]]]:
    """Each distinct value in order, with the names that have it."""
    found: dict[Any, dict[str, None]] = {}
    for name, value in pairs:
        found.setdefault(value, {})[name] = None
    for value, names in found.items():
        yield value, list(names)


def _recipe(recipe: Mapping[str, Any], whole: str) -> dict[str, Any]:
    optimiser = recipe.get("optimiser") or {}
    loss = " + ".join(
        _LOSSES.get(key, key) + (f" (weight {weight:g})" if weight != 1 else "")
        for key, weight in (recipe.get("loss") or {}).items()
    )
    patch = recipe.get("patch")
    return {
        "epochs": recipe.get("epochs"),
        "optimiser": _OPTIMISERS.get(optimiser.get("name", ""), optimiser.get("name", "?")),
        "rate": optimiser.get("lr", float("nan")),
        "schedule": (recipe.get("schedule") or {}).get("name", "constant"),
        "batch": recipe.get("batch_size"),
        "samples": f"patches of {by(patch)} voxels" if patch else whole,
        "loss": loss,
        "augmentation": _augmentation(recipe.get("augmentation") or {}),
        "more": "".join(f", {text}" for text in _further(recipe)),
    }


def _augmentation(augmentation: Mapping[str, Any]) -> str:
    used = [text for key, text in _AUGMENTATIONS.items() if augmentation.get(key)]
    return f"augmentation by {words(used)}" if used else "no augmentation"


def _further(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Optional techniques that a recipe uses."""
    if (recipe.get("optimiser") or {}).get("weight_decay"):
        yield f"weight decay {recipe['optimiser']['weight_decay']:g}"
    if recipe.get("clip_norm"):
        yield f"gradients clipped to a norm of {recipe['clip_norm']:g}"
    if (recipe.get("ema") or {}).get("decay"):
        yield f"weights averaged with a decay of {recipe['ema']['decay']:g}"
    if (recipe.get("early_stopping") or {}).get("patience"):
        yield f"early stopping after {recipe['early_stopping']['patience']} epochs without gain"


def _device(kind: str) -> str:
    return {"cpu": "a CPU", "cuda": "a GPU"}.get(kind.split(":")[0], kind)


def threads(count: Any) -> str:
    """`` with 1 thread``; empty if the number is not known."""
    return f" with {count} thread{'' if count == 1 else 's'}" if count else ""


_LAYOUTS = {"nnunet": "validation folders of nnU-Net", "folder": "one file per case"}


def _external(facts: Facts) -> Chosen:
    for name, row in facts.external.items():
        made = f" ({row.source})" if row.source else ""
        if row.is_reader:
            yield "reader", {"name": name, "source": made}
        else:
            key = "rival" if row.is_rival else "external"
            yield key, {"name": name, "source": made, "layout": _LAYOUTS[row.layout]}
            yield "external_checked" if row.is_checked else "external_unchecked", {"name": name}
        if row.missing:
            cases = ", ".join(row.missing[:5]) + (", ..." if len(row.missing) > 5 else "")
            counts = {"tested": row.tested, "missing": len(row.missing), "cases": cases}
            yield "external_missing", {"name": name, **counts}


def _cost(facts: Facts) -> Chosen:
    for size, _ in _by_value(
        (p, tuple(one["size"])) for p, one in facts.costs.items() if one.get("size")
    ):
        yield "counted", {"size": by(size), "grid": grid_points(size)}
    measured = []
    for preset, cost in facts.costs.items():
        one = latency(cost)
        if one.get("p50_ms") and device(cost):
            runs = f"{one['runs']} runs" if one.get("runs") else "its runs"
            measured.append((preset, (device(cost), _threads_of(cost), runs)))
    for (where, count, runs), _ in _by_value(measured):
        yield "latency", {"device": where, "threads": threads(count), "runs": runs}
    if presets := unreliable(facts.costs):
        yield "busy", {"presets": presets}


def _threads_of(cost: Mapping[str, Any]) -> Any:
    about = cost.get("device")
    own = about.get("threads") if isinstance(about, Mapping) else None
    return own or (cost.get("settings") or {}).get("threads")


def _evaluation(facts: Facts) -> Chosen:
    yield "space", {"unit": "mm" if facts.unit == "mm" else "pixels (no physical size is known)"}
    yield "missed", {}
    yield "empty", {}
    rows = [row for row in map(find_metric, facts.metrics) if row is not None]
    if rows:
        yield "masks", {}
    for row in rows:
        is_formula = is_of(row.name, "overlap") or "(" in row.definition or " - " in row.definition
        kind = "formula" if is_formula else "metric"
        yield kind, {"title": title(row.name), "definition": row.definition}
    if len(facts.structures) > 1:
        yield "mean", {"labels": len(facts.structures)}


def _statistics(facts: Facts) -> Chosen:
    settings = facts.statistics
    level = round(100 * settings.confidence, 8)
    yield "primary", {"metric": compared_name(settings.metric)}
    if facts.counts["seeds"] > 1:
        yield "components", {"level": level}
        yield "t_tests", {}
    else:
        yield "bootstrap", {"level": level, "resamples": settings.resamples, "seed": settings.seed}
        yield "sign_flips", {}
    two_sided = round(100 - level, 8)
    noninferior = (
        f" and non-inferiority one-sided at {two_sided / 2:g} %" if settings.margin else ""
    )
    yield "holm", {"two_sided": two_sided, "noninferior": noninferior}
    when = facts.registered.when
    if settings.margin:
        unit, name = unit_suffix(settings.metric), compared_name(settings.metric)
        yield "margin", {"margin": settings.margin, "unit": unit, "metric": name, "when": when}
    else:
        yield "no_margin", {"when": when}
    if facts.registered.sentence:
        yield "changed", {"changed": facts.registered.sentence}
    stamps = [run.get("provenance") or {} for run in facts.runs]
    for (packages, python), _ in _by_value(("", _software(one)) for one in stamps):
        if packages:
            yield "software", {"packages": words(list(packages)), "python": python}


def _software(stamp: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    packages = tuple(f"{name} {version}" for name, version in (stamp.get("packages") or {}).items())
    return packages, str(stamp.get("python", "of unknown version"))


def plural(number: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def words(names: Sequence[str], *, last: str = "and") -> str:
    """``a, b and c``."""
    *most, final = names or ("nothing",)
    return f"{', '.join(most)} {last} {final}" if most else final


def by(values: Any) -> str:
    """``64 × 64 × 32``."""
    return " × ".join(f"{value:g}" for value in values)
