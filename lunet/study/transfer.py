"""Tests of a study's networks on other data sets (targets): what they read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lunet.data.catalog import task_of
from lunet.errors import ConfigError, nearest
from lunet.evaluation.label_map import check_map
from lunet.files import canonical_json
from lunet.settings import plain

if TYPE_CHECKING:
    from lunet.study.study import Study


def check_targets(study: Study) -> None:
    """Check that the study's networks can be tested on all targets.

    Raises
    ------
    ConfigError
        If a target has other dimensions or channels, or its map does not fit the labels.
    """
    if study.config.transfer and study.config.statistics.pairs == "all":
        expected = "studies with `transfer` need named pairs or a reference"
        raise ConfigError(where="statistics.pairs", found="`all`", expected=expected)
    for name, target in study.config.transfer.items():
        where, task = f"transfer.{name}", task_of(target.dataset)
        for key, found, wanted in (
            ("dimensions", task.dimensions, study.task.dimensions),
            ("channels", len(task.channels), len(study.task.channels)),
        ):
            if found != wanted:
                raise ConfigError(
                    where=f"{where}.dataset.{key}",
                    found=f"{found}",
                    expected=f"the study has {wanted}",
                )
        check_map(study.task, task, target.map, f"{where}.map")


def target_sections(study: Study, step: str, target: str, preset: str | None) -> dict[str, Any]:
    """Sections that a step reads for a target, with the target's own data set and task."""
    if target not in study.config.transfer:
        expected = (
            nearest(target, study.config.transfer) if study.config.transfer else "it has none"
        )
        raise ConfigError(
            where=f"transfer.{target}", found="not in the configuration", expected=expected
        )
    chosen = study.config.transfer[target]
    own = {"dataset": plain(chosen.dataset), "task": task_of(chosen.dataset).as_dict()}
    if step != "transfer":
        return own
    return study.sections(step, preset) | own | {"map": dict(chosen.map)}


def target_settings(study: Study, step: str) -> Callable[[Any], str]:
    """A rule's parameter ``settings``, for the target in the wildcards."""

    def of(wildcards: Any) -> str:
        preset = getattr(wildcards, "preset", None)
        return canonical_json(target_sections(study, step, wildcards.target, preset))

    return of


def table_settings(study: Study) -> str:
    """The parameter ``settings`` of a target's tables and figures: only of trained networks."""
    sections = study.sections("table")
    statistics = sections["statistics"]
    others = {"atlas_prior", *study.external}
    pairs = [pair for pair in statistics["pairs"] if not others & {*pair}]
    reference = statistics["reference"]
    named = {"pairs": pairs, "reference": None if reference in others else reference}
    return canonical_json(sections | {"statistics": statistics | named})


def target_files(study: Study, target: str, *names: str) -> list[str]:
    """The files of these names of all the study's networks on a target."""
    runs = list(study.runs(list(study.presets)))
    folders = [run.replace(study.results, f"{study.results}/transfer/{target}", 1) for run in runs]
    return [f"{folder}/{name}" for folder in folders for name in names]
