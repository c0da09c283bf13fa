"""A study: its resolved presets, its grid of runs, and what each of its steps depends on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from lunet.study.demands import check_size, check_supervision, require_prunable
from lunet.study.mistakes import further_mistakes
from lunet.study.outputs import requested
from lunet.study.presets import Preset, read_structure
from lunet.study.recipes import find_recipe
from lunet.study.rivals import rival_section
from lunet.study.shown import Shown, recipe_only, shown_by
from lunet.study.steps import STEPS
from lunet.study.topology import with_topology
from lunet.study.transfer import check_targets
from lunet.study.variants import Variant, base_preset, in_plane
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
        if config.prune.enabled:
            with noted(faults):
                require_prunable(self.resolve(config.prune.preset)[0], "prune.preset")
        with noted(faults):
            self._check_plan()
        if config.plan != "auto":  # which sets the size
            with noted(faults):
                dimensions = max(self.task_of(name).dimensions for name in config.presets)
                check_size(config.efficiency.size, dimensions)
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

    def task_of(self, name: str | None) -> Task:
        """The task as the network of this name sees it: in slices or in volumes."""
        variant = self.config.variants.get(name or "")
        own = variant.dimensions if variant else None
        return dataclasses.replace(self.task, dimensions=own) if own else self.task

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the tables: presets, external rows and, with ``prior: true``, the prior."""
        return (*self.presets, *self.external, *([PRIOR] if self.config.prior else []))

    @property
    def external(self) -> tuple[str, ...]:
        """Names of the rows whose masks other code makes: elsewhere, or as a rival in the study."""
        return tuple(self.config.external)

    @property
    def made_elsewhere(self) -> tuple[str, ...]:
        """Names of the external rows whose predictions exist when the study starts."""
        return tuple(name for name in self.external if name not in self.config.rivals)

    @property
    def rivals(self) -> tuple[str, ...]:
        """Names of the networks that another package trains in this study."""
        return tuple(self.config.rivals)

    def resolve(self, name: str) -> tuple[Preset, Recipe]:
        """Network and recipe of a preset or variant, with the changes of the configuration."""
        variant = self.config.variants.get(name) or Variant(base=name)
        preset = self._base(name, variant)
        recipe = find_recipe(variant.recipe or self.config.recipe or preset.recipe)
        task = self.task_of(name)
        faults: list[ConfigError] = []
        (shared, place), *own = self._changes(name)
        with noted(faults):
            recipe = replace(recipe, recipe_only(shared), place)
        if task.dimensions < self.task.dimensions:
            recipe = in_plane(recipe)
        for changes, place in own:
            with noted(faults):
                recipe = replace(recipe, recipe_only(changes), place)
        with noted(faults):
            self.shown(name)
        if faults:
            raise together(faults)
        if task.dimensions not in preset.dimensions:
            other = preset.dimensions[-1]
            raise ConfigError(
                where="presets",
                found=f"{name} has {other} dimensions",
                expected=f"the data set has {task.dimensions}",
                action=f"Compare both with a variant: {{base: {name}, dimensions: {other}}}",
            )
        check_supervision(preset, recipe.deep_supervision)
        check_metrics(recipe, self.task)
        return preset, recipe

    def _changes(self, name: str) -> list[tuple[Mapping[str, Any], str]]:
        """The sections that change the recipe of a preset, each with its place."""
        variant = self.config.variants.get(name)
        own = [(variant.train, f"variants.{name}.train")] if variant else []
        overrides = self.config.overrides.get(name, {}), f"overrides.{name}"
        return [(self.config.train, "train"), *own, overrides]

    def shown(self, name: str) -> Shown:
        """What the trainings of a preset show while they run."""
        return shown_by(self._changes(name))

    def _check_plan(self) -> None:
        """Refuse a plan for networks that do not see the data as the data set is declared."""
        others = [n for n in self.presets if self.task_of(n).dimensions != self.task.dimensions]
        if self.config.plan == "auto" and others:
            found = f"auto, but {', '.join(others)} and the data set differ in dimensions"
            expected = "one patch and batch for all networks"
            action = "Set preprocess, train.patch and train.batch_size, or name a plan's file"
            raise ConfigError(where="plan", found=found, expected=expected, action=action)

    def _base(self, name: str, variant: Variant) -> Preset:
        preset = base_preset(self.config.variants, name)
        arguments = preset.arguments
        if variant.structure is not None:
            arguments = read_structure(variant.structure, preset, f"variants.{name}.structure")
        arguments = with_topology(arguments | variant.arguments, plain(self.config.topology))
        is_stated = variant.arguments.get("topology") == "planned" and "topology" in arguments
        if is_stated and self.config.plan != "auto":
            raise ConfigError(
                where=f"variants.{name}.arguments.topology",
                found="planned, but nothing is planned",
                expected="plan: auto, a plan with a topology, or the key topology is expected",
            )
        return dataclasses.replace(preset, name=name, arguments=arguments)

    def sections(self, step: str, preset: str | None = None) -> dict[str, Any]:
        """The sections of the configuration that a step reads, as plain JSON values."""
        names = (name for name in STEPS[step].sections if name != "crop" or self._crops)
        return {name: self._section(name, preset) for name in names}

    @property
    def _crops(self) -> bool:
        """Whether the size of volumes is known before the data are looked at."""
        return self.config.preprocess.size is not None and self.config.plan != "auto"

    def _section(self, name: str, preset: str | None) -> Any:
        if name == "task":
            return self.task_of(preset).as_dict()
        if name == "prune":  # without the grid: another strategy, fold or seed reruns no other
            chosen = plain(self.config.prune)
            return {key: chosen[key] for key in chosen if key not in _PRUNING_GRID}
        if name == "crop":
            chosen = plain(self.config.preprocess)
            return {key: chosen[key] for key in ("orientation", "spacing", "size", "crop_labels")}
        if name == "predict" and preset is not None:
            return self._predict(preset)
        if name == "networks":
            return {row: self._network(row) for row in self.presets}
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
        if name in ("rival", "rival_network"):
            return rival_section(self.config, preset, is_network=name == "rival_network")
        if name not in ("model", "recipe", "training_step"):
            return plain(getattr(self.config, name))
        row, recipe = self.resolved(preset)
        if name == "training_step":
            return {"batch_size": recipe.batch_size, "engine": plain(recipe.engine)}
        if name == "recipe":
            # the source is prose, and rewording it must not train anything again
            return {key: value for key, value in plain(recipe).items() if key != "source"}
        return {
            "preset": row.name,
            "module": row.module,
            "name": row.network,
            "arguments": row.arguments,
        }

    def _network(self, preset: str) -> dict[str, Any]:
        """What a study states about a network; the dimensions where they are its own."""
        dimensions = self.task_of(preset).dimensions
        own = {"dimensions": dimensions} if dimensions != self.task.dimensions else {}
        return {part: self._section(part, preset) for part in ("model", "recipe")} | own

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
        if self.task_of(preset).dimensions < self.task.dimensions:
            settings = in_plane(settings)
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

    @property
    def floor(self) -> list[str]:
        """Files with the scores of the atlas prior, if the study has it."""
        return self.files(("metrics",), [PRIOR]) if self.config.prior else []

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
