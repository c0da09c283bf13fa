"""Which tables and figures a study makes, and which files they and the prunings are made of.

What is known of each table and figure stands in :mod:`lunet.reporting.outputs`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lunet.reporting.outputs import Output, Rule, made_by

if TYPE_CHECKING:
    from lunet.study.study import Study


def questions(study: Study) -> dict[str, bool]:
    """Key of :data:`lunet.reporting.outputs.WHEN` -> whether the study asks that question."""
    config = study.config
    arguments = [preset.arguments for preset, _ in study.presets.values()]
    return {
        "published": config.report.published is not None,
        "lesions": config.lesions.enabled,
        "pairs": bool(config.statistics.named_pairs),
        "reference": config.statistics.reference is not None,
        "skips": any(row.get("skip_levels", "all") != "all" for row in arguments),
        "forecast": config.efficiency.training_step,
        "batches": config.efficiency.training_step and bool(config.efficiency.memory_batches),
        "pruning": config.prune.enabled,
    }


def asked(study: Study, outputs: Mapping[str, Output], rule: Rule) -> tuple[str, ...]:
    """Names of the tables or figures of one rule that answer a question which the study asks."""
    known = questions(study)
    names = made_by(outputs, rule)
    return tuple(name for name in names if known.get(outputs[name].when, True))


def caption_of(outputs: Mapping[str, Output], name: str | None = None) -> Callable[[Any], str]:
    """A rule's ``caption`` parameter: that of one output, else of the one in the wildcards."""
    return lambda wildcards: outputs[name or wildcards.name].caption


def sources_of(study: Study, outputs: Mapping[str, Output]) -> Callable[[Any], list[str]]:
    """An input function: what the table or figure of the name in the wildcards is made of."""
    own = study.config.report.published

    def of(wildcards: Any) -> list[str]:
        row, kinds = outputs[wildcards.name], outputs[wildcards.name].needs
        if study.config.statistics.pairs == "all" and "metrics" in kinds:
            kinds = tuple(dict.fromkeys((*kinds, "efficiency")))  # the cheaper one is asked
        extra = [own] if own is not None and row.when == "published" else []
        return study.files(kinds) + extra

    return of


def pruned(study: Study, *names: str) -> list[str]:
    """Files of these names of all prunings: strategies x folds x seeds."""
    prune = study.config.prune
    return [
        f"{study.results}/pruning/{prune.preset}/{strategy}/fold-{fold}/seed-{seed}/{name}"
        for name in names
        for strategy in prune.strategies
        for fold in prune.folds
        for seed in prune.seeds
    ]


def beside(study: Study) -> Callable[[Any], list[str]]:
    """An input function: results of presets on the folds and seeds of the pruning.

    They are shown beside the pruned networks. Where pruning is a part of the study, those of all
    its presets, on what both share; else those that exist already: none is trained for that.
    """
    prune, config = study.config.prune, study.config
    folds = [fold for fold in prune.folds if not prune.enabled or fold in study.folds]
    seeds = [seed for seed in prune.seeds if not prune.enabled or seed in config.seeds]

    def of(wildcards: Any) -> list[str]:
        found = []
        for preset in study.presets:
            files = [f"{study.results}/presets/{preset}/efficiency.json"]
            for fold in folds:
                for seed in seeds:
                    run = study.run(preset, fold, seed)
                    files += [f"{run}/metrics.csv", f"{run}/run.json"]
            found += files if prune.enabled or all(map(os.path.isfile, files)) else []
        return found

    return of
