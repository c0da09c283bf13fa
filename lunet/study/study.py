"""A study: its resolved presets, its grid of runs, and what each of its steps depends on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from lunet.data.catalog import task_of
from lunet.errors import ConfigError, noted, together
from lunet.evaluation.external_labels import check_labels
from lunet.files import canonical_json
from lunet.metrics.catalog import known_metrics
from lunet.reporting.outputs import FIGURES, TABLES
from lunet.settings import plain, replace
from lunet.study.code_digest import PACKAGE, closure, code_digest
from lunet.study.config import Config, parse
from lunet.study.mistakes import further_mistakes
from lunet.study.outputs import requested
from lunet.study.presets import Preset, output_count, read_structure
from lunet.study.recipes import find_recipe
from lunet.study.steps import STEPS
from lunet.study.transfer import check_targets
from lunet.study.variants import Variant, base_preset
from lunet.task import Task
from lunet.training.history import check_metrics
from lunet.training.recipe import Recipe

PRIOR = "atlas_prior"
_PRUNING_GRID = ("enabled", "preset", "strategies", "folds", "seeds")
_FILES = {
    "metrics": "metrics.csv",
    "runs": "run.json",
    "histories": "history.csv",
    "lesions": "lesions.csv",
    "froc": "froc.csv",
}


class Study:
    """Everything that the workflow needs to know about a configuration; never imports torch.

    Parameters
    ----------
    config
        The validated configuration.
    package
        Folder of the package whose code is digested: the live one or a frozen copy.

    Raises
    ------
    ConfigError
        If a preset, recipe or override does not exist, or does not fit the data set.
    """

    def __init__(self, config: Config, package: Path = PACKAGE) -> None:
        self.config = config
        self.package = package
        self.name = config.study
        self.folds = tuple(int(fold) for fold in config.folds)
        self.results = f"{config.roots.results}/{config.study}"
        self.work = f"{config.roots.work}/{config.study}"
        self.manifest = f"{self.work}/prepared/manifest.json"
        self.presets: dict[str, tuple[Preset, Recipe]] = {}
        faults: list[ConfigError] = []
        for name in config.presets:
            with noted(faults):
                self.presets[name] = self.resolve(name)
        with noted(faults):
            check_targets(self)
        for name, row in config.external.items():
            with noted(faults):
                check_labels(self.task, row.map, f"external.{name}.map")
        if faults:
            raise together(faults)
        self._settings: dict[tuple[str, str | None], str] = {}
        self._digests: dict[tuple[object, ...], str] = {}

    @cached_property
    def task(self) -> Task:
        """Channels, labels and regions of the data set."""
        return task_of(self.config.dataset)

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the tables: presets, external rows and, with ``prior: true``, the prior."""
        return (*self.presets, *self.external, *([PRIOR] if self.config.prior else []))

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the rows whose predictions were made elsewhere."""
        return tuple(self.config.external)

    def resolve(self, name: str) -> tuple[Preset, Recipe]:
        """Network and recipe of a preset or variant, with the changes of the configuration."""
        where = f"variants.{name}" if name in self.config.variants else "train"
        variant = self.config.variants.get(name) or Variant(base=name)
        preset = self._base(name, variant)
        recipe = find_recipe(variant.recipe or self.config.recipe or preset.recipe)
        faults: list[ConfigError] = []
        for changes, place in (
            (self.config.train, "train"),
            (variant.train, f"{where}.train"),
            (self.config.overrides.get(name, {}), f"overrides.{name}"),
        ):
            with noted(faults):
                recipe = replace(recipe, changes, place)
        if faults:
            raise together(faults)
        if self.task.dimensions not in preset.dimensions:
            found = f"{name} has {preset.dimensions[-1]} dimensions"
            raise ConfigError(
                where="presets", found=found, expected=f"the data set has {self.task.dimensions}"
            )
        _check_supervision(preset, recipe)
        check_metrics(recipe, self.task)
        return preset, recipe

    def _base(self, name: str, variant: Variant) -> Preset:
        preset = base_preset(self.config.variants, name)
        arguments = preset.arguments
        if variant.structure is not None:
            arguments = read_structure(variant.structure, preset, f"variants.{name}.structure")
        arguments = arguments | variant.arguments
        return dataclasses.replace(preset, name=name, arguments=arguments)

    def sections(self, step: str, preset: str | None = None) -> dict[str, Any]:
        """The sections of the configuration that a step reads, as plain JSON values."""
        return {name: self._section(name, preset) for name in STEPS[step].sections}

    def _section(self, name: str, preset: str | None) -> Any:
        if name == "task":
            return self.task.as_dict()
        if name == "prune":  # without the grid: another strategy, fold or seed reruns no other
            chosen = plain(self.config.prune)
            return {key: chosen[key] for key in chosen if key not in _PRUNING_GRID}
        if name == "predict" and preset is not None:
            return self._predict(preset)
        if name == "networks":
            parts = ("model", "recipe")
            return {row: {part: self._section(part, row) for part in parts} for row in self.presets}
        if name == "grid":
            rivals = [key for key, row in self.config.external.items() if row.role == "model"]
            grid = {"presets": [*self.presets, *rivals], "folds": self.folds}
            return {
                key: list(value) for key, value in (grid | {"seeds": self.config.seeds}).items()
            }
        if name == "models":
            return [self._section("model", row) for row in self.presets]
        if name in ("external", "external_cost"):
            return self._external(preset, is_cost=name == "external_cost")
        if name not in ("model", "recipe"):
            return plain(getattr(self.config, name))
        row, recipe = self.resolved(preset)
        if name == "recipe":
            # the source is prose, and rewording it must not train anything again
            return {key: value for key, value in plain(recipe).items() if key != "source"}
        return {
            "preset": row.name,
            "module": row.module,
            "name": row.network,
            "arguments": row.arguments,
        }

    def _external(self, row: str | None, *, is_cost: bool) -> Any:
        """An external row, or all of them for a step that is not about one.

        What a row costs changes nothing in its predictions, so the two steps read different keys.
        """
        if row not in self.config.external:
            return plain(self.config.external)
        chosen = plain(self.config.external[row])
        kept = ("predictions", "role", "cost") if is_cost else (*chosen.keys() - {"cost"},)
        return {key: chosen[key] for key in sorted(kept)}

    def _predict(self, preset: str | None) -> Any:
        """Settings of prediction; ``training_patch`` sets the tile to the preset's patch size."""
        settings = self.config.predict
        if settings.training_patch and settings.patch is None:
            settings = replace(settings, {"patch": self.resolved(preset)[1].patch}, "predict")
        return plain(settings)

    def resolved(self, preset: str | None) -> tuple[Preset, Recipe]:
        """Network and recipe of a preset, which need not belong to the study."""
        if preset is None:
            raise ConfigError(where="preset", found="none given", expected="this step needs one")
        return self.presets.get(preset) or self.resolve(preset)

    def settings(self, step: str, preset: str | None = None) -> Callable[[Any], str]:
        """A rule's parameter ``settings``: wildcards -> canonical JSON of what the step reads."""

        def of(wildcards: Any) -> str:
            name = preset or getattr(wildcards, "preset", None)
            key = (step, name)
            if key not in self._settings:
                self._settings[key] = canonical_json(self.sections(step, name))
            return self._settings[key]

        return of

    def code(self, step: str) -> Callable[[Any], str]:
        """A rule's parameter ``code``: wildcards -> digest of the step's code."""

        def of(wildcards: Any) -> str:
            return self.digest(step, getattr(wildcards, "preset", None))

        return of

    def digest(self, step: str, preset: str | None = None) -> str:
        """Digest of a step's code, including the preset's network if the step builds it."""
        needs = STEPS[step]
        others = []
        if needs.builds_model and preset is not None and preset not in (*self.external, PRIOR):
            others.append(self.resolved(preset)[0].module)
        rows = known_metrics().values()
        plugins = sorted({row.function.partition(":")[0] for row in rows if row.function})
        if plugins:
            reached = closure(*needs.modules, package=self.package)
            others += plugins if "lunet.metrics.case" in reached else []
        if not others:
            return _digest(needs.modules, needs.templates, self.package)
        key = (needs.modules, *others)
        if key not in self._digests:
            self._digests[key] = code_digest(
                *needs.modules, networks=others, templates=needs.templates, package=self.package
            )
        return self._digests[key]

    def run(self, preset: str, fold: int, seed: int) -> str:
        """Folder of one run."""
        return f"{self.results}/runs/{preset}/fold-{fold}/seed-{seed}"

    def files(self, kinds: Sequence[str], presets: Sequence[str] | None = None) -> list[str]:
        """Files of the given kinds.

        Parameters
        ----------
        kinds
            ``metrics``, ``runs``, ``histories``, ``lesions``, ``froc``, ``efficiency`` or
            ``manifest``. The atlas prior has files of the kind ``metrics`` only; external rows
            have metrics, records of their runs and costs.
        presets
            Presets whose files are listed; all rows of the tables by default.
        """
        rows = self.rows if presets is None else presets
        known = [name for name in rows if name != PRIOR]
        external = [name for name in rows if name in self.external]
        trained = [name for name in known if name not in external]
        names = {"metrics": rows, "runs": known}
        found = []
        for kind in kinds:
            if kind == "efficiency":
                found += [f"{self.results}/presets/{name}/efficiency.json" for name in known]
            elif kind == "manifest":
                found.append(self.manifest)
            else:
                found += [f"{run}/{_FILES[kind]}" for run in self.runs(names.get(kind, trained))]
            if kind == "metrics":  # the records say which rows were made elsewhere
                found += [f"{run}/{_FILES['runs']}" for run in self.runs(external)]
        return list(dict.fromkeys(found))

    def files_of(self, *kinds: str) -> Callable[[Any], list[str]]:
        """An input function: files of the preset in the wildcards."""
        return lambda wildcards: self.files(kinds, [wildcards.preset])

    def examples_of(self, wildcards: Any) -> list[str]:
        """An input function: metrics and predictions of the preset in the wildcards."""
        names = [wildcards.preset]
        return self.files(("metrics",), names) + [f"{run}/predictions" for run in self.runs(names)]

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the study's tables."""
        return requested(self, TABLES, "table")

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the study's figures."""
        return requested(self, FIGURES, "figure")

    def runs(self, presets: Sequence[str] | None = None) -> Iterator[str]:
        """Folders of all runs of the given presets; of all rows of the tables by default."""
        for preset in self.rows if presets is None else presets:
            for fold in self.folds:
                for seed in (0,) if preset in (*self.external, PRIOR) else self.config.seeds:
                    yield self.run(preset, fold, seed)


def _check_supervision(preset: Preset, recipe: Recipe) -> None:
    """Refuse heads without weights (they would never be trained) and weights without heads."""
    outputs, weights = output_count(preset), len(recipe.deep_supervision)
    if (weights or 1) == outputs:
        return
    heads = f"{preset.name} has {outputs} output{'s' if outputs > 1 else ''} in training"
    raise ConfigError(
        where=f"{preset.name}, train.deep_supervision",
        found=f"{weights} weights",
        expected=f"{heads}, so {outputs if outputs > 1 else 'none'} are expected",
        action="Make the network's arguments.deep_supervision and the recipe's weights agree"
        " (main output first)",
    )


@functools.cache
def _digest(modules: tuple[str, ...], templates: tuple[str, ...], package: Path) -> str:
    return code_digest(*modules, templates=templates, package=package)


def study_of(mapping: Mapping[str, Any]) -> Study:
    """The study of a raw configuration, as read from YAML or passed by Snakemake.

    Raises
    ------
    ConfigError
        If anything in it is wrong; all mistakes that can be told apart are reported together.
    """

    def build(part: Mapping[str, Any]) -> Study:
        return Study(parse(part))

    try:
        return build(mapping)
    except ConfigError as error:
        raise together([error, *further_mistakes(mapping, error, build)]) from None


_FOLDERS = ("runs", "presets", "pruning")


def check_requested_files(study: Study, words: Iterable[str]) -> None:
    """Refuse targets of unknown presets, with one line instead of a traceback from a rule.

    ``words`` are the words of the command line, because Snakemake reveals its targets only after
    the rules are read. Words that are not files of a preset in the study's results are ignored.

    Raises
    ------
    ConfigError
        If the path of a file in the study's results names an unknown preset.
    """
    for word in words:
        path = word.removeprefix("./")
        if not path.startswith(f"{study.results}/"):
            continue
        folder, _, rest = path.removeprefix(f"{study.results}/").partition("/")
        name, _, file = rest.partition("/")
        if folder in _FOLDERS and file and name not in (*study.presets, *study.external, PRIOR):
            study.resolve(name)
