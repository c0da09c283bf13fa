"""Which tables and figures a study makes, and which files they and the prunings need.

:mod:`lunet.reporting.outputs` has one row of facts per table and figure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lunet.reporting.outputs import Output, Rule, made_by

if TYPE_CHECKING:
    from lunet.study.study import Study


def conditions(study: Study) -> dict[str, bool]:
    """For each key of :data:`lunet.reporting.outputs.WHEN`, whether it applies to the study."""
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


def requested(study: Study, outputs: Mapping[str, Output], rule: Rule) -> tuple[str, ...]:
    """Names of the tables or figures of one rule that the study makes."""
    known = conditions(study)
    names = made_by(outputs, rule)
    return tuple(name for name in names if known.get(outputs[name].when, True))


def caption_of(outputs: Mapping[str, Output], name: str | None = None) -> Callable[[Any], str]:
    """A rule's parameter ``caption``: of the named output, or of the one in the wildcards."""
    return lambda wildcards: outputs[name or wildcards.name].caption


def sources_of(study: Study, outputs: Mapping[str, Output]) -> Callable[[Any], list[str]]:
    """An input function: the files that the table or figure in the wildcards needs."""
    own = study.config.report.published

    def of(wildcards: Any) -> list[str]:
        row, kinds = outputs[wildcards.name], outputs[wildcards.name].needs
        if study.config.statistics.pairs == "all" and "metrics" in kinds:
            # of each pair the cheaper network is the candidate, so the costs are needed
            kinds = tuple(dict.fromkeys((*kinds, "efficiency")))
        extra = [own] if own is not None and row.when == "published" else []
        return study.files(kinds) + extra

    return of


def pruned(study: Study, *names: str) -> list[str]:
    """The files of these names in all prunings: strategies x folds x seeds."""
    prune = study.config.prune
    return [
        f"{study.results}/pruning/{prune.preset}/{strategy}/fold-{fold}/seed-{seed}/{name}"
        for name in names
        for strategy in prune.strategies
        for fold in prune.folds
        for seed in prune.seeds
    ]


def compared_with_pruned(study: Study) -> Callable[[Any], list[str]]:
    """An input function: results of presets on the folds and seeds of the pruning.

    They are shown next to the pruned networks. If pruning is a part of the study, the results of
    all its presets are used, on the folds and seeds that both share. Otherwise only results that
    exist already are used, because nothing should be trained just for this comparison.
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
