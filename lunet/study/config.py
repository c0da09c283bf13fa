"""The configuration of a study: typed, frozen, refused where it is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lunet.data.settings import (
    DatasetSettings,
    PlanSettings,
    PreprocessSettings,
    SplitSettings,
)
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, nearest, shown
from lunet.inference.settings import PredictSettings, TransferSettings
from lunet.metrics.catalog import check_metric
from lunet.metrics.settings import EvaluateSettings, LesionSettings, StatisticsSettings
from lunet.pruning.settings import PruneSettings
from lunet.reading import typed
from lunet.reading_yaml import parse_yaml
from lunet.reading_yaml import read_yaml as read_mapping
from lunet.reporting.settings import ReportSettings
from lunet.settings import LARGEST_SEED, build_settings, schema, setting
from lunet.study.presets import PAPER_PRESETS, known_presets
from lunet.study.settings import SmallestSettings

PLANNED = ("preprocess", "train", "predict")
# ASCII alone: what looks alike or is invisible would make two folders of one name
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


@dataclass(frozen=True)
class Roots:
    """Folders that a study writes to; scratch disks of a cluster, for example.

    ``~`` is the home folder, ``$NAME`` and ``${NAME}`` are variables of the environment.
    """

    results: str = setting(
        "results", doc="what the study produces; `~` and `$SCRATCH` are read as a shell reads them"
    )
    work: str = setting("work", doc="downloads, prepared volumes, resume states; so too")

    def __post_init__(self) -> None:
        for name in ("results", "work"):
            object.__setattr__(self, name, _expanded(getattr(self, name), f"roots.{name}"))


def _expanded(path: str, where: str) -> str:
    """A folder's path with the home folder and the environment's variables in their places."""
    missing = [a or b for a, b in _VARIABLE.findall(path) if (a or b) not in os.environ]
    if missing:
        found = f"${missing[0]} is not set"
        raise ConfigError(
            where=where,
            found=found,
            expected="a variable of the environment",
            action="Set it, or name a folder",
        )
    found = os.path.expanduser(os.path.expandvars(path))
    if not found or found.startswith("~") or set(found) & set("{}"):
        expected = "a folder without braces, of a user who exists"
        raise ConfigError(
            where=where, found=f"found {path!r}", expected=expected, action="Name another folder"
        )
    return found.rstrip("/") or "/"


@dataclass(frozen=True)
class Variant:
    """A base preset with another recipe or other network arguments: a preset everywhere."""

    base: str = setting(doc="preset that is changed")
    recipe: str | None = setting(None, doc="named recipe; else the base preset's")
    train: dict[str, Any] = setting({}, doc="changes of the recipe, e.g. `{loss: {bce: 1}}`")
    structure: str | None = setting(
        None,
        doc="file that holds the network's structure, e.g. run.json of another study's pruning",
    )
    arguments: dict[str, Any] = setting({}, doc="changes of the network's arguments")


@dataclass(frozen=True)
class Config:
    """One study: a data set, presets, folds, seeds and what to report."""

    study: str = setting(doc="name of the study; folder under the roots")
    dataset: DatasetSettings = setting(doc="the data set")
    presets: tuple[str, ...] = setting(PAPER_PRESETS, doc="presets and variants to train")
    variants: dict[str, Variant] = setting({}, doc="named variants of presets")
    folds: Literal["all"] | tuple[int, ...] = setting(
        (0, 1, 2, 3, 4),
        doc="folds to train; `all`: one that trains on everything but the held-out cases, on which "
        "it is reported (`split.held_out`), and selects its weights on what it trains on",
        minimum=0,
    )
    seeds: tuple[int, ...] = setting((0,), doc="seeds to train", minimum=0, maximum=LARGEST_SEED)
    recipe: str | None = setting(None, doc="one named recipe for all; else each preset's own")
    train: dict[str, Any] = setting({}, doc="changes of every recipe, e.g. `{epochs: 50}`")
    overrides: dict[str, dict[str, Any]] = setting(
        {}, doc="preset -> changes of its recipe; these win over `train`"
    )
    runs_per_gpu: int = setting(
        1, doc="jobs that may share one GPU of a machine without SLURM", minimum=1
    )
    plan: str | None = setting(
        None,
        doc="`auto`: a step plans spacing, intensities, patch and batch from the data, and its "
        "values win over those given here, in every step that prepares, trains, prunes, predicts "
        "or measures cost (at the planned size); or a plan's file, whose values give way to them",
    )
    planning: PlanSettings = setting(PlanSettings(), doc="limits of `plan: auto`")
    roots: Roots = setting(Roots(), doc="folders that are written to")
    preprocess: PreprocessSettings = setting(PreprocessSettings(), doc="preparation of volumes")
    split: SplitSettings = setting(SplitSettings(), doc="cross-validation")
    predict: PredictSettings = setting(PredictSettings(), doc="prediction")
    evaluate: EvaluateSettings = setting(EvaluateSettings(), doc="metrics per case")
    transfer: dict[str, TransferSettings] = setting(
        {}, doc="name -> another data set that every trained network is tested on"
    )
    lesions: LesionSettings = setting(LesionSettings(), doc="lesion-wise results")
    statistics: StatisticsSettings = setting(StatisticsSettings(), doc="comparisons")
    efficiency: EfficiencySettings = setting(EfficiencySettings(), doc="cost of the networks")
    report: ReportSettings = setting(ReportSettings(), doc="tables, figures, report")
    prune: PruneSettings = setting(PruneSettings(), doc="channel pruning")
    pilot: str | None = setting(
        None,
        doc="results of finished runs: by their spread a start says, and the report repeats, what "
        "this design can resolve (`lunet power`)",
    )
    smallest: SmallestSettings = setting(
        SmallestSettings(),
        doc="search for the smallest network (`lunet smallest`); unless `presets` are given, they "
        "are its networks",
    )
    prior: bool = setting(True, doc="report the atlas prior as the study's floor")

    def __post_init__(self) -> None:
        if self.folds == "all":
            object.__setattr__(self, "folds", (0,))
            object.__setattr__(self, "split", replace(self.split, folds=1, validation=0.0))
        _check_names(self)
        _check_grid(self)
        if self.lesions.enabled and not self.predict.probabilities:
            raise ConfigError(
                where="predict.probabilities",
                found="false",
                expected="lesions.enabled: true needs the probabilities",
            )
        _check_comparisons(self)
        _check_measured(self)


def parse(mapping: Mapping[str, Any]) -> Config:
    """The typed configuration of a mapping, as YAML gives it.

    Raises
    ------
    ConfigError
        Unknown key, wrong type, impossible value or combination; one line each.
    """
    return build_settings(Config, _with_candidates(_with_plan(mapping)))


def _with_candidates(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping with the networks of its search as presets, where it states none itself."""
    if mapping.get("smallest") is None or "presets" in mapping:
        return mapping
    smallest = build_settings(SmallestSettings, mapping["smallest"], "smallest")
    return {**mapping, "presets": list(smallest.presets())} if smallest.is_asked else mapping


def with_words(mapping: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping with the values that Snakemake's ``--config`` named read as YAML.

    Snakemake hands over all that is nested in such a value (``seeds=[0,1]``,
    ``train={epochs: 7}``) as texts. Where a text is meant, as for a path, it stays one.

    Parameters
    ----------
    mapping
        The configuration, with the words' values in it.
    words
        What ``--config`` named, by key.
    """
    return {**mapping, **_meant(mapping, words, json_schema())}


def _meant(value: Any, word: Any, form: Mapping[str, Any]) -> Any:
    """``value``, of which ``word`` came from the command line, in the types of a JSON schema."""
    forms: list[Mapping[str, Any]] = form.get("anyOf") or [form]
    if isinstance(word, Mapping) and isinstance(value, Mapping):
        keys, rest = _first(forms, "properties"), _first(forms, "additionalProperties")
        read = {key: _meant(value[key], word[key], keys.get(key, rest)) for key in word}
        return {**value, **read}
    if isinstance(word, list) and value == word:
        return [_meant(item, item, _first(forms, "items")) for item in word]
    is_text = isinstance(word, str) and value == word
    if not is_text or (any(f.get("type") == "string" for f in forms) and word != "null"):
        return value
    return parse_yaml(word, "--config")


def _first(forms: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    """The first of the forms' entries of that name, else one that allows anything."""
    return next((form[key] for form in forms if form.get(key)), {})


def _with_plan(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping with the values of the plan that it names, where it states none itself."""
    path = mapping.get("plan")
    if not isinstance(path, str) or path == "auto":
        return mapping
    plan = read_plan(path)
    sections = {}
    for name in PLANNED:
        own = mapping.get(name) or {}
        sections[name] = {**plan.get(name, {}), **own} if isinstance(own, dict) else own
    return {**mapping, **sections}


def load(path: str | Path) -> Config:
    """Read a configuration file (YAML).

    Raises
    ------
    ConfigError
        If the file is missing, is not YAML, or :func:`parse` refuses it.
    """
    return parse(read_mapping(path))


def read_plan(path: str | Path) -> dict[str, dict[str, Any]]:
    """The sections of a plan of ``lunet plan``, each a mapping.

    Raises
    ------
    ConfigError, DataError
        If the file is missing, is not YAML, or a section is no mapping.
    """
    plan = read_mapping(path)
    return {
        name: typed(plan[name], dict[str, Any], f"{path}: {name}")
        for name in PLANNED
        if name in plan
    }


def json_schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors; generated from :class:`Config`."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "lunet study"}
    return head | schema(Config)


def _check_names(config: Config) -> None:
    """Names become folders and words of shell commands: all of them obey one rule."""
    named = [("study", config.study), *(("presets", name) for name in config.presets)]
    named += [("smallest", name) for name in config.smallest.presets()]
    for key in ("variants", "overrides", "transfer"):
        named += [(key, name) for name in getattr(config, key)]
    for key, name in named:
        if not _SEGMENT.fullmatch(name):
            expected = "letters, digits, `_`, `-` and `.` only, a letter or digit first"
            raise ConfigError(
                where=key,
                found=f"found {shown(name)}",
                expected=expected,
                action="Choose such a name",
            )
    for name in config.variants:
        if name in known_presets():
            raise ConfigError(
                where=f"variants.{name}",
                found="is the name of a preset",
                expected="choose another name",
            )
    for name in config.overrides:
        if name not in config.presets:
            raise ConfigError(
                where=f"overrides.{name}",
                found="is not trained",
                expected=f"presets are {', '.join(config.presets)}",
            )


def _check_grid(config: Config) -> None:
    for key in ("presets", "folds", "seeds"):
        values = getattr(config, key)
        if not values:
            raise ConfigError(where=key, found="empty", expected="at least one is needed")
        twice = sorted({str(value) for value in values if values.count(value) > 1})
        if twice:
            raise ConfigError(
                where=key, found=f"{', '.join(twice)} given twice", expected="each once"
            )
    if config.split.folds == 1 and config.split.file is None and config.split.held_out == 0:
        raise ConfigError(
            where="folds",
            found="all cases are trained on",
            expected="no case is left to report on",
            action="Set split.held_out, or train one network by hand with `lunet train --fold all`",
        )
    largest = max(int(fold) for fold in config.folds)
    if largest >= config.split.folds:
        raise ConfigError(
            where="folds",
            found=f"fold {largest}",
            expected=f"split.folds is {config.split.folds}, so 0 to {config.split.folds - 1} exist",
        )
    if max(config.prune.folds) >= config.split.folds:
        raise ConfigError(
            where="prune.folds",
            found=f"fold {max(config.prune.folds)}",
            expected=f"split.folds is {config.split.folds}",
        )
    if "atlas_prior" in config.presets:
        raise ConfigError(
            where="presets", found="found 'atlas_prior'", expected="it is added by `prior: true`"
        )


def _check_measured(config: Config) -> None:
    """What is reported and compared is measured: NSD has one column per tolerance."""
    tolerances = config.evaluate.tolerances
    for name in config.report.metrics:
        check_metric(name, "report.metrics", tolerances=tolerances)
    check_metric(config.statistics.metric, "statistics.metric", tolerances=tolerances)


def _check_comparisons(config: Config) -> None:
    rows = {*config.presets, *(["atlas_prior"] if config.prior else [])}
    named = [("statistics.reference", config.statistics.reference)]
    named += [("statistics.pairs", name) for pair in config.statistics.named_pairs for name in pair]
    for key, name in named:
        if name is not None and name not in rows:
            raise ConfigError(
                where=key, found=f"{name!r} is not in the study", expected=nearest(name, rows)
            )
