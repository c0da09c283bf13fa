"""The configuration of a study: typed, frozen and validated."""

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
    TopologySettings,
)
from lunet.efficiency.settings import EfficiencySettings
from lunet.errors import ConfigError, noted, together
from lunet.evaluation.external_settings import ExternalSettings
from lunet.exchange.rival_settings import RivalSettings
from lunet.inference.settings import PredictSettings, TransferSettings
from lunet.metrics.checks import with_tolerances
from lunet.metrics.settings import EvaluateSettings, LesionSettings, StatisticsSettings
from lunet.pruning.settings import PruneSettings
from lunet.reading import typed
from lunet.reading_yaml import parse_yaml
from lunet.reading_yaml import read_yaml as read_mapping
from lunet.reporting.settings import ReportSettings
from lunet.settings import LARGEST_SEED, build_settings, schema, setting
from lunet.study.config_faults import faults_of_names, faults_of_sections
from lunet.study.presets import PAPER_PRESETS
from lunet.study.rivals import row_of
from lunet.study.settings import SmallestSettings
from lunet.study.variants import Variant
from lunet.training.recipe import Recipe

PLANNED = ("preprocess", "topology", "train", "predict")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")


@dataclass(frozen=True)
class Roots:
    """Folders that a study writes to, for example on the scratch disk of a cluster.

    ``~`` is the home folder; ``$NAME`` and ``${NAME}`` are environment variables.
    """

    results: str = setting(
        "results", doc="what the study produces; `~` and `$SCRATCH` are expanded as in a shell"
    )
    work: str = setting("work", doc="downloads, prepared volumes, resume states; also expanded")

    def __post_init__(self) -> None:
        for name in ("results", "work"):
            object.__setattr__(self, name, _expanded(getattr(self, name), f"roots.{name}"))


def _expanded(path: str, where: str) -> str:
    """A folder's path with the home folder and environment variables filled in."""
    missing = [a or b for a, b in _VARIABLE.findall(path) if (a or b) not in os.environ]
    if missing:
        found = f"${missing[0]} is not set"
        raise ConfigError(
            where=where,
            found=found,
            expected="an environment variable is expected",
            action="Set it, or name a folder",
        )
    found = os.path.expanduser(os.path.expandvars(path))
    if not found or found.startswith("~") or set(found) & set("{}"):
        expected = "a path without braces is expected; after `~` only an existing user"
        raise ConfigError(
            where=where, found=f"found {path!r}", expected=expected, action="Name another folder"
        )
    return found.rstrip("/") or "/"


@dataclass(frozen=True)
class Config:
    """One study: its data set, presets, folds, seeds and what to report."""

    study: str = setting(doc="name of the study; folder under the roots")
    dataset: DatasetSettings = setting(doc="the data set")
    presets: tuple[str, ...] = setting(PAPER_PRESETS, doc="presets and variants to train")
    variants: dict[str, Variant] = setting({}, doc="named variants of presets")
    folds: Literal["all"] | tuple[int, ...] = setting(
        (0, 1, 2, 3, 4),
        doc="folds to train; `all`: a single fold that trains on everything except the held-out "
        "cases (`split.held_out`), selects its weights on its training cases, and is evaluated on "
        "the held-out cases",
        minimum=0,
    )
    seeds: tuple[int, ...] = setting((0,), doc="seeds to train", minimum=0, maximum=LARGEST_SEED)
    recipe: str | None = setting(None, doc="one named recipe for all; default: each preset's own")
    train: dict[str, Any] = setting(
        {}, doc="changes to every recipe, e.g. `{epochs: 50}`", changes=Recipe
    )
    overrides: dict[str, dict[str, Any]] = setting(
        {}, doc="preset -> changes to its recipe; these override `train`"
    )
    runs_per_gpu: int = setting(
        1,
        doc="trainings that share one GPU: jobs on a machine without SLURM, and folds of one job",
        minimum=1,
    )
    folds_per_job: Literal["auto", "one", "all"] = setting(
        "auto",
        doc="`all`: one job trains all folds of a preset and seed, each as in a job of its own; a "
        "retry trains only the folds that failed. `auto`: so on a cluster, where a training is "
        "forecast to take less than five minutes. It reruns nothing that is finished",
    )
    seeds_per_job: Literal["auto", "one", "all"] = setting(
        "auto",
        doc="`all`: a job of all folds also trains all seeds. `auto`: so where it is forecast to "
        "take less than half an hour. It reruns nothing that is finished",
    )
    plan: str | None = setting(
        None,
        doc="`auto`: a step plans spacing, intensities, topology, patch and batch from the data, "
        "and the planned values override this configuration wherever volumes are prepared, "
        "networks are trained, pruned or used, or cost is measured (at the planned size). Or the "
        "path of a plan, whose values this configuration overrides",
    )
    topology: TopologySettings = setting(
        TopologySettings(),
        doc="strides and kernels of networks whose arguments say `topology: planned`",
    )
    planning: PlanSettings = setting(PlanSettings(), doc="limits of `plan: auto`")
    roots: Roots = setting(Roots(), doc="folders that the study writes to")
    preprocess: PreprocessSettings = setting(PreprocessSettings(), doc="preparation of volumes")
    split: SplitSettings = setting(SplitSettings(), doc="cross-validation")
    predict: PredictSettings = setting(PredictSettings(), doc="prediction")
    evaluate: EvaluateSettings = setting(EvaluateSettings(), doc="metrics per case")
    transfer: dict[str, TransferSettings] = setting(
        {}, doc="name -> another data set on which every trained network is tested"
    )
    external: dict[str, ExternalSettings] = setting(
        {},
        doc="name -> finished predictions made elsewhere, evaluated and compared like a preset, or "
        "the masks of a second reader",
    )
    rivals: dict[str, RivalSettings] = setting(
        {},
        doc="name -> a network that nnU-Net v2 or MIST plans and trains on the study's data and "
        "folds, in an environment of its own; evaluated and compared like a preset",
    )
    lesions: LesionSettings = setting(LesionSettings(), doc="lesion-wise results")
    statistics: StatisticsSettings = setting(StatisticsSettings(), doc="comparisons")
    efficiency: EfficiencySettings = setting(EfficiencySettings(), doc="cost of the networks")
    report: ReportSettings = setting(ReportSettings(), doc="tables, figures, report")
    prune: PruneSettings = setting(PruneSettings(), doc="channel pruning")
    pilot: str | None = setting(
        None,
        doc="folder of results of finished runs. From their spread the workflow computes at its "
        "start what this design can resolve, and the report repeats it (`lunet power`)",
    )
    smallest: SmallestSettings = setting(
        SmallestSettings(),
        doc="search for the smallest network (`lunet smallest`); its networks are the presets of "
        "the study unless `presets` is given",
    )
    prior: bool = setting(True, doc="report the atlas prior, as a lower bound")

    def __post_init__(self) -> None:
        if self.folds == "all":
            object.__setattr__(self, "folds", (0,))
            object.__setattr__(self, "split", replace(self.split, folds=1, validation=0.0))
        if self.report.metrics == ReportSettings().metrics:
            metrics = with_tolerances(self.report.metrics, self.evaluate.tolerances)
            object.__setattr__(self, "report", replace(self.report, metrics=metrics))
        faults = faults_of_names(self)
        rows = {name: row_of(rival) for name, rival in self.rivals.items()}
        object.__setattr__(self, "external", self.external | rows)
        faults += faults_of_sections(self, has_good_names=not faults)
        if faults:
            raise together(faults)


def parse(mapping: Mapping[str, Any]) -> Config:
    """The typed configuration of a mapping, as read from YAML.

    Raises
    ------
    ConfigError
        If a key is unknown, a value has the wrong type, or a value or combination is impossible.
    """
    faults: list[ConfigError] = []
    with noted(faults):
        mapping = _with_plan(mapping)
    with noted(faults):
        config = build_settings(Config, _with_candidates(mapping))
    if faults:
        raise together(faults)
    return config


def _with_candidates(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping with the networks of its search as presets, unless it sets presets itself."""
    if mapping.get("smallest") is None or "presets" in mapping:
        return mapping
    smallest = build_settings(SmallestSettings, mapping["smallest"], "smallest")
    rows = {**(mapping.get("external") or {}), **(mapping.get("rivals") or {})}
    names = [name for name in smallest.presets() if name not in rows]
    return {**mapping, "presets": names} if smallest.is_configured else mapping


def with_words(mapping: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping, with the values that were given by Snakemake's ``--config`` read as YAML.

    Snakemake passes everything nested in such a value (``seeds=[0,1]``, ``train={epochs: 7}``) as
    texts. Where the configuration expects a text, for example a path, the value stays a text.

    Parameters
    ----------
    mapping
        The configuration, in which Snakemake has already entered the values.
    words
        The values that ``--config`` gave, by key.
    """
    return {**mapping, **_typed(mapping, words, json_schema())}


def _typed(value: Any, word: Any, form: Mapping[str, Any]) -> Any:
    """``value`` with its parts that ``word`` gave converted to the types of a JSON schema."""
    forms: list[Mapping[str, Any]] = form.get("anyOf") or [form]
    if isinstance(word, Mapping) and isinstance(value, Mapping):
        keys, rest = _first(forms, "properties"), _first(forms, "additionalProperties")
        read = {key: _typed(value[key], word[key], keys.get(key, rest)) for key in word}
        return {**value, **read}
    if isinstance(word, list) and value == word:
        return [_typed(item, item, _first(forms, "items")) for item in word]
    is_text = isinstance(word, str) and value == word
    if not is_text or (any(f.get("type") == "string" for f in forms) and word != "null"):
        return value
    return parse_yaml(word, "--config")


def _first(forms: Sequence[Mapping[str, Any]], key: str) -> Mapping[str, Any]:
    """The first entry of that name in the forms; an empty one, which allows anything, if none."""
    return next((form[key] for form in forms if form.get(key)), {})


def _with_plan(mapping: Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping, completed by the values of the plan that it names."""
    path = mapping.get("plan")
    if not isinstance(path, str) or path == "auto":
        return mapping
    if not Path(path).is_file():
        raise ConfigError(
            where="plan",
            found=f"{path} does not exist",
            expected="`auto`, or an existing file",
            action=f"Write it with `lunet plan DATA --out {path}`, or set plan: auto",
        )
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
    """The sections of a plan that ``lunet plan`` wrote, each a mapping.

    Raises
    ------
    ConfigError, DataError
        If the file is missing or not YAML, or if a section is not a mapping.
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
